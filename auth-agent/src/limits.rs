//! What requests are held to: the budgets of their source, and the limits and quotas of the configuration.

mod budget;
mod counts;
mod dirty;
mod key;
mod limiter;
mod meter;
mod overrides;
mod period;
mod plan;
mod report;
mod shared;
mod standing;
mod table;
mod tables;
mod upkeep;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use auth_common::gcra;

pub use self::budget::Level;
pub use self::key::{Marks, Secret};
pub use self::limiter::{Asking, Limiter};
pub use self::meter::Meter;
pub use self::overrides::Override;
pub use self::plan::{Plan, Rule};
pub use self::report::{Owed, Whom};
pub use self::standing::{RATE_LIMIT, RATE_LIMIT_POLICY, Standing};
pub use self::tables::Occupancy;
pub use self::upkeep::FLUSH;
use crate::authenticate::Guess;
use crate::clock::Monotonic;
use crate::connections::Connection;
use crate::identity::Identity;
use crate::ladder::Offence;
use crate::refusal::Refusal;

/// What a charge against a budget came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Charge {
    /// There was no room for it.
    Over {
        /// Until there is room again.
        retry_after: Duration,
    },
    /// There was room for it.
    Within,
}

impl From<gcra::Charge> for Charge {
    fn from(charge: gcra::Charge) -> Self {
        match charge {
            gcra::Charge::Over { retry_after } => {
                Self::Over { retry_after: Duration::from_nanos(retry_after) }
            }
            gcra::Charge::Within => Self::Within,
        }
    }
}

/// The debts of the sources; the real ones are lines of the table shared with the kernel.
pub trait SourceDebts: Send + Sync {
    /// What a failed authentication would come to; charges nothing.
    fn auth_failure_debt(&self, source: IpAddr, now: Monotonic) -> Charge;
    /// Notes that a client at `source` authenticated (promise P16).
    fn authenticated(&self, source: IpAddr, now: Monotonic);
    /// Charges a failed authentication.
    fn charge_auth_failure(&self, source: IpAddr, now: Monotonic) -> Charge;
    /// Charges a guess made from `source`, whatever its own budget is.
    fn charge_guess(&self, source: IpAddr, guess: Guess, now: Monotonic) -> Charge;
    /// Whether a principal asked for too many objects of others; charges nothing. To be asked on routes that bind objects,
    /// before the object is looked at.
    fn enumeration_debt(&self, source: IpAddr, identity: &Identity, now: Monotonic) -> Charge;
    /// Charges an object, as a hash of what names it, that belongs to another. It counts once, however often it is asked
    /// for. Over: the answer is [`Refusal::EnumerationLimit`].
    fn foreign_object(&self, source: IpAddr, identity: &Identity, object: u64, now: Monotonic) -> Charge;
    /// Notes that a principal that asked for too many objects of others goes on: its source pays for that, and the
    /// connection, if the request came by one of ours, may end for it.
    fn goes_on(&self, source: IpAddr, identity: &Identity, connection: Option<&Connection>, now: Monotonic);
    /// Whether a client behind a trusted proxy is banned; the kernel sees the proxy alone.
    fn is_banned(&self, client: IpAddr) -> bool;
    /// Holds an offence against a source, which may be banned for it.
    fn offend(&self, source: IpAddr, offence: Offence, now: Monotonic);
    /// Charges a request.
    fn charge_request(&self, source: IpAddr, now: Monotonic) -> Charge;
}

/// Proof that a request was charged to its source and that the source has budget left. Only [`admit`]
/// makes one, for one request.
#[derive(Debug)]
pub struct Admitted(());

/// Charges the request to its source, whatever comes of it, before anything dearer is done for it.
pub fn admit(debts: &dyn SourceDebts, source: IpAddr, now: Monotonic) -> Result<Admitted, Refusal> {
    if let Charge::Over { retry_after } = debts.charge_request(source, now) {
        return Err(Refusal::RequestLimit { retry_after });
    }
    may_authenticate(debts, source, now)?;
    Ok(Admitted(()))
}

/// The same for a client behind a trusted proxy: the agent alone can tell that it is banned.
pub fn admit_behind_proxy(
    debts: &dyn SourceDebts,
    client: IpAddr,
    now: Monotonic,
) -> Result<Admitted, Refusal> {
    let admitted = admit(debts, client, now)?;
    if debts.is_banned(client) { Err(Refusal::SourceBanned) } else { Ok(admitted) }
}

/// Refuses a source that failed to authenticate too often; charges nothing.
pub fn may_authenticate(debts: &dyn SourceDebts, source: IpAddr, now: Monotonic) -> Result<(), Refusal> {
    match debts.auth_failure_debt(source, now) {
        Charge::Over { retry_after } => Err(Refusal::AuthFailureLimit { retry_after }),
        Charge::Within => Ok(()),
    }
}

