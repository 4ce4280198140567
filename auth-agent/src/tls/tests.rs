mod authority;
mod files;
mod handshakes;
mod names;
mod reload;
