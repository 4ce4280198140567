//! The whole way of a request, over real sockets and real TLS.

mod answers;
mod api_keys;
mod certificates;
mod connections;
mod edge;
mod endings;
mod http2;
mod issuer;
mod requests;
mod resting;
mod revocation;
mod smuggling;
mod streaming;
mod upgrade;
mod upstream;
