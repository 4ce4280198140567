pub(crate) mod authority;
mod clients;
mod files;
mod handshakes;
mod names;
mod reload;
