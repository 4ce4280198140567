//! The combined limiter against a model, and under threads.

mod bytes;
mod crowds;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::{Asking, Limiter};
use crate::allowlist::Allowlist;
use crate::clock::{Monotonic, Now, UnixTime};
use crate::config::tests::{MINIMAL, parse};
use crate::config::{Auth, Config, Route};
use crate::identity::tests::someone;
use crate::identity::{Facts, Identity, Method as By};
use crate::limits::{Override, RATE_LIMIT, RATE_LIMIT_POLICY, Secret, Standing, Whom};
use crate::refusal::Refusal;
use crate::store::Store;

const SECOND: u64 = 1_000_000_000;
/// Noon of the day 20,000.
const NOON: u64 = 20_000 * 86_400 + 43_200;

struct World {
    config: Arc<Config>,
    limiter: Arc<Limiter>,
}

fn at(milliseconds: u64) -> Now {
    Now {
        monotonic: Monotonic(1_000 * SECOND + milliseconds * 1_000_000),
        unix: UnixTime(NOON + milliseconds / 1_000),
    }
}

impl World {
    fn new(limits: &str) -> Self {
        Self::sized(limits, 4_096)
    }

    fn sized(limits: &str, entries: usize) -> Self {
        let mut config = parse(&format!("{MINIMAL}{limits}")).unwrap();
        config.sizes.limit_entries = entries.try_into().unwrap();
        Self::of(config)
    }

    fn of(config: Config) -> Self {
        let allowed = Arc::new(Allowlist::new(vec!["198.51.100.0/24".parse().unwrap()]));
        allowed.set_added([]);
        let limiter = Arc::new(Limiter::new(&config, allowed, Secret::fixed(7)));
        Self { config: Arc::new(config), limiter }
    }

    fn route(&self) -> &Route {
        &self.config.routes[0]
    }

    fn ask(&self, identity: Option<&Identity>, source: &str, now: Now) -> Result<HeaderMap, Refusal> {
        let standing = Standing::default();
        let source = source.parse().unwrap();
        let asking = Asking { identity, method: &Method::GET, now, route: self.route(), source };
        self.limiter.charge(&self.limiter.current(), &asking, &standing)?;
        // An upstream's own give way.
        let mut headers = HeaderMap::from_iter([(RATE_LIMIT, "\"upstream\";r=1".parse().unwrap())]);
        standing.tell(&mut headers);
        Ok(headers)
    }

    fn passes(&self, user: &str, source: &str, now: Now) -> bool {
        self.ask(Some(&someone(By::Jwt, user, &[])), source, now).is_ok()
    }
}

fn of(tenant: &str, user: &str) -> Arc<Identity> {
    Identity::verified(Facts { tenant: Some(tenant.into()), ..Facts::new(By::Jwt, user) })
}

const TWO: &str = r#"
[[limit]]
name = "per-user"
by = ["principal"]
rate = "60/min"
burst = 4
[[limit]]
name = "per-source"
by = ["source"]
rate = "60/min"
burst = 6
"#;

#[test]
fn what_is_over_one_limit_is_charged_to_none() {
    let world = World::new(TWO);
    let passed: Vec<_> = ["a", "a", "a", "a", "a", "a", "b", "b", "b", "c"]
        .map(|user| world.passes(user, "192.0.2.1", at(0)))
        .into();
    // Two refusals of a cost the source nothing; b has two left of its six.
    assert_eq!(passed, [true, true, true, true, false, false, true, true, false, false]);
    // And the source's refusals cost b and c nothing.
    assert_eq!([0; 3].map(|_| world.passes("b", "192.0.2.2", at(0))), [true, true, false]);
    assert!(world.passes("a", "192.0.2.1", at(1_000)));
    assert!(!world.passes("a", "192.0.2.1", at(1_000)));
}

#[test]
fn a_refusal_names_its_kind_and_the_first_moment_that_passes() {
    let world = World::new(
        "[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"60/min\"\nburst = 1\n\
         [[quota]]\nname = \"q\"\nby = [\"source\"]\namount = 2\nper = \"day\"\n",
    );
    let ask = |ms| world.ask(None, "192.0.2.1", at(ms)).err();
    let waits = Duration::from_millis;
    let afternoon = Duration::from_secs(43_200 - 1);
    for (ms, expected) in [
        (0, None),
        (0, Some(Refusal::RateLimit { by_source: true, retry_after: waits(1_000) })),
        (999, Some(Refusal::RateLimit { by_source: true, retry_after: waits(1) })),
        (1_000, None),
        (1_000, Some(Refusal::Quota { by_source: true, retry_after: afternoon })),
        (43_200_000, None),
    ] {
        assert_eq!(ask(ms), expected, "{ms}");
    }
}