/// The source that connections from `address` count against: an IPv6 client owns its whole prefix.
pub fn aggregate(address: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(ipv6_prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
        v4 => v4,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::Mutex;

    use super::*;

    /// Budgets that never refill.
    #[derive(Debug)]
    pub struct Fake {
        pub auth_failures: u32,
        pub requests: u32,
        pub banned: HashSet<IpAddr>,
        pub charged: Mutex<HashMap<IpAddr, Charged>>,
        /// How many objects of others a principal may ask for.
        pub foreign_budget: usize,
        /// By subject.
        pub foreign: Mutex<HashMap<String, HashSet<u64>>>,
        /// From where, who, and whether by a connection of ours; in order.
        pub going_on: Mutex<Vec<(IpAddr, String, bool)>>,
        /// In order.
        pub offences: Mutex<Vec<(IpAddr, Offence)>>,
        pub guess_budget: u32,
        pub guesses: Mutex<HashMap<u64, u32>>,
    }

    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct Charged {
        pub auth_failures: u32,
        pub known: bool,
        pub requests: u32,
    }

    pub const RETRY_AFTER: Duration = Duration::from_millis(1500);

    impl Fake {
        pub fn new(requests: u32, auth_failures: u32) -> Self {
            Self {
                auth_failures,
                requests,
                banned: HashSet::new(),
                charged: Mutex::default(),
                foreign_budget: usize::MAX,
                foreign: Mutex::default(),
                going_on: Mutex::default(),
                offences: Mutex::default(),
                guess_budget: u32::MAX,
                guesses: Mutex::default(),
            }
        }

        pub fn of(&self, source: IpAddr) -> Charged {
            self.charged.lock().unwrap().get(&source).copied().unwrap_or_default()
        }

        fn update(&self, source: IpAddr, update: impl FnOnce(&mut Charged)) {
            update(self.charged.lock().unwrap().entry(source).or_default());
        }
    }

    fn judge(charged: u32, budget: u32) -> Charge {
        if charged > budget { Charge::Over { retry_after: RETRY_AFTER } } else { Charge::Within }
    }

    impl SourceDebts for Fake {
        fn auth_failure_debt(&self, source: IpAddr, _: Monotonic) -> Charge {
            judge(self.of(source).auth_failures + 1, self.auth_failures)
        }

        fn authenticated(&self, source: IpAddr, _: Monotonic) {
            self.update(source, |charged| charged.known = true);
        }

        fn charge_auth_failure(&self, source: IpAddr, _: Monotonic) -> Charge {
            self.update(source, |charged| charged.auth_failures += 1);
            judge(self.of(source).auth_failures, self.auth_failures)
        }

        fn charge_guess(&self, _: IpAddr, guess: Guess, _: Monotonic) -> Charge {
            let mut guesses = self.guesses.lock().unwrap();
            let charged = guesses.entry(guess.0).or_default();
            *charged += 1;
            judge(*charged, self.guess_budget)
        }

        fn enumeration_debt(&self, _: IpAddr, identity: &Identity, _: Monotonic) -> Charge {
            let foreign = self.foreign.lock().unwrap();
            let objects = foreign.get(identity.subject()).map_or(0, HashSet::len);
            if objects >= self.foreign_budget {
                Charge::Over { retry_after: RETRY_AFTER }
            } else {
                Charge::Within
            }
        }

        fn foreign_object(&self, _: IpAddr, identity: &Identity, object: u64, _: Monotonic) -> Charge {
            let mut foreign = self.foreign.lock().unwrap();
            let objects = foreign.entry(identity.subject().to_owned()).or_default();
            if objects.len() >= self.foreign_budget && !objects.contains(&object) {
                return Charge::Over { retry_after: RETRY_AFTER };
            }
            objects.insert(object);
            Charge::Within
        }

        fn goes_on(
            &self,
            source: IpAddr,
            identity: &Identity,
            connection: Option<&Connection>,
            _: Monotonic,
        ) {
            let going = (source, identity.subject().to_owned(), connection.is_some());
            self.going_on.lock().unwrap().push(going);
        }

        fn is_banned(&self, client: IpAddr) -> bool {
            self.banned.contains(&client)
        }

        fn offend(&self, source: IpAddr, offence: Offence, _: Monotonic) {
            self.offences.lock().unwrap().push((source, offence));
        }

        fn charge_request(&self, source: IpAddr, _: Monotonic) -> Charge {
            self.update(source, |charged| charged.requests += 1);
            judge(self.of(source).requests, self.requests)
        }
    }

    #[test]
    fn a_request_over_a_budget_is_refused_by_the_budgets_name() {
        let source = IpAddr::from([192, 0, 2, 1]);
        let over = Some(Refusal::RequestLimit { retry_after: RETRY_AFTER });
        let guessing = Some(Refusal::AuthFailureLimit { retry_after: RETRY_AFTER });
        for (requests, auth_failures, expected) in
            [(1, 1, None), (0, 1, over), (1, 0, guessing), (0, 0, over)]
        {
            let debts = Fake::new(requests, auth_failures);
            assert_eq!(admit(&debts, source, Monotonic(0)).err(), expected);
            assert_eq!(debts.of(source).requests, 1);
        }
    }

    #[test]
    fn a_client_behind_a_proxy_is_charged_and_refused_if_it_is_banned() {
        let (banned, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let debts = Fake { banned: HashSet::from([banned]), ..Fake::new(2, 9) };
        let over = Some(Refusal::RequestLimit { retry_after: RETRY_AFTER });
        let admit = |client| admit_behind_proxy(&debts, client, Monotonic(0)).err();
        assert_eq!((admit(other), admit(other), admit(other)), (None, None, over));
        let refused = Some(Refusal::SourceBanned);
        assert_eq!((admit(banned), admit(banned), admit(banned)), (refused, refused, over));
    }

    #[test]
    fn an_ipv6_source_is_its_prefix_and_a_mapped_one_its_ipv4_address() {
        for (address, prefix, expected) in [
            ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::"),
            ("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8::1", 0, "::"),
            ("::ffff:192.0.2.7", 64, "192.0.2.7"),
            ("192.0.2.7", 64, "192.0.2.7"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(aggregate(address, prefix), expected.parse::<IpAddr>().unwrap(), "{address}/{prefix}");
        }
    }
}
