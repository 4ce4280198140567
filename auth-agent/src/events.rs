//! Samples of packets, on their way from the kernel to whoever listens.
//!
//! The kernel samples while there is a subscription, and no longer; nobody who reads slowly holds up the others.

mod hub;
mod sample;
mod subscription;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod wanted;

pub use self::hub::{Hub, MAX_SUBSCRIPTIONS, SubscribeError, Switch};
pub use self::sample::{Line, Sample};
pub use self::subscription::Subscription;
pub use self::wanted::{DEFAULT_RATE, MAX_RATE, UnknownReason, Wanted, parse_reasons};
