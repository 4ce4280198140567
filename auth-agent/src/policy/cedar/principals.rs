//! Who asked last, in the words of policies: what is made of a token's claims is made once for many of its requests.
//!
//! The memory is fixed in number: whoever comes takes the place of who was there before. An entry is found by the very
//! identity that it was made of, which it keeps alive, so that no other can have its address.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use cedar_policy::{Entity, EntityUid};

use crate::identity::Identity;

/// Principals that are remembered, a power of two.
const PLACES: usize = 1_024;

/// Identities lie at least so far apart.
const APART: usize = align_of::<Identity>();

/// A principal.
#[derive(Debug)]
pub(super) struct Principal {
    pub entity: Entity,
    pub uid: EntityUid,
    identity: Arc<Identity>,
}

/// Those who asked last.
#[derive(Debug)]
pub(super) struct Principals(Box<[ArcSwapOption<Principal>]>);

impl Default for Principals {
    fn default() -> Self {
        Self((0..PLACES).map(|_| ArcSwapOption::empty()).collect())
    }
}

impl Principals {
    /// The principal of an identity, made now if it is not remembered. `None`: it can't be made.
    pub fn of(
        &self,
        identity: &Arc<Identity>,
        make: impl FnOnce(&Identity) -> Option<(Entity, EntityUid)>,
    ) -> Option<Arc<Principal>> {
        let place = &self.0[place(identity)];
        if let Some(known) = place.load().as_ref().filter(|known| Arc::ptr_eq(&known.identity, identity)) {
            return Some(Arc::clone(known));
        }
        let (entity, uid) = make(identity)?;
        let made = Arc::new(Principal { entity, uid, identity: Arc::clone(identity) });
        place.store(Some(Arc::clone(&made)));
        Some(made)
    }
}

fn place(identity: &Arc<Identity>) -> usize {
    let address = Arc::as_ptr(identity) as usize / APART;
    // Multiplied by 2^64 divided by the golden ratio, neighbours and equal distances are spread.
    (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (usize::BITS - PLACES.ilog2())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::identity::Method;
    use crate::identity::tests::someone;
    use crate::policy::cedar::values::Types;

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
        assert_eq!(principals.of(&other, make).unwrap().uid, made.uid);
        let crowd: Vec<_> = (0..4 * PLACES).map(|_| someone(Method::Jwt, "crowd", &[])).collect();
        for one in &crowd {
            assert_eq!(AsRef::<str>::as_ref(principals.of(one, make).unwrap().uid.id()), "crowd");
        }
        assert_eq!(principals.of(&alice, make).unwrap().uid, made.uid, "whoever has been there meanwhile");
        let taken: HashSet<_> = crowd.iter().map(place).collect();
        assert!(taken.len() > PLACES / 2, "{}", taken.len());
    }
}
