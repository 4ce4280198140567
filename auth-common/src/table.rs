//! The source table: one 64-byte line per source, in groups of eight.
//!
//! Lossless: a line changes hands only when its source owes nothing, so that forgetting it changes nothing.
//! Where a group has no such line, newcomers share the budget of the group's first line. Hence fixed memory
//! and no eviction that a flood could use to wash a debt away: in any span of time the table admits no more
//! events of a source than its own budget plus the budgets of the overflow line of its one group.
//!
//! Races, between CPUs or with the agent, cost at most one event, and are bounded in this way: whoever
//! charges a line looks afterwards whether it still belongs to the source, and charges again elsewhere if
//! not; whoever takes a line looks afterwards whether it still owes nothing, and gives it back if not. A line's
//! new owner starts with that one event of debt.

#[cfg(test)]
mod tests;

use crate::source::SourceKey;
use crate::word::Word;

/// Lines of a group, the overflow line included.
pub const LINES_PER_GROUP: usize = 8;

/// Lines of a group that sources can own; the first takes the overflow.
const WAYS: u64 = LINES_PER_GROUP as u64 - 1;

/// Everything known of one source. Times are nanoseconds on `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Line<W> {
    /// Whose line it is; 0: nobody's.
    pub key: W,
    /// Theoretical arrival time of packets.
    pub packets: W,
    /// Theoretical arrival time of bytes, in blocks.
    pub bytes: W,
    /// Theoretical arrival time of new connections.
    pub connections: W,
    /// Theoretical arrival time of HTTP requests, charged by the agent.
    pub requests: W,
    /// Theoretical arrival time of failed authentications, charged by the agent.
    pub auth_failures: W,
    /// Until when the source counts as known, because it authenticated recently.
    pub known_until: W,
    /// The cached outcome of the rules: [`crate::rules::Cached`].
    pub rules: W,
}

/// The lines that one hash value leads to.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Group<W> {
    lines: [Line<W>; LINES_PER_GROUP],
}

const _: () = assert!(size_of::<Line<u64>>() == 64);
const _: () = assert!(size_of::<Group<u64>>() == 512);
const _: () = assert!(LINES_PER_GROUP.is_power_of_two());

/// Size and secrets of a table. They never change while the table exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Shape {
    /// Number of groups minus one; the number is a power of two.
    pub group_mask: u64,
    /// Upper half of the IPv6 netmask by which sources are told apart.
    pub ipv6_mask: u64,
    /// Upper half of the IPv6 netmask of a site: at most 48 bits.
    pub ipv6_site_mask: u64,
    /// Random, so that nobody outside can choose who shares a group.
    pub secret: [u64; 2],
}

/// Where a source's line may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Index of the group.
    pub group: u32,
    /// The line that is tried first, never the overflow line.
    start: usize,
    /// Tells sources apart in a cached rule outcome.
    pub tag: u32,
}

impl Shape {
    /// Where `key` belongs.
    #[inline(always)]
    pub fn place(&self, key: SourceKey) -> Place {
        let [first, second] = self.secret;
        let mut hash = (key.get() ^ first).wrapping_mul(second | 1);
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(first | 1);
        hash ^= hash >> 29;
        Place {
            group: (hash & self.group_mask) as u32,
            start: 1 + (((hash >> 32) * WAYS) >> 32) as usize,
            tag: (hash >> 32) as u32,
        }
    }
}

/// A line that stands for a source.
pub struct Seat<'a, W> {
    key: SourceKey,
    line: &'a Line<W>,
    overflow: bool,
}

impl<'a, W: Word> Seat<'a, W> {
    /// The line to charge.
    #[inline(always)]
    pub fn line(&self) -> &'a Line<W> {
        self.line
    }

    /// Whether newcomers share this line.
    #[inline(always)]
    pub fn is_overflow(&self) -> bool {
        self.overflow
    }

    /// Whether the line still stands for the source. Asked after a charge: if not, another source took the
    /// line between the look-up and the charge, and the event has to be charged again.
    #[inline(always)]
    pub fn holds(&self) -> bool {
        self.overflow || self.line.key.read() == self.key.get()
    }
}

impl<W: Word> Group<W> {
    /// The source's line: its own, a free one that it takes, or the one that newcomers share.
    #[inline(always)]
    pub fn seat(&self, key: SourceKey, place: Place, now: u64) -> Seat<'_, W> {
        match self.find(key, place) {
            Some(seat) => seat,
            None => self.claim(key, place, now),
        }
    }

    /// The shared line of sources that have none of their own.
    #[inline(always)]
    pub fn overflow(&self, key: SourceKey) -> Seat<'_, W> {
        Seat { key, line: &self.lines[0], overflow: true }
    }

    /// The source's own line, if it has one.
    #[inline(always)]
    pub fn find(&self, key: SourceKey, place: Place) -> Option<Seat<'_, W>> {
        self.lines(place).find(|(_, line)| line.key.read() == key.get()).map(|(_, line)| Seat {
            key,
            line,
            overflow: false,
        })
    }

    #[inline(always)]
    fn claim(&self, key: SourceKey, place: Place, now: u64) -> Seat<'_, W> {
        for (way, line) in self.lines(place) {
            let owner = line.key.read();
            if way == 0 || !line.owes_nothing(now) {
                continue;
            }
            // What it returns does not matter: looking again finds the line of a CPU that was first for the
            // same source, there or in an earlier way. Should two CPUs have taken two lines for it, both use
            // the earlier one from now on, and the other is free again as soon as its one event is paid.
            let taken = line.key.replace(owner, key.get());
            // Whoever charged the line after it was found to owe nothing, and before it was taken, could not
            // see that it changes hands: its owner keeps it.
            if taken && !line.owes_nothing(now) {
                line.key.replace(key.get(), owner);
            }
            break;
        }
        match self.find(key, place) {
            Some(seat) => seat,
            None => self.overflow(key),
        }
    }

    /// All lines and their places, in the order in which this source looks at them. It never begins with the
    /// overflow line, whose key is that of no source.
    ///
    /// The exclusive or keeps the place within the group by itself. From a sum with a mask the compiler drops the
    /// mask where it knows better, for reasons that no verifier before Linux 6.8 follows.
    #[inline(always)]
    fn lines(&self, place: Place) -> impl Iterator<Item = (usize, &Line<W>)> {
        (0..LINES_PER_GROUP).map(move |step| place.start ^ step).map(|way| (way, &self.lines[way]))
    }

    /// Lines that belong to a source, the overflow line aside.
    pub fn occupied(&self, now: u64) -> usize {
        self.lines[1..].iter().filter(|line| line.key.read() != 0 && !line.owes_nothing(now)).count()
    }
}

impl<W: Word> Line<W> {
    /// Whether forgetting this source changes nothing.
    #[inline(always)]
    fn owes_nothing(&self, now: u64) -> bool {
        let paid = |word: &W| word.read() <= now;
        paid(&self.packets)
            && paid(&self.bytes)
            && paid(&self.connections)
            && paid(&self.requests)
            && paid(&self.auth_failures)
            && paid(&self.known_until)
    }
}
