pub(crate) mod authority;
mod challenges;
mod clients;
mod files;
mod handshakes;
mod names;
mod reload;
