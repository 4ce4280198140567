//! Offences: what sources do wrong, what it costs them, and who is to be banned for it (promise P6).
//!
//! Points are a debt like any other: they are forgiven by time, and never forgotten before. Charging is all that the
//! request path does; a task of its own makes the bans. A ban pays for the points that led to it once it holds; until then
//! they are owed, and where no ban came of them, a later offence has it made. Only what came over an established connection
//! is charged, so that nobody is banned for packets that others sent in its name; and nobody is banned for the debts of a
//! line that it shares for want of one of its own.

mod steps;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use auth_common::gcra::{self, Limit};
use auth_common::packet::Address;
use auth_common::source::SourceKey;
use ipnet::IpNet;
use tokio::sync::mpsc;

pub use self::steps::climb;
use crate::clock::Monotonic;
use crate::config::{self, Config, Prices};
use crate::debt_table::{Owing, Table, Whose};
use crate::limits::aggregate;
use crate::network::{NetworkSet, host};
use crate::refusal::Refusal;
use crate::token::TokenError;

/// Groups of sources, of seven each: 28,672 offenders at a time, in one MiB.
const SOURCE_GROUPS: usize = 1 << 12;

/// Steps that wait to be written down. Where there is no room, a source is banned for its next offence.
const STEPS: usize = 4_096;

/// How long a ban may be on its way. After that, the next offence has it made again: what keeps it from being made is not
/// asked for more often.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// What a source can do wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Offence {
    /// A credential that does not hold.
    AuthFailure,
    /// It had to be dropped at the network card.
    Drop,
    /// An object of others, beyond what a principal may ask for.
    Enumeration,
    /// A token that somebody made up.
    Forged,
    /// A request over a limit of its source.
    Limit,
    /// What web pages can have browsers send in place of TLS.
    Plaintext,
    /// What is neither TLS nor HTTP, or abuses either.
    Protocol,
    /// A request over a `[[limit]]` or `[[quota]]` that tells sources apart and nothing about who they are: what a principal
    /// is over is not held against whoever shares its address.
    RouteLimit,
}

impl Offence {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AuthFailure,
        Self::Drop,
        Self::Enumeration,
        Self::Forged,
        Self::Limit,
        Self::Plaintext,
        Self::Protocol,
        Self::RouteLimit,
    ];

    /// Its name: lower case, words joined by hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthFailure => "auth-failure",
            Self::Drop => "drop",
            Self::Enumeration => "enumeration",
            Self::Forged => "forged",
            Self::Limit => "limit",
            Self::Plaintext => "plaintext",
            Self::Protocol => "protocol",
            Self::RouteLimit => "route-limit",
        }
    }

    /// What a request was refused for, as far as its source can be blamed for it.
    pub fn of(refusal: &Refusal) -> Option<Self> {
        match refusal {
            Refusal::AuthFailureLimit { .. } | Refusal::RequestLimit { .. } => Some(Self::Limit),
            Refusal::FramingInvalid => Some(Self::Protocol),
            Refusal::Quota { by_source: true, .. } | Refusal::RateLimit { by_source: true, .. } => {
                Some(Self::RouteLimit)
            }
            Refusal::Token(
                TokenError::Algorithm
                | TokenError::CriticalHeader
                | TokenError::DuplicateMember
                | TokenError::HeaderForbidden
                | TokenError::Signature,
            ) => Some(Self::Forged),
            refusal if refusal.is_auth_failure() => Some(Self::AuthFailure),
            _ => None,
        }
    }

    /// Whether a source that does it is a stranger from then on (promise P16).
    pub fn costs_trust(self) -> bool {
        matches!(self, Self::Drop | Self::Forged)
    }

    fn price(self, prices: &Prices) -> u8 {
        match self {
            Self::AuthFailure => prices.auth_failure,
            Self::Drop => prices.drop,
            Self::Enumeration => prices.enumeration,
            Self::Forged => prices.forged,
            Self::Limit | Self::RouteLimit => prices.limit,
            Self::Plaintext => prices.plaintext,
            Self::Protocol => prices.protocol,
        }
    }
}

