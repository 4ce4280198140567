//! What requests owe: in the memory that the kernel reads, and in the agent's own.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use auth_common::gcra::{self, Escalation, Limit};
use auth_common::table::Line;

use crate::allowlist::Allowlist;
use crate::authenticate::Guess;
use crate::ban_list::BanList;
use crate::clock::{Monotonic, UnixTime};
use crate::connections::Connection;
use crate::enumeration::{Enumeration, Noted};
use crate::guesses::Guesses;
use crate::identity::Identity;
use crate::kernel::{Budgets, Filter};
use crate::ladder::{Ladder, Offence};
use crate::limits::{Charge, SourceDebts};

/// How long a source counts as known after it authenticated (promise P16): long enough for a client that
/// polls every few minutes, short enough that an address that changes hands is a stranger again.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// The debts of sources, but for those on the allowlist: they owe nothing (promise P11).
pub(super) struct Debts {
    pub(super) allowlist: Arc<Allowlist>,
    pub(super) bans: Arc<BanList>,
    pub(super) enumeration: Arc<Enumeration>,
    pub(super) filter: Arc<Filter>,
    pub(super) guesses: Arc<Guesses>,
    pub(super) ladder: Arc<Ladder>,
}

impl SourceDebts for Debts {
    fn auth_failure_debt(&self, source: IpAddr, now: Monotonic) -> Charge {
        if self.allowlist.contains(source) {
            return Charge::Within;
        }
        let (budgets, sources) = (self.filter.budgets_of(source), self.filter.sources());
        let (limit, _) = budgets.auth_failures;
        let site = limit.times(budgets.site_factor);
        let debt = match sources.peek(source, |line, _| gcra::peek(&line.auth_failures, now.0, limit)) {
            over @ gcra::Charge::Over { .. } => over,
            // Who has a site has 65,536 sources to guess from.
            own @ gcra::Charge::Within => {
                let failed = |line: &Line<AtomicU64>| gcra::peek(&line.auth_failures, now.0, site);
                sources.peek_site(source, failed).unwrap_or(own)
            }
        };
        debt.into()
    }

    fn authenticated(&self, source: IpAddr, now: Monotonic) {
        let sources = self.filter.sources();
        if self.ladder.is_suspect(sources.key(source).get(), now) {
            return;
        }
        let until = now.0.saturating_add(KNOWN_FOR.as_nanos() as u64);
        sources.mark_known(source, Monotonic(until));
    }

    fn charge_auth_failure(&self, source: IpAddr, now: Monotonic) -> Charge {
        if self.allowlist.contains(source) {
            return Charge::Within;
        }
        self.charge(source, now, |budgets| budgets.auth_failures, |line| &line.auth_failures)
    }

    fn charge_guess(&self, source: IpAddr, guess: Guess, now: Monotonic) -> Charge {
        if self.allowlist.contains(source) {
            return Charge::Within;
        }
        self.guesses.charge(guess, now)
    }

    fn enumeration_debt(&self, source: IpAddr, identity: &Identity, now: Monotonic) -> Charge {
        match self.enumeration.debt(identity, now) {
            Charge::Over { .. } if self.allowlist.contains(source) => Charge::Within,
            debt => debt,
        }
    }

    fn foreign_object(&self, source: IpAddr, identity: &Identity, object: u64, now: Monotonic) -> Charge {
        if self.allowlist.contains(source) {
            return Charge::Within;
        }
        let key = self.filter.sources().key(source).get();
        match self.enumeration.foreign(key, identity, object, now) {
            Noted::Over { retry_after } => Charge::Over { retry_after },
            Noted::Now { against_source, slowed } => {
                if slowed {
                    self.enumeration.remember(source, identity, UnixTime::now());
                }
                if against_source {
                    // What it comes to, the source's next request finds out.
                    let _ = self.charge_auth_failure(source, now);
                    self.offend(source, Offence::Enumeration, now);
                }
                Charge::Within
            }
            Noted::Before => Charge::Within,
        }
    }

