//! Limits of bytes: what is under way, and what is owed beyond a burst.

use super::*;
use crate::limits::Meter;

const BYTES: &str = "[[limit]]\nname = \"l\"\nby = [\"principal\"]\ncount = \"response-bytes\"\nrate = \"1KiB/s\"\n\
                     burst = \"64KiB\"\n";

/// A response to alice that is about to be sent.
fn response(world: &World, now: Now) -> Result<Box<Meter>, Refusal> {
    let (alice, standing) = (someone(By::Jwt, "alice", &[]), Standing::default());
    let source = "192.0.2.1".parse().unwrap();
    let asking = Asking { identity: Some(&alice), method: &Method::GET, now, route: world.route(), source };
    world.limiter.charge(&world.limiter.current(), &asking, &standing)?;
    Ok(standing.take_meter().unwrap())
}

fn wait(world: &World, now: Now) -> u64 {
    match response(world, now) {
        Ok(_) => 0,
        Err(Refusal::RateLimit { retry_after, .. }) => retry_after.as_secs(),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_request_sees_what_responses_under_way_have_taken() {
    let world = World::new(BYTES);
    let mut under_way: Vec<_> = (0..8).map(|_| response(&world, at(0)).unwrap()).collect();
    let left = || world.limiter.owed(&Whom::All, at(0)).first().map_or(64 << 10, |owed| owed.level.remaining);
    // In pieces of a byte: each response may have a 64th of a burst on it before it is charged.
    for _ in 0..7 << 10 {
        under_way.iter_mut().for_each(|meter| meter.count(1, || at(0)));
    }
    assert!((8 << 10..=16 << 10).contains(&left()), "{}", left());
    assert_eq!(wait(&world, at(0)), 0);
    for _ in 0..2 << 10 {
        under_way.iter_mut().for_each(|meter| meter.count(1, || at(0)));
    }
    assert!(response(&world, at(0)).is_err(), "72 KiB have passed, of responses that go on");
}

#[test]
fn pieces_that_are_small_are_charged_together_and_none_is_forgotten() {
    let world = World::new(BYTES);
    let mut meter = response(&world, at(0)).unwrap();
    let asked = std::cell::Cell::new(0);
    for _ in 0..10 << 10 {
        meter.count(1, || {
            asked.set(asked.get() + 1);
            at(0)
        });
    }
    assert_eq!(asked.get(), 10);
    meter.count(100, || panic!("a hundred bytes are not worth the time"));
    drop(meter);
    // They were charged by the clock of now, which is another than the test's: they are owed all the same.
    let owed = world.limiter.owed(&Whom::All, at(0));
    assert_eq!(owed.len(), 1);
    assert!(owed[0].level.remaining <= (54 << 10) - 100, "{owed:?}");
}

#[test]
fn a_debt_of_more_than_a_burst_survives_a_restart_and_goes_on_being_paid() {
    let (_folder, store) = store();
    let first = World::new(BYTES);
    response(&first, at(0)).unwrap().count(10_064 << 10, || at(0));
    first.limiter.flush(&store, at(0)).unwrap();
    assert_eq!(wait(&first, at(0)), 10_000);
    let restarted = |later: Now| {
        let world = World::new(BYTES);
        world.limiter.load(&store, later).unwrap();
        world
    };
    // An hour later, on a host whose own clock began anew.
    let later = Now { monotonic: Monotonic(5 * SECOND), unix: UnixTime(NOON + 3_600) };
    assert_eq!(wait(&restarted(later), later), 6_400);
    // A clock that was set far ahead forgets it, and one that was set back makes it no longer.
    let ahead = Now { unix: UnixTime(NOON + 86_400), ..later };
    assert_eq!(wait(&restarted(ahead), ahead), 0);
    let later = Now { unix: UnixTime(NOON - 86_400), ..later };
    assert_eq!(wait(&restarted(later), later), 10_000);
    // What is reset does not come back.
    let world = restarted(later);
    let plan = world.limiter.current();
    let whom = Whom::Principal("alice".into());
    assert_eq!(world.limiter.reset(plan.named("l").unwrap(), &whom, Some(&store), later).unwrap(), 1);
    assert_eq!(wait(&restarted(later), later), 0);
}

#[test]
fn no_more_than_a_burst_is_not_worth_a_row() {
    let (_folder, store) = store();
    let world = World::new(BYTES);
    response(&world, at(0)).unwrap().count(64 << 10, || at(0));
    world.limiter.flush(&store, at(0)).unwrap();
    let mut rows = 0;
    store.each_debt(at(0).unix, |_| rows += 1).unwrap();
    assert_eq!(rows, 0);
    response(&world, at(1_000)).unwrap().count(2 << 10, || at(1_000));
    world.limiter.flush(&store, at(1_000)).unwrap();
    store.each_debt(at(0).unix, |_| rows += 1).unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn what_newcomers_without_room_owe_beyond_a_burst_survives_a_restart() {
    let (_folder, store) = store();
    let world = World::sized(BYTES, 16);
    let bytes = 1_000 << 10;
    let send = |world: &World, user: u32| {
        let (identity, standing) = (someone(By::Jwt, &format!("user-{user}"), &[]), Standing::default());
        let source = "192.0.2.1".parse().unwrap();
        let asking = Asking {
            identity: Some(&identity),
            method: &Method::GET,
            now: at(0),
            route: world.route(),
            source,
        };
        let charged = world.limiter.charge(&world.limiter.current(), &asking, &standing);
        charged.map(|()| standing.take_meter().unwrap().count(bytes, || at(0))).is_ok()
    };
    let served = (0..1_000).filter(|user| send(&world, *user)).count();
    assert_eq!(served, 8 + 64);
    world.limiter.flush(&store, at(0)).unwrap();
    let again = World::sized(BYTES, 16);
    again.limiter.load(&store, at(0)).unwrap();
    assert_eq!((0..1_000).filter(|user| send(&again, *user)).count(), 0);
}

#[test]
fn a_key_and_the_tokens_that_it_was_exchanged_for_have_one_budget_by_key_and_two_by_principal() {
    let key = crate::api_key::ApiKey::generate().unwrap().id();
    let as_key = Identity::verified(Facts { key: Some(key), ..Facts::new(By::ApiKey, "billing") });
    let as_token = Identity::verified(Facts {
        issuer: Some("auth-agent".into()),
        key: Some(key),
        ..Facts::new(By::Jwt, "billing")
    });
    for (by, expected) in [("key", [true, true, false, false]), ("principal", [true, true, true, true])] {
        let world =
            World::new(&format!("[[limit]]\nname = \"l\"\nby = [\"{by}\"]\nrate = \"1/h\"\nburst = 2\n"));
        let passed = [&as_key, &as_token, &as_key, &as_token]
            .map(|identity| world.ask(Some(identity), "192.0.2.1", at(0)).is_ok());
        assert_eq!(passed, expected, "{by}");
    }
}
