//! Tables that are full: who is pushed out, by whom, and what is known of it afterwards.

use super::*;
use crate::limits::Occupancy;

/// Strangers, each from an address of its own.
fn crowd(world: &World, number: u32, now: Now) -> usize {
    let address = |stranger: u32| std::net::Ipv4Addr::from(0xcb00_0000 + stranger).to_string();
    (0..number).filter(|stranger| world.ask(None, &address(*stranger), now).is_ok()).count()
}

fn occupancy(world: &World, class: &str, kind: &str) -> Occupancy {
    let all = world.limiter.occupancy(at(0));
    all.into_iter().find(|table| table.class == class && table.kind == kind).unwrap()
}

/// Each in turn asks twice, which is all that it may.
fn served(world: &World, users: std::ops::Range<u32>) -> Vec<[bool; 3]> {
    let ask = |user: &str| [(); 3].map(|()| world.passes(user, "192.0.2.1", at(0)));
    users.map(|user| ask(&format!("user-{user}"))).collect()
}

#[test]
fn strangers_crowd_out_nobody_who_proved_who_it_is() {
    for (by_source, by_user, kind) in [
        (
            "[[limit]]\nname = \"s\"\nby = [\"source\"]\nrate = \"100/h\"\nburst = 1000\n",
            "[[limit]]\nname = \"u\"\nby = [\"principal\"]\nrate = \"1/h\"\nburst = 2\n",
            "debts",
        ),
        (
            "[[quota]]\nname = \"s\"\nby = [\"source\", \"route\"]\namount = 1000\nper = \"month\"\n",
            "[[quota]]\nname = \"u\"\nby = [\"principal\", \"source\"]\namount = 2\nper = \"month\"\n",
            "counts",
        ),
    ] {
        let world = World::sized(&format!("{by_source}{by_user}"), 16);
        assert_eq!(crowd(&world, 500, at(0)), 500);
        // The table of the others has room for eight.
        assert_eq!(served(&world, 0..8), [[true, true, false]; 8], "{kind}");
        let (strangers, others) =
            (occupancy(&world, "strangers", kind), occupancy(&world, "identified", kind));
        assert_eq!((strangers.used, strangers.capacity, others.used, others.shared), (8, 8, 8, 0), "{kind}");
        assert!(strangers.shared >= 492, "{strangers:?}");
        served(&world, 8..9);
        assert_eq!(occupancy(&world, "identified", kind).shared, 2, "{kind}");
    }
}

#[test]
fn a_budget_of_a_route_is_not_crowded_out_by_those_who_use_it() {
    let world = World::sized(
        "[[limit]]\nname = \"s\"\nby = [\"source\"]\nrate = \"100/h\"\nburst = 1000\n\
         [[limit]]\nname = \"r\"\nby = [\"route\"]\nrate = \"100/h\"\nburst = 200\n",
        16,
    );
    assert_eq!(crowd(&world, 300, at(0)), 200);
    assert_eq!(occupancy(&world, "identified", "debts").used, 1);
}

#[test]
fn what_newcomers_without_room_have_counted_survives_a_restart_and_is_counted_once() {
    let (_folder, store) = store();
    let quota = "[[quota]]\nname = \"q\"\nby = [\"source\"]\namount = 3\nper = \"month\"\n";
    let rows = || {
        let mut counted = 0;
        store.each_count(0, |row| counted += row.count).unwrap();
        counted as usize
    };
    let first = World::sized(quota, 16);
    // Of 8 with an entry and 64 words, each has three.
    let most = 3 * (8 + 64);
    let served = crowd(&first, 1_000, at(0)) + crowd(&first, 1_000, at(0)) + crowd(&first, 1_000, at(0));
    assert_eq!(served, most);
    first.limiter.flush(&store, at(0)).unwrap();
    assert_eq!(rows(), most);
    for _ in 0..2 {
        let world = World::sized(quota, 16);
        world.limiter.load(&store, at(0)).unwrap();
        assert_eq!(crowd(&world, 1_000, at(0)), 0);
        world.limiter.flush(&store, at(0)).unwrap();
        assert_eq!(rows(), most);
    }
    // Another agent, which knows of them all, has nothing to add either.
    first.limiter.flush(&store, at(0)).unwrap();
    assert_eq!(rows(), most);
    let plan = first.limiter.current();
    first.limiter.reset(plan.named("q").unwrap(), &Whom::All, Some(&store), at(0)).unwrap();
    first.limiter.flush(&store, at(0)).unwrap();
    assert_eq!((rows(), crowd(&first, 100, at(0)) > 0), (0, true));
}

#[test]
fn two_agents_count_newcomers_without_room_together() {
    let (_folder, store) = store();
    let quota = "[[quota]]\nname = \"q\"\nby = [\"source\"]\namount = 1000\nper = \"month\"\n";
    let (old, new) = (World::sized(quota, 16), World::sized(quota, 16));
    crowd(&old, 500, at(0));
    old.limiter.flush(&store, at(0)).unwrap();
    new.limiter.load(&store, at(0)).unwrap();
    crowd(&old, 500, at(0));
    crowd(&new, 500, at(0));
    for world in [&old, &new, &old, &new] {
        world.limiter.flush(&store, at(0)).unwrap();
    }
    let mut counted = 0;
    store.each_count(0, |row| counted += row.count).unwrap();
    assert_eq!(counted, 1_500);
}

#[test]
fn who_finds_no_room_is_not_blamed_for_what_others_owe() {
    let world = World::sized("[[limit]]\nname = \"l\"\nby = [\"source\"]\nrate = \"1/h\"\nburst = 1\n", 16);
    let refusals: Vec<_> = (0..200)
        .filter_map(|stranger| world.ask(None, &format!("203.0.113.{stranger}"), at(0)).err())
        .collect();
    assert!(refusals.len() >= 200 - 8 - 64, "{}", refusals.len());
    let blamed = |refusal: &&Refusal| matches!(refusal, Refusal::RateLimit { by_source: true, .. });
    assert_eq!(refusals.iter().filter(blamed).count(), 0);
    // Whoever has an entry owes that itself.
    assert!(world.ask(None, "203.0.113.0", at(0)).is_err_and(|refusal| blamed(&&refusal)));
}