/// A step up, to be written down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The source of this key is to be banned, for the offence that was one too many.
    Ban {
        /// Its key in the source table.
        key: u64,
        /// What is banned for it.
        network: IpNet,
        /// The offence.
        offence: Offence,
    },
    /// The source is dropped at the network card for what it owes.
    Drop(IpNet),
    /// The connection of this number is to end, and its packets to be dropped.
    End(u64),
}

/// What sources are charged by.
struct Rules {
    config: config::Ladder,
    ipv6_prefix: u8,
    known: Limit,
    /// Whoever is behind them is another.
    proxies: NetworkSet,
    stranger: Limit,
}

impl Rules {
    fn new(config: &Config) -> Self {
        let rate = config.ladder.rate;
        let stranger = Limit::new(rate.events.get(), rate.period.as_nanos() as u64, rate.burst.get());
        Self {
            config: config.ladder,
            ipv6_prefix: config.kernel.ipv6_prefix,
            known: stranger.times(config.ladder.known_factor.get()),
            proxies: NetworkSet::new(&config.proxies.trusted),
            stranger,
        }
    }
}

/// What is known of offenders.
pub struct Ladder {
    counts: [AtomicU64; Offence::ALL.len()],
    /// Steps that found no room.
    lost: AtomicU64,
    /// Until when anybody owes anything: who comes later need not be looked for.
    owed_until: AtomicU64,
    rules: ArcSwap<Rules>,
    sources: Table<Points>,
    steps: mpsc::Sender<Step>,
}

/// What a source owes, and for what.
#[derive(Default)]
struct Points {
    debt: AtomicU64,
    last: AtomicU64,
    /// Until when a ban is on its way; 0: none is.
    sentenced: AtomicU64,
}

impl Owing for Points {
    fn owes_nothing(&self, now: Monotonic) -> bool {
        self.debt.load(Relaxed) <= now.0 && self.sentenced.load(Relaxed) <= now.0
    }
}

/// A source that owes points.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offender {
    /// Its last offence.
    pub offence: Offence,
    /// What it owes.
    pub points: u64,
    /// Its key in the source table.
    pub key: u64,
}

impl Ladder {
    /// By this configuration, and the steps for [`climb`].
    pub fn new(config: &Config) -> (Self, mpsc::Receiver<Step>) {
        let (steps, receiver) = mpsc::channel(STEPS);
        let ladder = Self {
            counts: Default::default(),
            lost: AtomicU64::new(0),
            owed_until: AtomicU64::new(0),
            rules: ArcSwap::from_pointee(Rules::new(config)),
            sources: Table::new(SOURCE_GROUPS),
            steps,
        };
        (ladder, receiver)
    }

