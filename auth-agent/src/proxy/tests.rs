//! The way to the upstreams, over real sockets.
