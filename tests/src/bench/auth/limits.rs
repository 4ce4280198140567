//! Everything that the limits of a request cost together: three limits and a quota, each of which tells principals apart
//! in its own way.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use auth_agent::allowlist::Allowlist;
use auth_agent::clock::{Monotonic, Now, UnixTime};
use auth_agent::config::Config;
use auth_agent::identity::Identity;
use auth_agent::limits::{Asking, Limiter, Plan, Secret, Standing};
use http::Method;

use super::{Cell, EDGE};

/// Nobody is over them.
const CONFIG: &str = r#"
[[route]]
path = "/"
auth = "required"
upstream = "app"
[[limit]]
name = "per-user"
by = ["principal"]
rate = "10000000/s"
burst = 4000000000
[[limit]]
name = "per-user-and-route"
by = ["principal", "route"]
rate = "10000000/s"
burst = 4000000000
[[limit]]
name = "per-source"
by = ["source"]
rate = "10000000/s"
burst = 4000000000
[[quota]]
name = "monthly"
by = ["principal"]
amount = 100000000000
per = "month"
"#;

/// Sources that the principals come from.
const SOURCES: u32 = 4_096;

/// Principals who are asked about again and again, so that what is theirs stays in the processor's caches: about 2 KiB of
/// each.
const HOT: usize = 128;

/// A prime far from any power of two: nobody's neighbour is asked about next.
const STRIDE: usize = 611_953;

const NOW: Now = Now { monotonic: Monotonic(1 << 50), unix: UnixTime(1_800_000_000) };

/// The limits, with something owed by everyone.
pub(super) struct Limited {
    config: Config,
    identities: Vec<Arc<Identity>>,
    limiter: Arc<Limiter>,
    plan: Arc<Plan>,
}

impl Limited {
    /// For these principals.
    pub(super) fn new(identities: Vec<Arc<Identity>>) -> Result<Self> {
        let mut config = Config::parse(&format!("{EDGE}{CONFIG}"), Path::new("bench.toml"))?;
        // Half of them are for sources alone, as strangers have.
        config.sizes.limit_entries = (identities.len() * 8).max(1 << 10).try_into()?;
        let limiter = Arc::new(Limiter::new(&config, Arc::new(Allowlist::new(Vec::new())), Secret::fixed(1)));
        let limited = Self { config, identities, plan: limiter.current(), limiter };
        (0..limited.identities.len()).for_each(|number| limited.charge(number));
        Ok(limited)
    }

    fn charge(&self, number: usize) {
        let source = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number as u32 % SOURCES));
        let (identity, route) =
            (self.identities.get(number).map(|identity| &**identity), &self.config.routes[0]);
        let asking = Asking { identity, method: &Method::GET, now: NOW, route, source };
        let charged = self.limiter.charge(&self.plan, &asking, &Standing::default());
        assert!(charged.is_ok(), "a request is over a limit");
    }

    /// Of some of them, and of each in turn.
    pub(super) fn cells(&self, count: &str) -> [Cell<'_>; 2] {
        let among = |principals: usize| {
            let mut next = 0;
            move || {
                self.charge(next * STRIDE % self.identities.len());
                next = (next + 1) % principals;
            }
        };
        [
            Cell::new(format!("limits_{count}"), among(HOT)),
            Cell::new(format!("limits_{count}_cold"), among(self.identities.len())),
        ]
    }
}
