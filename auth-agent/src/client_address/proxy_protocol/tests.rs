use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

fn client(text: &str) -> Option<Said> {
    Some(Said::Client(text.parse().unwrap()))
}

/// What is said by a stream that starts with these pieces, and what is left of it.
async fn said(pieces: &[&[u8]]) -> (Option<Said>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    sender.set_nodelay(true).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let write = async {
        for piece in pieces {
            sender.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(sender);
    };
    let (said, ()) = tokio::join!(read(&mut stream), write);
    let mut left = Vec::new();
    stream.read_to_end(&mut left).await.unwrap();
    (said.ok(), left)
}

#[tokio::test]
async fn a_header_is_read_to_its_last_byte_and_no_further() {
    let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb];
    let with_values = [&v4[..], &[0x20, 0, 3, 1, 2, 3]].concat();
    let v6 = [
        &"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()[..],
        &Ipv6Addr::LOCALHOST.octets(),
        &[0, 1, 0x01, 0xbb],
    ]
    .concat();
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 443\r\n".to_vec(), client("192.0.2.1:12345")),
        (b"PROXY TCP6 2001:db8::7 ::1 1 443\r\n".to_vec(), client("[2001:db8::7]:1")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Some(Said::Own)),
        (b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n".to_vec(), Some(Said::Own)),
        (v2(0x21, 0x11, &v4), client("192.0.2.1:12345")),
        (v2(0x21, 0x11, &with_values), client("192.0.2.1:12345")),
        (v2(0x21, 0x21, &v6), client("[2001:db8::7]:1")),
        (v2(0x20, 0x00, &[]), Some(Said::Own)),
        (v2(0x20, 0x11, &v4), Some(Said::Own)),
        (v2(0x21, 0x00, &[1, 2, 3]), Some(Said::Own)),
    ] {
        let shown = String::from_utf8_lossy(&header).into_owned();
        assert_eq!(said(&[&header, b"\x16rest"]).await, (expected, b"\x16rest".to_vec()), "{shown}");
        let (first, second) = header.split_at(header.len() / 2);
        assert_eq!(said(&[first, second, b"\x16"]).await, (expected, b"\x16".to_vec()), "{shown}");
        let bytes: Vec<&[u8]> = header.chunks(1).collect();
        assert_eq!(said(&bytes).await, (expected, vec![]), "{shown}");
    }
}

#[tokio::test]
async fn anything_else_is_no_header() {
    let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb];
    let long = [&b"PROXY UNKNOWN "[..], &[b'a'; 200], b"\r\n"].concat();
    let huge = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
    for bytes in [
        b"".to_vec(),
        b"PROXY".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 ClientHello".to_vec(),
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n".to_vec(),
        b"PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.01 10.0.0.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n".to_vec(),
        b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
        b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
        b"PROXY UNKNOWNX\r\n".to_vec(),
        b"proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
        long,
        huge,
        v2(0x11, 0x11, &v4),
        v2(0x22, 0x11, &v4),
        v2(0x21, 0x12, &v4),
        v2(0x21, 0x31, &[0; 216]),
        v2(0x21, 0x11, &v4[..11]),
        v2(0x21, 0x21, &v4),
        v2(0x21, 0x11, &[]),
        v2(0x21, 0x11, &v4)[..20].to_vec(),
    ] {
        let (said, _) = said(&[&bytes]).await;
        assert_eq!(said, None, "{}", String::from_utf8_lossy(&bytes));
    }
}
