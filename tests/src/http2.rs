//! HTTP/2 frame by frame (RFC 9113): what no well-behaved client can be made to send, and what comes back.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (section 6).
pub mod kind {
    #![allow(missing_docs, reason = "the names of RFC 9113")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    #![allow(missing_docs, reason = "the names of RFC 9113")]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
    /// A request without a body, in one frame.
    pub const WHOLE: u8 = END_STREAM | END_HEADERS;
}

/// Error codes (section 7).
pub mod code {
    #![allow(missing_docs, reason = "the names of RFC 9113")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

const PATIENCE: Duration = Duration::from_secs(10);
/// What tells the answer to the last thing that was sent from those before.
const MARK: &[u8; 8] = b"the end.";

/// One frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Its flags.
    pub flags: u8,
    /// Its type.
    pub kind: u8,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Its stream.
    pub stream: u32,
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field block of literals that leave no trace in the dynamic table (RFC 7541, 6.2.2), nothing in it compressed.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, 0, 7, text.len());
            block.extend(*text);
        }
    }
    block
}

/// An integer behind a prefix of so many bits (RFC 7541, 5.1).
pub fn integer(block: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        block.push(first | number as u8);
        return;
    }
    block.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        block.push(0x80 | rest as u8 & 0x7f);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// What became of something that was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A response with this status on the stream that was asked about.
    Answered(u16),
    /// The whole connection ended, with the last GOAWAY's code if there was one.
    Ended(Option<u32>),
    /// Nothing, and the connection goes on.
    Nothing,
    /// The stream was reset with this code.
    Reset(u32),
}

/// A connection, as the client sees it.
pub struct Http2<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http2<S> {
    /// Begins with the preface and these settings.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn begin(mut stream: S, settings: &[u8]) -> Result<Self> {
        let settings = frame(kind::SETTINGS, 0, 0, settings);
        stream.write_all(&[PREFACE, &settings].concat()).await?;
        stream.flush().await?;
        Ok(Self { stream })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next frame; nothing where the connection ended.
    ///
    /// # Errors
    /// There is neither within ten seconds.
    pub async fn frame(&mut self) -> Result<Option<Frame>> {
        timeout(PATIENCE, self.next()).await.context("neither a frame nor an end")
    }

    /// An end may come anywhere, and in any way.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { flags: head[4], kind: head[3], payload, stream })
    }

    /// What becomes of a stream: until it is answered, reset, or the connection ends.
    ///
    /// # Errors
    /// None of that happens.
    pub async fn fate(&mut self, stream: u32) -> Result<Outcome> {
        let mut goaway = None;
        while let Some(frame) = self.frame().await? {
            match frame.kind {
                kind::HEADERS if frame.stream == stream => {
                    return Ok(Outcome::Answered(status(&frame.payload)?));
                }
                kind::RST_STREAM if frame.stream == stream => return Ok(Outcome::Reset(last_word(&frame))),
                kind::GOAWAY => goaway = Some(last_word(&frame)),
                _ => {}
            }
        }
        Ok(Outcome::Ended(goaway))
    }

    /// What becomes of what was sent, and of a stream that it is about: like [`Self::fate`], but it may be that nothing
    /// does. Frames are taken in order, so an answered PING says that all before it has been.
    ///
    /// # Errors
    /// The connection neither goes on nor ends.
    pub async fn outcome(&mut self, stream: u32) -> Result<Outcome> {
        // The other side may have ended already.
        let _ = self.send(&frame(kind::PING, 0, 0, MARK)).await;
        let mut goaway = None;
        let mut outcome = Outcome::Nothing;
        while let Some(frame) = self.frame().await? {
            match frame.kind {
                kind::HEADERS if frame.stream == stream => {
                    outcome = Outcome::Answered(status(&frame.payload)?);
                }
                kind::RST_STREAM if frame.stream == stream && outcome == Outcome::Nothing => {
                    outcome = Outcome::Reset(last_word(&frame));
                }
                kind::GOAWAY => goaway = Some(last_word(&frame)),
                kind::PING if frame.payload == MARK => return Ok(outcome),
                _ => {}
            }
        }
        Ok(Outcome::Ended(goaway))
    }
}

/// The error code: the last of RST_STREAM, and of GOAWAY without more data.
fn last_word(frame: &Frame) -> u32 {
    let at = if frame.kind == kind::GOAWAY { 4 } else { 0 };
    let word = frame.payload.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(u32::MAX, u32::from_be_bytes)
}

/// The status of a response's field block, which begins with it: an index of the static table, or a literal of a name
/// in it, whose digits may be compressed (RFC 7541, appendix B).
///
/// # Errors
/// It does not begin so.
pub fn status(block: &[u8]) -> Result<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let sizes = block.iter().take_while(|byte| *byte & 0xe0 == 0x20).count();
    let (first, rest) = block[sizes..].split_first().context("an empty field block")?;
    if let 0x88..=0x8e = first {
        return Ok(INDEXED[usize::from(first - 0x88)]);
    }
    let is_status = matches!(first, 0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e);
    let (length, text) = rest.split_first().context("no value")?;
    let text = text.get(..usize::from(length & 0x7f)).context("a short value")?;
    match (is_status, length & 0x80) {
        (true, 0) => Ok(std::str::from_utf8(text)?.parse()?),
        (true, _) => digits(text),
        _ => bail!("no status first, but {block:?}"),
    }
}

/// `0` to `2` are five bits, the others six.
fn digits(text: &[u8]) -> Result<u16> {
    let bit = |at: usize| text.get(at / 8).map(|byte| u16::from(byte >> (7 - at % 8) & 1));
    let bits = |at: usize, count: usize| (at..at + count).try_fold(0, |bits, at| Some(bits << 1 | bit(at)?));
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let short = bits(at, 5).context("three digits")?;
        let (digit, length) = match short {
            0..=2 => (short, 5),
            _ => (bits(at, 6).and_then(|six| six.checked_sub(22)).context("no digit")?, 6),
        };
        number = number * 10 + digit;
        at += length;
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_forms() {
        let cases: [(&[u8], u16); 4] = [
            (&[0x88], 200),
            (&[0x20, 0x8c], 400),
            (b"\x48\x03421", 421),
            // RFC 7541, C.6.1.
            (&[0x48, 0x82, 0x64, 0x02], 302),
        ];
        for (block, expected) in cases {
            assert_eq!(status(block).ok(), Some(expected), "{block:?}");
        }
        assert!(status(&[0x82]).is_err());
    }

    #[test]
    fn integers_are_those_of_the_rfc() {
        // RFC 7541, C.1.
        for (bits, number, expected) in [(5, 10, &[10][..]), (5, 1_337, &[31, 154, 10]), (8, 42, &[42])] {
            let mut block = Vec::new();
            integer(&mut block, 0, bits, number);
            assert_eq!(block, expected);
        }
    }
}
