//! Who asked last, and from where, in the words of policies: what is made of a token's claims, or of an address, is made
//! once for many requests.
//!
//! The memory is fixed in number: whoever comes takes the place of who was there before.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use cedar_policy::{Entity, EntityUid, RestrictedExpression as Value};

use crate::identity::Identity;

/// How many are remembered, a power of two.
const PLACES: usize = 1_024;

/// Identities lie at least so far apart.
const APART: usize = align_of::<Identity>();

/// 2^64 divided by the golden ratio: what it multiplies is spread, also neighbours and equal distances.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A principal.
#[derive(Debug)]
pub(super) struct Principal {
    pub authentication: Value,
    pub entity: Entity,
    pub scopes: Value,
    pub uid: EntityUid,
}

/// Principals by the very identity that each was made of, which is kept alive, so that no other can have its address.
#[derive(Debug, Default)]
pub(super) struct Principals(Recent<(Arc<Identity>, Principal)>);

/// Addresses.
#[derive(Debug, Default)]
pub(super) struct Sources(Recent<(IpAddr, Value)>);

#[derive(Debug)]
struct Recent<T>(Box<[ArcSwapOption<T>]>);

impl Principals {
    /// The principal of an identity, made now if it is not remembered. `None`: it can't be made.
    pub fn of(
        &self,
        identity: &Arc<Identity>,
        make: impl FnOnce(&Identity) -> Option<Principal>,
    ) -> Option<Arc<(Arc<Identity>, Principal)>> {
        let is = |(known, _): &(Arc<Identity>, _)| Arc::ptr_eq(known, identity);
        let address = Arc::as_ptr(identity) as usize / APART;
        self.0.of(address as u64, is, || Some((Arc::clone(identity), make(identity)?)))
    }
}

impl Sources {
    /// An address.
    pub fn of(&self, source: IpAddr) -> Value {
        let number = match source {
            IpAddr::V4(source) => u64::from(source.to_bits()),
            IpAddr::V6(source) => (source.to_bits() ^ (source.to_bits() >> 64)) as u64,
        };
        let make = || (source, Value::new_ip(source.to_string()));
        match self.0.of(number, |(known, _)| *known == source, || Some(make())) {
            Some(known) => known.1.clone(),
            None => make().1,
        }
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self((0..PLACES).map(|_| ArcSwapOption::empty()).collect())
    }
}

impl<T> Recent<T> {
    /// What `is` wanted, whose place comes of `number`; made now if it is not there. `None`: it can't be made.
    fn of(&self, number: u64, is: impl Fn(&T) -> bool, make: impl FnOnce() -> Option<T>) -> Option<Arc<T>> {
        let place = &self.0[number.wrapping_mul(SPREAD) as usize >> (usize::BITS - PLACES.ilog2())];
        if let Some(known) = place.load().as_ref().filter(|known| is(known)) {
            return Some(Arc::clone(known));
        }
        let made = Arc::new(make()?);
        place.store(Some(Arc::clone(&made)));
        Some(made)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::identity::Method;
    use crate::identity::tests::someone;
    use crate::policy::cedar::values::Types;

    /// How many places are taken.
    fn taken<T>(recent: &Recent<T>) -> usize {
        recent.0.iter().filter(|place| place.load().is_some()).count()
    }

    #[test]
    fn a_principal_is_made_once_while_nobody_takes_its_place() {
        let (principals, types) = (Principals::default(), Types::new().unwrap());
        let make = |identity: &Identity| types.principal(identity, &[]);
        let alice = someone(Method::Jwt, "alice", &[]);
        let made = principals.of(&alice, make).unwrap();
        assert!(Arc::ptr_eq(&principals.of(&alice, |_| None).unwrap(), &made));
        // Of the same name, and another.
        let other = someone(Method::Jwt, "alice", &["admin"]);
        assert!(principals.of(&other, |_| None).is_none());
        assert_eq!(principals.of(&other, make).unwrap().1.uid, made.1.uid);
        let crowd: Vec<_> = (0..4 * PLACES).map(|_| someone(Method::Jwt, "crowd", &[])).collect();
        for one in &crowd {
            assert_eq!(AsRef::<str>::as_ref(principals.of(one, make).unwrap().1.uid.id()), "crowd");
        }
        assert_eq!(
            principals.of(&alice, make).unwrap().1.uid,
            made.1.uid,
            "whoever has been there meanwhile"
        );
        assert!(taken(&principals.0) > PLACES / 2, "{}", taken(&principals.0));
    }

    #[test]
    fn an_address_is_itself_however_many_have_been_there() {
        let sources = Sources::default();
        for number in 0..4 * PLACES as u32 {
            let four = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
            let six = IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number) << 64 | 7));
            for source in [four, six, four] {
                let expected = Value::new_ip(source.to_string());
                assert_eq!(format!("{:?}", sources.of(source)), format!("{expected:?}"));
            }
        }
        assert!(taken(&sources.0) > PLACES / 2, "{}", taken(&sources.0));
    }
}
