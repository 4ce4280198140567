//! The attacks on tokens that break gateways, each as a table of variants.

mod claims;
mod form;
mod inspection;
mod key_files;
mod laws;
pub(crate) mod mint;
mod published;
mod signatures;