#[test]
fn the_fields_say_what_is_left_of_each() {
    let world = World::new(&format!(
        "{TWO}[[quota]]\nname = \"per-tenant\"\nby = [\"tenant\"]\namount = 10\nper = \"month\"\n"
    ));
    let alice = someone(By::Jwt, "alice", &[]);
    let headers = world.ask(Some(&alice), "192.0.2.1", at(0)).unwrap();
    assert_eq!(headers[RATE_LIMIT_POLICY], r#""per-user";q=4;w=4, "per-source";q=6;w=6"#);
    assert_eq!(headers[RATE_LIMIT], r#""per-user";r=3;t=1, "per-source";r=5;t=1"#);
    let headers = world.ask(Some(&of("acme", "bob")), "192.0.2.1", at(500)).unwrap();
    assert_eq!(
        headers[RATE_LIMIT],
        // Day 20,000 is 2024-10-04.
        format!(r#""per-user";r=3;t=1, "per-source";r=4;t=2, "per-tenant";r=9;t={}"#, 28 * 86_400 - 43_200)
    );
    let headers = world.ask(None, "192.0.2.3", at(0)).unwrap();
    assert_eq!(headers[RATE_LIMIT], r#""per-source";r=5;t=1"#);
}

#[test]
fn who_has_not_proved_who_it_is_is_told_what_there_may_be_and_not_what_is_left_of_it() {
    for (auth, policy) in [
        (Auth::Required, r#""per-source";q=6;w=6, "per-user";q=4;w=4"#),
        // Nobody ever proves it there.
        (Auth::None, r#""per-source";q=6;w=6"#),
    ] {
        let mut config = parse(&format!("{MINIMAL}{TWO}")).unwrap();
        config.routes[0].auth = auth;
        let world = World::of(config);
        let headers = world.ask(None, "192.0.2.1", at(0)).unwrap();
        assert_eq!(headers[RATE_LIMIT_POLICY], policy);
        assert_eq!(headers[RATE_LIMIT], r#""per-source";r=5;t=1"#);
    }
}

#[test]
fn whom_a_limit_is_not_for_is_not_counted() {
    let world = World::new(
        "[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"1/min\"\nmethods = [\"GET\"]\n\
         networks = [\"192.0.2.0/24\"]\n",
    );
    let ask = |method: Method, source: &str| {
        let source = source.parse().unwrap();
        let asking = Asking { identity: None, method: &method, now: at(0), route: world.route(), source };
        world.limiter.charge(&world.limiter.current(), &asking, &Standing::default()).is_ok()
    };
    assert!(ask(Method::GET, "192.0.2.1"));
    assert!(!ask(Method::GET, "192.0.2.1"));
    assert!(!ask(Method::HEAD, "192.0.2.1"), "a HEAD is a GET");
    assert!(ask(Method::POST, "192.0.2.1"));
    assert!(ask(Method::GET, "203.0.113.1") && ask(Method::GET, "203.0.113.1"));
    assert!((0..9).all(|_| ask(Method::GET, "198.51.100.1")), "the allowlist passes");
}

#[test]
fn an_ipv6_client_has_one_budget_for_its_prefix() {
    let world = World::new("[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"1/min\"\n");
    assert!(world.ask(None, "2001:db8::1", at(0)).is_ok());
    assert!(world.ask(None, "2001:db8::ffff:1", at(0)).is_err());
    assert!(world.ask(None, "2001:db8:0:1::1", at(0)).is_ok());
}

#[test]
fn what_needs_nobody_is_looked_at_first_and_costs_nothing() {
    let world = World::new(TWO);
    let source = "192.0.2.1".parse().unwrap();
    let asking = Asking { identity: None, method: &Method::GET, now: at(0), route: world.route(), source };
    let look = || world.limiter.look(&world.limiter.current(), &asking, &Standing::default());
    for user in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(look(), Ok(()));
        assert!(world.passes(user, "192.0.2.1", at(0)));
    }
    let wait = Duration::from_secs(1);
    assert_eq!(look(), Err(Refusal::RateLimit { by_source: true, retry_after: wait }));
}

#[test]
fn bytes_that_passed_refuse_the_next_request() {
    let world = World::new(
        "[[limit]]\nname = \"l\"\nby = [\"principal\"]\ncount = \"response-bytes\"\nrate = \"1KiB/s\"\nburst = \"4KiB\"\n",
    );
    let alice = someone(By::Jwt, "alice", &[]);
    let send = |bytes: usize, ms| {
        let standing = Standing::default();
        let source = "192.0.2.1".parse().unwrap();
        let asking = Asking {
            identity: Some(&alice),
            method: &Method::GET,
            now: at(ms),
            route: world.route(),
            source,
        };
        world.limiter.charge(&world.limiter.current(), &asking, &standing)?;
        standing.take_meter().unwrap().count(bytes, || at(ms));
        Ok::<_, Refusal>(())
    };
    assert_eq!(send(4_000, 0), Ok(()));
    assert_eq!(send(6_240, 0), Ok(()));
    // 10 KiB: 6 KiB over, and a byte.
    let Err(Refusal::RateLimit { by_source: false, retry_after }) = send(1, 0) else { panic!("6 KiB over") };
    assert_eq!(retry_after.as_millis(), 6_000);
    assert_eq!(send(1, 6_001), Ok(()));
}

#[test]
fn where_there_is_no_room_newcomers_share_and_nobody_else_pays() {
    let world = World::sized("[[limit]]\nname = \"l\"\nby = [\"principal\"]\nrate = \"1/h\"\nburst = 2\n", 8);
    let own = (0..200).map(|user| format!("user-{user}")).collect::<Vec<_>>();
    let passed = own.iter().filter(|user| world.passes(user, "192.0.2.1", at(0))).count();
    // Eight have an entry; the others share 64 words of two each.
    assert!((8 + 64..=8 + 2 * 64).contains(&passed), "{passed}");
    let again = own.iter().filter(|user| world.passes(user, "192.0.2.1", at(0))).count();
    assert!((8..=8 + 64).contains(&again), "{again}");
    assert!(own[..8].iter().all(|user| !world.passes(user, "192.0.2.1", at(0))));
    // Debts are paid, and the entries are free.
    assert!(own[..8].iter().all(|user| world.passes(user, "192.0.2.1", at(7_200_000))));
}

#[test]
fn debts_live_on_across_a_reload_as_long_as_the_limit_is_the_same() {
    let world = World::new("[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"1/h\"\nburst = 3\n");
    assert!((0..3).all(|_| world.ask(None, "192.0.2.1", at(0)).is_ok()));
    let reload = |text: &str| {
        let config = parse(&format!("{MINIMAL}{text}")).unwrap();
        world.limiter.adopt(world.limiter.plan(&config));
        world.ask(None, "192.0.2.1", at(0)).is_ok()
    };
    // The debt of three hours stays.
    assert!(!reload("[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"1/h\"\nburst = 2\n"));
    assert!(reload("[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"1/h\"\nburst = 4\n"));
    assert!(!reload("[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"1/h\"\nburst = 4\n"));
    assert!(reload("[[limit]]\nname = \"l\"\nby = [\"source\", \"route\"]\nrate = \"1/h\"\nburst = 2\n"));
    assert!(reload("[[limit]]\nname = \"m\"\nby = [\"source\"]\nrate = \"1/h\"\nburst = 2\n"));
}

const QUOTA: &str = "[[quota]]\nname = \"q\"\nby = [\"tenant\"]\namount = 5\nper = \"month\"\n";

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store"), UnixTime(NOON)).unwrap();
    (folder, store)
}

#[test]
fn a_quota_survives_a_restart_and_a_short_limit_loses_one_burst_at_most() {
    let (_folder, store) = store();
    let limits = format!("{QUOTA}[[limit]]\nname = \"l\"\nby = [\"tenant\"]\nrate = \"1/h\"\nburst = 3\n");
    let acme = of("acme", "alice");
    let passed =
        |world: &World| (0..9).filter(|_| world.ask(Some(&acme), "192.0.2.1", at(0)).is_ok()).count();
    let first = World::new(&limits);
    assert_eq!(passed(&first), 3);
    first.limiter.flush(&store, at(0)).unwrap();
    let second = World::new(&limits);
    second.limiter.load(&store, at(0)).unwrap();
    // One burst anew, but no more than the quota's rest.
    assert_eq!(passed(&second), 2);
    second.limiter.flush(&store, at(0)).unwrap();
    let third = World::new(&limits);
    third.limiter.load(&store, at(0)).unwrap();
    assert_eq!(passed(&third), 0);
}

#[test]
fn two_agents_count_together_while_both_live() {
    let (_folder, store) = store();
    let acme = of("acme", "alice");
    let (old, new) = (World::new(QUOTA), World::new(QUOTA));
    let ask = |world: &World| world.ask(Some(&acme), "192.0.2.1", at(0)).is_ok();
    assert!(ask(&old));
    old.limiter.flush(&store, at(0)).unwrap();
    new.limiter.load(&store, at(0)).unwrap();
    assert!(ask(&old) && ask(&old) && ask(&new));
    for world in [&old, &new, &old] {
        world.limiter.flush(&store, at(0)).unwrap();
    }
    let mut counted = 0;
    store.each_count(0, |row| counted += row.count).unwrap();
    assert_eq!(counted, 4);
    assert!(ask(&new));
    new.limiter.flush(&store, at(0)).unwrap();
    assert!(!ask(&new));
    // The old one learns of it with what it counts next.
    assert!(ask(&old));
    old.limiter.flush(&store, at(0)).unwrap();
    assert!(!ask(&old));
}

#[test]
fn a_clock_that_is_set_back_and_forth_gives_no_fresh_quota() {
    let (_folder, store) = store();
    let world = World::new(QUOTA);
    let acme = of("acme", "alice");
    let year = 365 * 86_400_000;
    let ask = |ms| world.ask(Some(&acme), "192.0.2.1", at(ms)).is_ok();
    assert!((0..5).all(|_| ask(0)));
    world.limiter.flush(&store, at(0)).unwrap();
    assert!(ask(year));
    world.limiter.flush(&store, at(0)).unwrap();
    world.limiter.purge(&store, Duration::from_secs(60), at(year).unix).unwrap();
    // Back again: what was counted is known with the next flush.
    assert!(ask(0));
    world.limiter.flush(&store, at(0)).unwrap();
    assert!(!ask(0));
    world.limiter.purge(&store, Duration::from_secs(3_600), at(year).unix).unwrap();
    let mut rows = 0;
    store.each_count(0, |_| rows += 1).unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn a_reset_forgets_the_debts_of_those_alone() {
    let (_folder, store) = store();
    let world = World::new(&format!("{TWO}{QUOTA}"));
    let (acme, other) = (of("acme", "alice"), of("other", "bob"));
    let ask = |identity: &Identity, ms| world.ask(Some(identity), "192.0.2.1", at(ms)).is_ok();
    let plan = world.limiter.current();
    let reset = |name: &str, whom: Whom| {
        world.limiter.reset(plan.named(name).unwrap(), &whom, Some(&store), at(0)).unwrap()
    };
    assert!((0..4).all(|_| ask(&acme, 0)) && !ask(&acme, 0) && ask(&other, 0));
    assert_eq!(reset("per-user", Whom::Principal("carol".into())), 0);
    assert_eq!(reset("per-user", Whom::Principal("alice".into())), 1);
    // One of the source's six is left.
    assert!(ask(&acme, 0) && !ask(&acme, 0));
    assert_eq!(reset("per-source", Whom::Source("192.0.2.1".parse().unwrap())), 1);
    world.limiter.flush(&store, at(0)).unwrap();
    assert!(!ask(&acme, 0), "the quota of five");
    let owed = world.limiter.owed(&Whom::Tenant("acme".into()), at(0));
    assert_eq!(owed.iter().map(|owed| (&*owed.name, owed.level.remaining)).collect::<Vec<_>>(), [("q", 0)]);
    assert_eq!(reset("q", Whom::Tenant("acme".into())), 1);
    assert!(ask(&acme, 0));
    world.limiter.flush(&store, at(0)).unwrap();
    let mut counts = Vec::new();
    store.each_count(0, |row| counts.push(row.count)).unwrap();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1]);
    assert!(reset("per-user", Whom::All) >= 1);
}

#[test]
fn what_is_set_holds_at_once_and_across_a_reload_until_it_is_taken_back() {
    let world = World::new("[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"1/h\"\nburst = 1\n");
    let policy = || {
        let source = format!("192.0.2.{}", fresh());
        world.ask(None, &source, at(0)).unwrap()[RATE_LIMIT_POLICY].to_str().unwrap().to_owned()
    };
    let budget = crate::config::BudgetText {
        burst: Some("7".into()),
        rate: Some("70/s".into()),
        ..Default::default()
    };
    world.limiter.set("l", Some(Override { budget, durable: false }));
    assert_eq!(policy(), "\"l\";q=7;w=1");
    world.limiter.adopt(world.limiter.plan(&world.config));
    assert_eq!(policy(), "\"l\";q=7;w=1");
    world.limiter.set("l", None);
    assert_eq!(policy(), "\"l\";q=1;w=3600");
}

fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Every limit by itself, as exact as can be: what is refused costs nothing.
#[derive(Default)]
struct Model {
    /// Nanoseconds owed until, by limit and owner.
    arrivals: HashMap<(usize, String), u64>,
    counts: HashMap<(String, u64), u64>,
}

impl Model {
    const INCREMENT: u64 = SECOND;

    fn admit(&mut self, user: &str, source: &str, now: Now) -> bool {
        let day = now.unix.0 / 86_400;
        let wanted = [(0, user, 4), (1, source, 6)];
        let count = self.counts.entry((user.to_owned(), day)).or_default();
        let debts = wanted.map(|(limit, owner, burst)| {
            let arrival = self.arrivals.get(&(limit, owner.to_owned())).copied().unwrap_or(0);
            (arrival.saturating_sub(now.monotonic.0) + Self::INCREMENT, burst * Self::INCREMENT)
        });
        if debts.iter().any(|(debt, most)| debt > most) || *count >= 20 {
            return false;
        }
        *count += 1;
        for ((limit, owner, _), (debt, _)) in wanted.into_iter().zip(debts) {
            self.arrivals.insert((limit, owner.to_owned()), now.monotonic.0 + debt);
        }
        true
    }
}

proptest! {
    #[test]
    fn it_admits_exactly_what_the_model_does(
        requests in prop::collection::vec((0_u8..4, 0_u8..3, 0_u64..2_500), 1..300),
    ) {
        let world = World::new(&format!(
            "{TWO}[[quota]]\nname = \"q\"\nby = [\"principal\"]\namount = 20\nper = \"day\"\n"
        ));
        let mut model = Model::default();
        let mut ms = 0;
        for (user, source, pause) in requests {
            ms += pause;
            let (user, source) = (format!("user-{user}"), format!("192.0.2.{source}"));
            let admitted = world.passes(&user, &source, at(ms));
            prop_assert_eq!(admitted, model.admit(&user, &source, at(ms)), "{} {} at {}", user, source, ms);
        }
    }

    #[test]
    fn nobody_gets_more_than_a_budget_and_its_share_however_small_the_table(
        requests in prop::collection::vec(0_u16..40, 1..400),
    ) {
        let world = World::sized("[[limit]]\nname = \"l\"\nby = [\"principal\"]\nrate = \"1/h\"\nburst = 3\n", 8);
        let mut admitted = HashMap::<_, u32>::new();
        for user in requests {
            if world.passes(&user.to_string(), "192.0.2.1", at(0)) {
                *admitted.entry(user).or_default() += 1;
            }
        }
        // An own entry, or one of the shared words, never both at one moment.
        prop_assert!(admitted.values().all(|count| *count <= 3), "{:?}", admitted);
    }
}

#[test]
fn threads_get_exactly_the_smallest_budget_and_leave_no_more_than_a_race_behind() {
    const THREADS: u64 = 4;
    let world = World::new(
        "[[limit]]\nname = \"wide\"\nby = [\"source\"]\nrate = \"1/h\"\nburst = 500\n\
         [[limit]]\nname = \"narrow\"\nby = [\"principal\"]\nrate = \"1/h\"\nburst = 200\n\
         [[quota]]\nname = \"q\"\nby = [\"principal\"]\namount = 300\nper = \"day\"\n",
    );
    let alice = someone(By::Jwt, "alice", &[]);
    let admitted: usize = thread::scope(|scope| {
        let ask = || world.ask(Some(&alice), "192.0.2.1", at(0)).is_ok();
        let threads: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(move || (0..400).filter(|_| ask()).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 200);
    let owed = world.limiter.owed(&Whom::All, at(0));
    let used = |name: &str| {
        let owed = owed.iter().find(|owed| &*owed.name == name).unwrap();
        owed.level.most - owed.level.remaining
    };
    // A race is lost once: at the end of the budget, by each thread but one.
    assert_eq!(used("narrow"), 200);
    assert_eq!(used("q"), 200);
    assert!((200..200 + THREADS).contains(&used("wide")), "{}", used("wide"));
}
