//! The socket of a connection, which is reset where the connection is ended from outside, and which knows what a web page
//! can have a browser send in place of TLS.
//!
//! Closing it would do for most: but what is not yet sent would still go out, and a client that waits for a response
//! would learn of the end only behind it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::connections::Connection;

/// A TCP stream and whose it is.
#[derive(Debug)]
pub(super) struct Socket {
    /// Something was read.
    begun: bool,
    connection: Arc<Connection>,
    stream: TcpStream,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { begun: false, connection, stream }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.connection.is_ended() {
            // socket(7), SO_LINGER: with no time to linger, closing sends RST and forgets what is queued. Should that
            // fail, the connection ends as any other.
            let _ = self.stream.set_zero_linger();
        }
    }
}

/// What stands before the target of a request (RFC 9110, 9.1).
const METHODS: [&[u8]; 9] =
    [b"CONNECT ", b"DELETE ", b"GET ", b"HEAD ", b"OPTIONS ", b"PATCH ", b"POST ", b"PUT ", b"TRACE "];

/// The magic cookie of STUN, behind a type of which the first two bits are 0, and a length (RFC 8489, 5).
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Whether it is the beginning of what a web page can have the browsers of its visitors send to any port: a request in
/// plain HTTP, or one to a TURN server. No TLS record begins so.
fn is_of_a_page(first: &[u8]) -> bool {
    let is_stun = first.get(4..8) == Some(&STUN_COOKIE[..]) && first[0] < 0x40;
    is_stun || METHODS.iter().any(|method| first.starts_with(method))
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if !this.begun && read.is_ready() {
            this.begun = true;
            if is_of_a_page(&buffer.filled()[before..]) {
                this.connection.is_in_plaintext();
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_can_have_a_browser_send_is_told_from_tls_and_from_garbage() {
        let allocate = [&[0, 3, 0, 8][..], &STUN_COOKIE, &[7; 12]].concat();
        let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        for (first, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], true),
            (b"POST /x HTTP/1.1\r\n", true),
            (b"OPTIONS /x HTTP/1.1\r\n", true),
            (&allocate, true),
            (&hello, false),
            (b"GET", false),
            (b"get / HTTP/1.1\r\n", false),
            (b"SSH-2.0-x\r\n", false),
            (b"EHLO x\r\n", false),
            (b"\x80\x80\0\0\x21\x12\xa4\x42", false),
            (b"", false),
        ] {
            assert_eq!(is_of_a_page(first), expected, "{first:02x?}");
        }
    }
}