    fn goes_on(&self, source: IpAddr, identity: &Identity, connection: Option<&Connection>, now: Monotonic) {
        // What a proxy passes on comes by a connection of the proxy's, which others use, too.
        let own = connection.filter(|own| own.peer.ip() == source && own.has_one_user());
        if own.is_some_and(Connection::is_condemned) || !self.enumeration.goes_on(identity) {
            return;
        }
        if let Some(own) = own
            && !self.allowlist.contains(source)
            && self.ladder.end(source, own.id)
        {
            own.condemn();
        }
        self.offend(source, Offence::Enumeration, now);
    }

    fn is_banned(&self, client: IpAddr) -> bool {
        self.bans.contains(client) && !self.allowlist.contains(client)
    }

    fn offend(&self, source: IpAddr, offence: Offence, now: Monotonic) {
        if self.allowlist.contains(source) || !self.is_its_own(source, offence, now) {
            return;
        }
        let sources = self.filter.sources();
        let known = sources.peek(source, |line, shared| !shared && line.known_until.load(Relaxed) > now.0);
        let banned = self.ladder.charge(source, sources.key(source).get(), offence, known, now);
        if known && (banned || offence.costs_trust()) {
            sources.mark_known(source, Monotonic(0));
        }
    }

    fn charge_request(&self, source: IpAddr, now: Monotonic) -> Charge {
        if self.allowlist.contains(source) {
            return Charge::Within;
        }
        self.charge(source, now, |budgets| budgets.requests, |line| &line.requests)
    }
}

impl Debts {
    /// Whether a source is refused or dropped for what it owes itself: nobody is banned for the debts of its IPv6 site, or
    /// of a line that it shares.
    fn is_its_own(&self, source: IpAddr, offence: Offence, now: Monotonic) -> bool {
        let over = |debt: &AtomicU64, (limit, _): (Limit, Escalation)| {
            matches!(gcra::peek(debt, now.0, limit), gcra::Charge::Over { .. })
        };
        let sources = self.filter.sources();
        match offence {
            Offence::Drop => sources.peek(source, |_, shared| !shared),
            Offence::Limit => {
                let budgets = self.filter.budgets_of(source);
                sources.peek(source, |line, shared| {
                    let over = over(&line.requests, budgets.requests)
                        || over(&line.auth_failures, budgets.auth_failures);
                    !shared && over
                })
            }
            Offence::AuthFailure
            | Offence::Enumeration
            | Offence::Forged
            | Offence::Plaintext
            | Offence::Protocol
            | Offence::RouteLimit => true,
        }
    }

    /// Charges the source, and, if that has budget left, the IPv6 site that it shares a wider one with.
    fn charge(
        &self,
        source: IpAddr,
        now: Monotonic,
        limits: fn(&Budgets) -> (Limit, Escalation),
        debt: fn(&Line<AtomicU64>) -> &AtomicU64,
    ) -> Charge {
        let (budgets, sources) = (self.filter.budgets_of(source), self.filter.sources());
        let (limit, escalation) = limits(&budgets);
        let is_dropped = |line: &Line<AtomicU64>| gcra::debt(debt(line), now.0) > escalation.threshold;
        let (own, dropped) = sources.charge(source, now, |line| {
            let before = is_dropped(line);
            let own = gcra::charge_escalating(debt(line), now.0, limit, escalation);
            (own, !before && is_dropped(line))
        });
        if dropped {
            self.ladder.note_drop(source);
            self.offend(source, Offence::Drop, now);
        }
        let site = limit.times(budgets.site_factor);
        let charge = match own {
            gcra::Charge::Over { .. } => own,
            gcra::Charge::Within => {
                sources.charge_site(source, now, |line| gcra::charge(debt(line), now.0, site)).unwrap_or(own)
            }
        };
        charge.into()
    }
}
