//! What drivers tell over ethtool. A driver that has no answer is no failure: then there is nothing to say.

use super::facts::{Channels, Feature, Features};
use super::system::{Question, ethtool};

/// The driver's name.
pub fn driver(interface: &str) -> Option<String> {
    let answer = ethtool(interface, Question::Driver).ok()?;
    text(&answer[4..36])
}

/// The receive channels.
pub fn channels(interface: &str) -> Option<Channels> {
    channels_of(&ethtool(interface, Question::Channels).ok()?)
}

/// struct ethtool_channels: cmd, max_rx, max_tx, max_other, max_combined, rx, tx, other, combined.
fn channels_of(answer: &[u8]) -> Option<Channels> {
    let (max_rx, max_combined) = (word(answer, 1)?, word(answer, 4)?);
    let (rx, combined) = (word(answer, 5)?, word(answer, 8)?);
    Some(Channels {
        combined: max_combined > 0,
        in_use: rx.saturating_add(combined),
        most: max_rx.max(max_combined),
    })
}

/// The offloads that matter to XDP.
pub fn features(interface: &str) -> Option<Features> {
    let names = ethtool(interface, Question::FeatureNames).ok()?;
    features_of(&names, &ethtool(interface, Question::Features).ok()?)
}

/// struct ethtool_gstrings: cmd, string_set, len, 32 bytes each. struct ethtool_gfeatures: cmd, size, then for
/// each 32 features the words available, requested, active, never_changed.
fn features_of(names: &[u8], states: &[u8]) -> Option<Features> {
    let count = word(names, 2)? as usize;
    let names: Vec<_> = names[12..].chunks_exact(32).take(count).map(text).collect();
    let feature = |name: &str| {
        let bit = names.iter().position(|candidate| candidate.as_deref() == Some(name))?;
        let block = 2 + bit / 32 * 4;
        let set = |column| Some(word(states, block + column)? >> (bit % 32) & 1 == 1);
        let (available, active, never_changed) = (set(0)?, set(2)?, set(3)?);
        Some(Feature { fixed: !available || never_changed, on: active })
    };
    Some(Features {
        gro_hw: feature("rx-gro-hw").unwrap_or_default(),
        lro: feature("rx-lro").unwrap_or_default(),
        vlan_strip: feature("rx-vlan-hw-parse").unwrap_or_default(),
    })
}

/// How many queues the indirection table spreads over.
pub fn rss(interface: &str) -> Option<usize> {
    let entries = word(&ethtool(interface, Question::Indirection(0)).ok()?, 1)?;
    let entries = u16::try_from(entries).ok().filter(|entries| *entries > 0)?;
    let table = ethtool(interface, Question::Indirection(entries)).ok()?;
    Some(distinct_queues(&table, entries.into()))
}

fn distinct_queues(table: &[u8], entries: usize) -> usize {
    let mut queues: Vec<_> = table[8..].chunks_exact(4).take(entries).collect();
    queues.sort_unstable();
    queues.dedup();
    queues.len()
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let word = bytes.get(index * 4..index * 4 + 4)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn combined_and_separate_channels_are_counted() {
        let table = [
            ([0x3c, 0, 0, 1, 8, 0, 0, 1, 4], Channels { combined: true, in_use: 4, most: 8 }),
            ([0x3c, 16, 16, 0, 0, 2, 2, 0, 0], Channels { combined: false, in_use: 2, most: 16 }),
        ];
        for (answer, channels) in table {
            assert_eq!(channels_of(&words(&answer)), Some(channels));
        }
        assert_eq!(channels_of(&[]), None);
    }

    #[test]
    fn features_are_found_by_name_across_blocks() {
        let mut names = words(&[0x1b, 4, 35]);
        for index in 0..35 {
            let name = match index {
                1 => "rx-lro",
                2 => "rx-vlan-hw-parse",
                33 => "rx-gro-hw",
                _ => "other",
            };
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(32, 0);
            names.extend(bytes);
        }
        let states = words(&[0x3a, 2, 0b110, 0, 0b100, 0b100, 0, 0, 0b10, 0]);
        let expected = Features {
            gro_hw: Feature { fixed: true, on: true },
            lro: Feature { fixed: false, on: false },
            vlan_strip: Feature { fixed: true, on: true },
        };
        assert_eq!(features_of(&names, &states), Some(expected));
    }

    #[test]
    fn the_indirection_table_is_counted_by_distinct_queue() {
        assert_eq!(distinct_queues(&words(&[0x38, 6, 0, 3, 0, 3, 1, 1, 9]), 6), 3);
    }
}
