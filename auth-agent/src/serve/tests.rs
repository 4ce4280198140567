//! The whole way of a request, over real sockets and real TLS.

mod answers;
mod api_keys;
mod certificates;
mod connections;
mod conversations;
mod edge;
mod endings;
mod explain;
mod http2;
mod http2_upstream;
mod internal_token;
mod issuer;
mod objects;
mod pool;
mod proxies;
mod raw;
mod requests;
mod resting;
mod revocation;
mod routes;
mod smuggling;
mod streaming;
mod tls_upstream;
mod upgrade;
mod upstream;
mod websocket;