    /// From now on by another configuration; what is owed stays.
    pub fn configure(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::new(config)));
    }

    /// How bans are made.
    pub fn terms(&self) -> config::Ladder {
        self.rules.load().config
    }

    /// Charges an offence to a source, whose key in the source table this is; says whether it is to be banned. It has
    /// `known_factor` times the points if it authenticated lately.
    pub fn charge(&self, source: IpAddr, key: u64, offence: Offence, known: bool, now: Monotonic) -> bool {
        self.counts[offence as usize].fetch_add(1, Relaxed);
        let rules = self.rules.load();
        let price = u64::from(offence.price(&rules.config.prices));
        if !rules.config.on || price == 0 || rules.proxies.contains(source.to_canonical()) {
            return false;
        }
        let limit = if known { rules.known } else { rules.stranger };
        let (over, until) = self.sources.charge(key, now, |line, whose| {
            line.last.store(offence as u64, Relaxed);
            let over = !gcra::admits(&line.debt, now.0, limit, price) && line.is_over(limit, price, now);
            (over && whose == Whose::Own && line.sentence(now), line.debt.load(Relaxed))
        });
        self.owed_until.fetch_max(until, Relaxed);
        over && self.ban(key, rules.network(source), offence)
    }

    /// Whether a ban of the source of this key is on its way.
    pub fn is_sentenced(&self, key: u64) -> bool {
        self.sources.find(key).is_some_and(|line| line.sentenced.load(Relaxed) > 0)
    }

    /// Notes that a source is banned: that pays for what led to it. What counts from then on is how often it comes to one.
    pub fn pay(&self, key: u64, now: Monotonic) {
        if let Some(line) = self.sources.find(key)
            && line.sentenced.swap(0, Relaxed) > 0
        {
            line.debt.store(now.0, Relaxed);
        }
    }

    /// Notes bans that were not made because there are too many.
    pub fn note_lost(&self, bans: usize) {
        self.lost.fetch_add(bans as u64, Relaxed);
    }

    /// Notes that a source is dropped at the network card.
    pub fn note_drop(&self, source: IpAddr) {
        let rules = self.rules.load();
        if rules.config.on && !rules.proxies.contains(source.to_canonical()) {
            self.take(Step::Drop(rules.network(source)));
        }
    }

    /// Ends a connection from a source, rather than have that pay for it; not one from a proxy, which others use, too.
    pub fn end(&self, source: IpAddr, connection: u64) -> bool {
        !self.rules.load().proxies.contains(source.to_canonical()) && self.take(Step::End(connection))
    }

    /// Whether a source owes so much that authenticating earns it nothing: half of what makes a ban.
    pub fn is_suspect(&self, key: u64, now: Monotonic) -> bool {
        now.0 < self.owed_until.load(Relaxed)
            && self
                .sources
                .find(key)
                .is_some_and(|line| gcra::debt(&line.debt, now.0) > self.rules.load().stranger.tolerance / 2)
    }

    /// Offences by kind, in the order of [`Offence::ALL`].
    pub fn counts(&self) -> [u64; Offence::ALL.len()] {
        self.counts.each_ref().map(|count| count.load(Relaxed))
    }

    /// Steps that were not taken because too many came at once.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Who owes points, those who owe most first.
    pub fn offenders(&self, now: Monotonic) -> Vec<Offender> {
        let point = self.rules.load().stranger.increment;
        let mut offenders: Vec<_> = self
            .sources
            .owned()
            .filter_map(|(key, line)| {
                let points = gcra::debt(&line.debt, now.0).div_ceil(point);
                let offence = Offence::ALL[line.last.load(Relaxed) as usize % Offence::ALL.len()];
                (points > 0).then_some(Offender { key, offence, points })
            })
            .collect();
        offenders.sort_unstable_by_key(|offender| (u64::MAX - offender.points, offender.key));
        offenders
    }

    /// The source of a key.
    pub fn network(&self, key: u64) -> IpNet {
        let address = match SourceKey::address(key) {
            Address::V4(octets) => IpAddr::from(octets),
            Address::V6(octets) => IpAddr::from(octets),
        };
        self.rules.load().network(address)
    }

    /// A ban for which there is no room is not on its way.
    fn ban(&self, key: u64, network: IpNet, offence: Offence) -> bool {
        let taken = self.take(Step::Ban { key, network, offence });
        if !taken && let Some(line) = self.sources.find(key) {
            line.sentenced.store(0, Relaxed);
        }
        taken
    }

    fn take(&self, step: Step) -> bool {
        let taken = self.steps.try_send(step).is_ok();
        if !taken {
            self.lost.fetch_add(1, Relaxed);
        }
        taken
    }
}

impl Rules {
    /// What is banned for it.
    fn network(&self, source: IpAddr) -> IpNet {
        match aggregate(source, self.ipv6_prefix) {
            IpAddr::V6(prefix) => IpNet::new(prefix.into(), self.ipv6_prefix).unwrap_or(host(source)),
            address => host(address),
        }
    }
}

impl Points {
    /// Notes that it is to be banned; says whether that is not on its way already.
    fn sentence(&self, now: Monotonic) -> bool {
        let before = self.sentenced.load(Relaxed);
        let until = now.0.saturating_add(UNDER_WAY.as_nanos() as u64);
        before <= now.0 && self.sentenced.compare_exchange(before, until, Relaxed, Relaxed).is_ok()
    }

    /// Whether it was refused for what it owes, rather than for losing a race.
    fn is_over(&self, limit: Limit, price: u64, now: Monotonic) -> bool {
        let debt = gcra::debt(&self.debt, now.0);
        debt.saturating_add(limit.increment.saturating_mul(price)) > limit.tolerance
    }
}
