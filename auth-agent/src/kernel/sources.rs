//! The agent's side of the source table: HTTP debts, and looking a source up.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;

use auth_common::packet::Address;
use auth_common::source::SourceKey;
use auth_common::table::{Group, LINES_PER_GROUP, Line, Place, Shape};
use auth_common::word::Word;

use super::memory::Shared;
use crate::clock::Monotonic;

/// The table that the kernel charges packets in, and the agent HTTP requests.
pub struct SourceTable {
    groups: Shared<Group<AtomicU64>>,
    shape: Shape,
}

impl SourceTable {
    /// The table of `shape` in `groups`.
    pub fn new(groups: Shared<Group<AtomicU64>>, shape: Shape) -> Self {
        Self { groups, shape }
    }

    /// Its shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Charges the line of `source`, which may be the line that newcomers share.
    pub fn charge<T>(&self, source: IpAddr, now: Monotonic, charge: impl Fn(&Line<AtomicU64>) -> T) -> T {
        let (group, key, place) = self.locate(source);
        let seat = group.seat(key, place, now.0);
        let answer = charge(seat.line());
        if seat.holds() { answer } else { charge(group.overflow(key).line()) }
    }

    /// Charges the line of the IPv6 site that `source` belongs to; `None` for IPv4.
    pub fn charge_site<T>(
        &self,
        source: IpAddr,
        now: Monotonic,
        charge: impl Fn(&Line<AtomicU64>) -> T,
    ) -> Option<T> {
        let key = SourceKey::site(as_packet_address(source), self.shape.ipv6_site_mask)?;
        let (group, place) = self.group(key);
        Some(charge(group.seat(key, place, now.0).line()))
    }

    /// Reads the line of `source`, taking none. The flag says whether it is the shared one.
    pub fn peek<T>(&self, source: IpAddr, read: impl Fn(&Line<AtomicU64>, bool) -> T) -> T {
        let (group, key, place) = self.locate(source);
        match group.find(key, place) {
            Some(seat) => read(seat.line(), false),
            None => read(group.overflow(key).line(), true),
        }
    }

    /// Reads the line of the IPv6 site that `source` belongs to, taking none; `None` for IPv4.
    pub fn peek_site<T>(&self, source: IpAddr, read: impl Fn(&Line<AtomicU64>) -> T) -> Option<T> {
        let key = SourceKey::site(as_packet_address(source), self.shape.ipv6_site_mask)?;
        let (group, place) = self.group(key);
        Some(read(group.find(key, place).unwrap_or_else(|| group.overflow(key)).line()))
    }

    /// Has `source` owe nothing of one debt, if it has a line of its own, and says whether it owed any.
    pub fn forgive(
        &self,
        source: IpAddr,
        now: Monotonic,
        debt: impl Fn(&Line<AtomicU64>) -> &AtomicU64,
    ) -> bool {
        let (group, key, place) = self.locate(source);
        let Some(seat) = group.find(key, place) else { return false };
        let debt = debt(seat.line());
        loop {
            let arrival = debt.read();
            if arrival <= now.0 || !seat.holds() {
                return false;
            }
            if debt.replace(arrival, now.0) {
                return true;
            }
        }
    }

    /// Marks `source` as known until `until`, if it has a line of its own.
    pub fn mark_known(&self, source: IpAddr, until: Monotonic) {
        let (group, key, place) = self.locate(source);
        if let Some(seat) = group.find(key, place) {
            seat.line().known_until.write(until.0);
        }
    }

    /// Sources that owe something or are known at the moment. Reads the whole table.
    pub fn occupied(&self, now: Monotonic) -> usize {
        self.groups.elements().iter().map(|group| group.occupied(now.0)).sum()
    }

    /// Lines that sources can have.
    pub fn capacity(&self) -> usize {
        self.groups.elements().len() * (LINES_PER_GROUP - 1)
    }

    /// Where `source` lies, and the tag of its cached rules.
    pub fn place(&self, source: IpAddr) -> Place {
        self.shape.place(self.key(source))
    }

    /// What `source` is told from others by.
    pub fn key(&self, source: IpAddr) -> SourceKey {
        SourceKey::new(as_packet_address(source), self.shape.ipv6_mask)
    }

    fn locate(&self, source: IpAddr) -> (&Group<AtomicU64>, SourceKey, Place) {
        let key = self.key(source);
        let (group, place) = self.group(key);
        (group, key, place)
    }

    fn group(&self, key: SourceKey) -> (&Group<AtomicU64>, Place) {
        let place = self.shape.place(key);
        let groups = self.groups.elements();
        // The mask keeps every place inside the table; the remainder spares a panic path.
        (&groups[place.group as usize % groups.len()], place)
    }
}

/// The address as a packet from it carries it.
pub(super) fn as_packet_address(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(address) => Address::V4(address.octets()),
        IpAddr::V6(address) => Address::V6(address.octets()),
    }
}
