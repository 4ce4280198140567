//! File descriptors: each connection takes one, and one more for the upstream behind it.
//!
//! Most systems start a process with a soft limit of 1024, for programs that use select(2), and let it raise that
//! itself. Without, a handful of sources could take every descriptor long before `sizes.connections`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// What is left for the store, the control socket, the filter and idle upstream connections.
const RESERVE: u64 = 512;
const PER_CONNECTION: u64 = 2;

/// Raises the limit as far as this process may, and says how many of `wanted` connections there is room for.
pub(super) fn make_room(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            debug!(%error, "the open file limit can't be raised");
            current
        }
    };
    let room = room(limit, wanted);
    if room < wanted {
        warn!(
            "sizes.connections is {wanted}, but the open file limit of {} has room for {room} connections only; \
             raise it (`LimitNOFILE=` of the service, `ulimit -Hn`)",
            limit.unwrap_or(u64::MAX),
        );
    }
    room
}

/// The open file limit that so many connections need.
pub fn needed(connections: usize) -> u64 {
    (connections as u64).saturating_mul(PER_CONNECTION).saturating_add(RESERVE)
}

fn room(limit: Option<u64>, wanted: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let room = limit.saturating_sub(RESERVE) / PER_CONNECTION;
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_connections_than_descriptors_for_both_of_their_sides() {
        for (limit, wanted, expected) in [
            (None, 10_000, 10_000),
            (Some(1_048_576), 10_000, 10_000),
            (Some(20_512), 10_000, 10_000),
            (Some(20_510), 10_000, 9_999),
            (Some(1024), 10_000, 256),
            (Some(10), 10_000, 1),
        ] {
            assert_eq!(room(limit, wanted), expected, "{limit:?}");
            assert_eq!(expected == wanted, limit.is_none_or(|limit| limit >= needed(wanted)), "{limit:?}");
        }
    }

    #[test]
    fn a_low_soft_limit_is_raised() {
        let before = getrlimit(Resource::Nofile);
        let low = before.maximum.map_or(1024, |maximum| maximum.min(1024));
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), ..before }).unwrap();
        make_room(1);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
