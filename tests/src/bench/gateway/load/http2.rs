//! HTTP/2 (RFC 9113), as much as a client needs that sends one request over and over: its frames, and the beginning of
//! its answers' field blocks.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Load, Tally};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames (section 6), and flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const HEAD: usize = 9;

const BUFFER: usize = 64 << 10;
/// The largest window, less the first one.
const WINDOW: u32 = 0x7fff_ffff - 65_535;
/// Answers after which the connection's window is opened anew; small ones do not use it up before.
const REFRESH: u64 = 100_000;

/// As many requests at a time, on one connection.
pub async fn ask(load: &Load, tally: &Tally, streams: usize) -> Result<()> {
    ensure!(load.status == "200", "only good answers are read over HTTP/2");
    let mut stream = load.dialer.dial().await?;
    let mut connection = Connection::new(load, streams)?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        stream.write_all(&connection.out).await?;
        stream.flush().await?;
        connection.out.clear();
        match stream.read(&mut buffer[filled..]).await? {
            0 => bail!("the connection ended"),
            read => filled += read,
        }
        let used = connection.take(&buffer[..filled], tally)?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

struct Connection {
    answers: u64,
    /// Requests that are open, by their stream; few.
    open: VecDeque<(u32, Instant)>,
    /// What is to be sent.
    out: Vec<u8>,
    /// The request's field block, after its fields have been indexed.
    indexed: Vec<u8>,
    next: u32,
}

impl Connection {
    fn new(load: &Load, streams: usize) -> Result<Self> {
        let request = load.requests.next().context("no request")?;
        let (first, indexed) = field_blocks(&request)?;
        let mut connection =
            Self { answers: 0, open: VecDeque::new(), out: PREFACE.to_vec(), indexed, next: 1 };
        // No push; streams get the largest window.
        let settings = [0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
        frame(&mut connection.out, SETTINGS, 0, 0, &settings);
        frame(&mut connection.out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        connection.request(Some(&first));
        (1..streams).for_each(|_| connection.request(None));
        Ok(connection)
    }

    fn request(&mut self, block: Option<&[u8]>) {
        let block = block.unwrap_or(&self.indexed);
        frame(&mut self.out, HEADERS, END_HEADERS | END_STREAM, self.next, block);
        self.open.push_back((self.next, Instant::now()));
        self.next += 2;
    }

    /// Takes all whole frames; returns how many bytes they are.
    fn take(&mut self, bytes: &[u8], tally: &Tally) -> Result<usize> {
        let mut used = 0;
        while let Some((head, rest)) = bytes[used..].split_first_chunk::<HEAD>() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some(payload) = rest.get(..length) else { break };
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.frame(head[3], head[4], stream, payload, tally)?;
            used += HEAD + length;
        }
        Ok(used)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], tally: &Tally) -> Result<()> {
        match kind {
            HEADERS => {
                ensure!(is_ok(payload), "answered something else than 200 on stream {stream}");
                if flags & END_STREAM != 0 {
                    self.answered(stream, tally)?;
                }
            }
            DATA if flags & END_STREAM != 0 => self.answered(stream, tally)?,
            SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, b""),
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            RST_STREAM => bail!("stream {stream} was reset ({payload:?})"),
            GOAWAY => bail!("the connection was ended ({payload:?})"),
            CONTINUATION => bail!("fields in more than one frame"),
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, stream: u32, tally: &Tally) -> Result<()> {
        let at = self.open.iter().position(|(open, _)| *open == stream).context("an answer to nothing")?;
        if let Some((_, start)) = self.open.remove(at) {
            tally.add(start.elapsed());
        }
        self.answers += 1;
        if self.answers.is_multiple_of(REFRESH) {
            frame(&mut self.out, WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes());
        }
        self.request(None);
        Ok(())
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// `:status: 200` of HPACK's static table, perhaps behind changes of the dynamic table's size (RFC 7541, 6.3).
fn is_ok(block: &[u8]) -> bool {
    const SIZE_UPDATE: std::ops::Range<u8> = 0x20..0x3f;
    block.iter().find(|byte| !SIZE_UPDATE.contains(byte)) == Some(&0x88)
}

/// The fields of an HTTP/1.1 request that has these four, put into the dynamic table; and the same by their indices.
fn field_blocks(request: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let text = std::str::from_utf8(request)?;
    let path = text.split(' ').nth(1).context("no path")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.with_context(|| format!("a request without {name}"))
    };
    // `:method: GET` and `:scheme: https`.
    let (mut first, mut indexed) = (vec![0x82, 0x87], vec![0x82, 0x87]);
    let named = [(4, path), (1, field("Host")?), (58, field("User-Agent")?), (19, field("Accept")?)];
    for (at, (name, value)) in named.into_iter().enumerate() {
        first.extend([0x40 | name, u8::try_from(value.len()).context("a long field")?]);
        first.extend(value.bytes());
        // The dynamic table's first index is the newest field's.
        indexed.push(0x80 | (62 + named.len() - 1 - at) as u8);
    }
    Ok((first, indexed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_indexed_from_the_second_request_on() {
        let request = b"GET /x HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\nAccept: */*\r\n\r\n";
        let blocks = field_blocks(request).ok();
        let first = b"\x82\x87\x44\x02/x\x41\x01h\x7a\x01u\x53\x03*/*".to_vec();
        assert_eq!(blocks, Some((first, vec![0x82, 0x87, 0xc1, 0xc0, 0xbf, 0xbe])));
    }

    #[test]
    fn good_answers_are_told_from_others() {
        for (block, ok) in [(&[0x88][..], true), (&[0x20, 0x88], true), (&[0x8d], false), (&[], false)] {
            assert_eq!(is_ok(block), ok, "{block:?}");
        }
    }
}
