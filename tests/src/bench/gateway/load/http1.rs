//! HTTP/1.1, as much as the answers of this benchmark need: a status and a Content-Length.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Load, Tally};

/// What is read at a time; a head must fit.
const BUFFER: usize = 64 << 10;
/// Connections in a row that end before they answer.
const TRIES: u32 = 3;

/// An answer whose body has been read.
struct Answer {
    /// The connection ends with it.
    closes: bool,
    status: [u8; 3],
}

/// One request after the other; a connection that ends between two is followed by another.
pub async fn ask(load: &Load, tally: &Tally) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut failures = 0;
    while failures < TRIES {
        let mut stream = load.dialer.dial().await?;
        failures += 1;
        loop {
            let Some(request) = load.requests.next() else {
                tally.exhausted.notify_one();
                return Ok(());
            };
            let start = Instant::now();
            let Some(answer) = exchange(&mut stream, &request, &mut buffer).await? else { break };
            load.check(&answer)?;
            tally.add(start.elapsed());
            failures = 0;
            if answer.closes {
                break;
            }
        }
    }
    bail!("{TRIES} connections in a row ended without an answer")
}

/// A connection for each request, from its beginning to its end.
pub async fn ask_once_each(load: &Load, tally: &Tally) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    while let Some(request) = load.requests.next() {
        let start = Instant::now();
        let mut stream = load.dialer.dial().await?;
        let answer = exchange(&mut stream, &request, &mut buffer).await?.context("no answer")?;
        load.check(&answer)?;
        tally.add(start.elapsed());
        // The other side ends it, so that this one keeps no port waiting. It may do so without a word.
        while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
    }
    Ok(())
}

/// A connection after its first answer.
pub async fn one(load: &Load) -> Result<TlsStream<TcpStream>> {
    let request = load.requests.next().context("no request")?;
    let mut stream = load.dialer.dial().await?;
    let answer = exchange(&mut stream, &request, &mut [0; 4_096]).await?.context("no answer")?;
    load.check(&answer)?;
    ensure!(!answer.closes, "the connection does not stay");
    Ok(stream)
}

impl Load {
    fn check(&self, answer: &Answer) -> Result<()> {
        let status = String::from_utf8_lossy(&answer.status);
        ensure!(status == self.status, "answered {status} where it should be {}", self.status);
        Ok(())
    }
}

/// Nothing where the connection ended before the answer's first byte.
async fn exchange(
    stream: &mut TlsStream<TcpStream>,
    request: &[u8],
    buffer: &mut [u8],
) -> Result<Option<Answer>> {
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    };
    match sent.await {
        Ok(()) => answer(stream, buffer).await,
        Err(_) => Ok(None),
    }
}

async fn answer(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<Option<Answer>> {
    let mut filled = 0;
    let head = loop {
        let read = stream.read(&mut buffer[filled..]).await;
        match read {
            Ok(0) | Err(_) if filled == 0 => return Ok(None),
            read => match read? {
                0 => bail!("the answer breaks off in its head, or is longer than {} bytes", buffer.len()),
                read => filled += read,
            },
        }
        if let Some(end) = end_of_head(&buffer[..filled]) {
            break end;
        }
    };
    let (answer, length) = parse(&buffer[..head])?;
    let mut left = length.checked_sub(filled - head).context("more than was asked for")?;
    while left > 0 {
        match stream.read(buffer).await? {
            0 => bail!("the answer breaks off"),
            read => left = left.checked_sub(read).context("more than was asked for")?,
        }
    }
    Ok(Some(answer))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let blank = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    blank.map(|at| at + 4)
}

fn parse(head: &[u8]) -> Result<(Answer, usize)> {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let status = lines.next().and_then(|line| line.strip_prefix(b"HTTP/1.1 ")?.first_chunk());
    let (mut answer, mut length) =
        (Answer { closes: false, status: *status.context("no HTTP/1.1 answer")? }, None);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                length = Some(std::str::from_utf8(value)?.parse()?);
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                answer.closes |= value.eq_ignore_ascii_case(b"close");
            }
            _ => {}
        }
    }
    Ok((answer, length.context("an answer without a Content-Length")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_read_to_their_end_and_no_further() {
        let bytes: &[u8] = b"HTTP/1.1 401 No\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        let mut buffer = [0; 128];
        let answer = answer(&mut &*bytes, &mut buffer).await;
        assert!(
            answer.is_ok_and(|answer| answer.is_some_and(|answer| answer.closes && answer.status == *b"401"))
        );
    }

    #[tokio::test]
    async fn an_end_is_told_from_an_answer_that_breaks_off() {
        let mut buffer = [0; 128];
        assert!(answer(&mut &b""[..], &mut buffer).await.is_ok_and(|answer| answer.is_none()));
        for broken in
            ["HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na", "HTTP/1.1 200 OK\r\n\r\n"]
        {
            assert!(answer(&mut broken.as_bytes(), &mut buffer).await.is_err(), "{broken}");
        }
    }
}
