//! File descriptors: one for each client's connection, and as many for upstreams as their pools may hold.
//!
//! Most systems start a process with a soft limit of 1024, for programs that use select(2), and let it raise that
//! itself. Without, a handful of sources could take every descriptor long before `sizes.connections`.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::config::{Config, Place, Upstream};

/// What is left for the store, the control socket, the filter and those who ask for other proxies.
const RESERVE: u64 = 512;
/// Addresses that a name is counted with. It may have more: then not each of them has all of its connections at a time.
const ADDRESSES_OF_A_NAME: u64 = 4;

/// Raises the limit as far as this process may, and says for how many clients' connections there is room.
pub(super) fn make_room(config: &Config) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            debug!(%error, "the open file limit can't be raised");
            current
        }
    };
    let (wanted, upstreams) = (config.sizes.connections.get(), upstreams(config));
    let room = room(limit, wanted, upstreams);
    if limit.is_some_and(|limit| limit < needed(config)) {
        warn!(
            "sizes.connections is {wanted}, and upstreams may have {upstreams} connections, but the open file limit of {} has \
             room for {room} clients and the rest; raise it to {} (`LimitNOFILE=` of the service, `ulimit -Hn`), or lower \
             sizes.connections or the upstreams' connections and idle_connections",
            limit.unwrap_or(u64::MAX),
            needed(config),
        );
    }
    room
}

/// The open file limit that a configuration needs.
pub fn needed(config: &Config) -> u64 {
    (config.sizes.connections.get() as u64).saturating_add(upstreams(config)).saturating_add(RESERVE)
}

/// Connections to upstreams, at most: each request in flight has one, each thread keeps some, and a health check is made
/// over one of its own.
fn upstreams(config: &Config) -> u64 {
    let threads = config.sizes.workers.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let of = |upstream: &Upstream| {
        let addresses = upstream.endpoints.iter().map(|endpoint| match endpoint.place {
            Place::Name(..) => ADDRESSES_OF_A_NAME,
            Place::Socket(_) | Place::Unix(_) => 1,
        });
        let kept = upstream.idle_connections.saturating_mul(threads);
        let each = upstream.connections.get().saturating_add(kept).saturating_add(1);
        addresses.sum::<u64>().saturating_mul(each as u64)
    };
    config.upstreams.iter().map(of).fold(0, u64::saturating_add)
}

/// What upstreams leave; at least half.
fn room(limit: Option<u64>, wanted: usize, upstreams: u64) -> usize {
    let Some(limit) = limit else { return wanted };
    let free = limit.saturating_sub(RESERVE);
    let room = free.saturating_sub(upstreams).max(free / 2);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::tests::MINIMAL;

    fn config(endpoints: &str, more: &str) -> Config {
        let text = MINIMAL
            .replace("\"http://127.0.0.1:8080\"", endpoints)
            .replace("[[route]]", &format!("{more}\n[[route]]"))
            + "\n[sizes]\nconnections = 10000\nworkers = 2\n";
        Config::parse(&text, Path::new("/edge.toml")).unwrap()
    }

    #[test]
    fn upstreams_count_with_all_that_their_pools_may_hold() {
        let pool = "connections = 300\nidle_connections = 50";
        for (endpoints, more, expected) in [
            ("\"http://127.0.0.1:1\"", pool, 401),
            ("\"http://127.0.0.1:1\", \"unix:/run/app\"", pool, 802),
            ("\"http://app.internal:1\", \"http://127.0.0.1:1\"", pool, 2_005),
            ("\"http://127.0.0.1:1\"", "", 1_000 + 2 * 128 + 1),
        ] {
            let config = config(endpoints, more);
            assert_eq!(upstreams(&config), expected, "{endpoints} {more}");
            assert_eq!(needed(&config), 10_000 + expected + RESERVE);
        }
    }

    #[test]
    fn clients_get_what_upstreams_leave_and_at_least_half() {
        for (limit, upstreams, expected) in [
            (None, 1_000, 10_000),
            (Some(1_048_576), 1_000, 10_000),
            (Some(11_512), 1_000, 10_000),
            (Some(11_511), 1_000, 9_999),
            (Some(2_512), 1_500, 1_000),
            (Some(1_024), 1_000, 256),
            (Some(10), 1_000, 1),
        ] {
            assert_eq!(room(limit, 10_000, upstreams), expected, "{limit:?} {upstreams}");
        }
    }

    #[test]
    fn a_low_soft_limit_is_raised() {
        let before = getrlimit(Resource::Nofile);
        let low = before.maximum.map_or(1024, |maximum| maximum.min(1024));
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), ..before }).unwrap();
        make_room(&config("\"http://127.0.0.1:1\"", ""));
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
