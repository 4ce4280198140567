//! The keys of issuers that publish them, fetched from real HTTPS servers that misbehave in every way (ATTACKS 13).

mod endings;
mod files;
mod lab;
mod lifecycle;
mod server;
