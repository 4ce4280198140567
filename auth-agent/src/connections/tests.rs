use std::net::{IpAddr, Ipv4Addr};
use std::thread;

use super::*;
use crate::identity::Method;
use crate::identity::tests::someone;

const NOW: UnixTime = UnixTime(1_000);

fn end_of(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn source(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits((10 << 24) | (number % 100)), (number / 100) as u16))
}

fn ids(list: &[Arc<Connection>]) -> Vec<u64> {
    list.iter().map(|connection| connection.id).collect()
}

#[test]
fn a_connection_is_listed_from_its_entry_to_its_end_with_what_happened_on_it() {
    let connections = Arc::new(Connections::default());
    let entry = connections.enter(end_of("[::ffff:10.0.0.1]:443"), end_of("[::ffff:192.0.2.7]:5000"), NOW);
    let [connection] = &connections.list(|_| true)[..] else { panic!("not listed") };
    assert_eq!(connection.flow(), Flow { local: end_of("10.0.0.1:443"), peer: end_of("192.0.2.7:5000") });
    assert_eq!((connection.accepted, connection.protocol()), (NOW, Protocol::Handshake));
    assert!(connection.principal().is_none());

    connection.speaks(Protocol::Http2);
    let (first, second) = (connection.begin(), connection.begin());
    first.accepted(&someone(Method::Jwt, "alice", &[]));
    second.accepted(&someone(Method::ApiKey, "ci", &[]));
    drop(first);
    assert_eq!((connection.requests(), connection.open_requests()), (2, 1));
    assert_eq!(connection.protocol(), Protocol::Http2);
    assert_eq!(connection.principal().unwrap(), Principal { method: Method::ApiKey, subject: "ci".into() });
    drop((second, entry));
    assert!(connections.list(|_| true).is_empty());
    assert_eq!(connection.open_requests(), 0);
}

#[tokio::test]
async fn a_connection_is_ended_once_and_is_told_why() {
    let connections = Arc::new(Connections::default());
    let mut entry = connections.enter(end_of("10.0.0.1:443"), end_of("192.0.2.7:5000"), NOW);
    assert!(!entry.connection().is_ended());
    assert_eq!(connections.end(|_| true, End::Banned), 1);
    assert_eq!(connections.end(|_| true, End::Operator), 0);
    assert!(entry.connection().is_ended() && !entry.connection().end(End::Operator));
    assert!(connections.list(|_| true).is_empty());
    assert_eq!(entry.ended().await, End::Banned);
}

#[tokio::test]
async fn of_ten_thousand_connections_those_of_a_source_are_ended_and_no_others() {
    let connections = Arc::new(Connections::default());
    let local = end_of("10.0.0.1:443");
    let entries: Vec<_> = (0..10_000).map(|number| connections.enter(local, source(number), NOW)).collect();
    assert_eq!(ids(&connections.list(|_| true)), (1..=10_000).collect::<Vec<_>>());

    assert_eq!(ids(&connections.numbered(&BTreeSet::from([7, 10_001, 3]))), [3, 7]);

    let wanted: IpAddr = source(42).ip();
    assert_eq!(connections.end(|connection| connection.peer.ip() == wanted, End::Operator), 100);
    assert_eq!(connections.list(|_| true).len(), 9_900);
    assert!(connections.numbered(&BTreeSet::from([43])).is_empty());
    for mut entry in entries {
        let of_source = entry.connection().peer.ip() == wanted;
        assert_eq!(entry.connection().is_ended(), of_source);
        if of_source {
            assert_eq!(entry.ended().await, End::Operator);
        }
    }
    assert!(connections.list(|_| true).is_empty());
}

/// However many come, go and are ended at once: each is ended by one, and none is left.
#[test]
fn connections_that_come_and_go_while_others_end_them_leave_nothing_behind() {
    const EACH: u32 = 2_000;
    let connections = Arc::new(Connections::default());
    let local = end_of("10.0.0.1:443");
    let (ended, told) = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let connections = &connections;
                scope.spawn(move || {
                    (0..EACH)
                        .map(|number| {
                            let mut entry = connections.enter(local, source(worker * EACH + number), NOW);
                            drop(entry.connection().begin());
                            usize::from(entry.ended.try_recv().is_ok())
                        })
                        .sum::<usize>()
                })
            })
            .collect();
        let ended: usize = (0..200).map(|_| connections.end(|_| true, End::Operator)).sum();
        (ended, workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>())
    });
    assert!(told <= ended && ended <= 4 * EACH as usize, "{told} of {ended}");
    assert!(connections.list(|_| true).is_empty());
    assert!(connections.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
}
