//! An upstream that writes down what it gets, byte for byte, and answers each request that it can make out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// How long its threads may take to see that it ends.
const TICK: Duration = Duration::from_millis(20);

/// What each connection brought, oldest first.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// The running upstream; it stops with its guard.
pub struct Recorder {
    ended: Arc<AtomicBool>,
    heard: Heard,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts one inside `namespace`.
    ///
    /// # Errors
    /// If the address can't be had.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener =
            namespace.run(|| TcpListener::bind(address).with_context(|| format!("recorder on {address}")))?;
        listener.set_nonblocking(true)?;
        let (ended, heard) = <(Arc<AtomicBool>, Heard)>::default();
        let (end, hears) = (Arc::clone(&ended), Arc::clone(&heard));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (end, hears) = (Arc::clone(&end), Arc::clone(&hears));
                        thread::spawn(move || listen(stream, &hears, &end));
                    }
                    Err(_) => thread::sleep(TICK / 10),
                }
            }
        });
        Ok(Self { ended, heard, thread: Some(thread) })
    }

    /// What every connection has brought since the last call, those that brought nothing left out.
    pub fn take(&self) -> Vec<Vec<u8>> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter_mut().map(std::mem::take).filter(|bytes| !bytes.is_empty()).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("recorder: its thread panicked");
        }
    }
}

fn listen(mut stream: TcpStream, heard: &Heard, end: &AtomicBool) {
    let locked = || heard.lock().unwrap_or_else(PoisonError::into_inner);
    let own = {
        let mut heard = locked();
        heard.push(Vec::new());
        heard.len() - 1
    };
    let (mut unanswered, mut bytes) = (Vec::new(), [0; 4_096]);
    if stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(TICK))).is_err() {
        return;
    }
    while !end.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(read) => {
                locked()[own].extend(&bytes[..read]);
                unanswered.extend(&bytes[..read]);
            }
            Err(_) => continue,
        }
        while let Some(length) = request(&unanswered) {
            unanswered.drain(..length);
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    }
}

/// Length of the first request, if it is whole. The first field that frames it counts, as with a careless server.
pub fn request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    for line in text.lines().skip(1) {
        if let Some(length) = line.strip_prefix("content-length:") {
            let whole = head + length.trim().parse::<usize>().ok()?;
            return (bytes.len() >= whole).then_some(whole);
        }
        if line.starts_with("transfer-encoding:") {
            return Some(head + chunks(&bytes[head..])?);
        }
    }
    Some(head)
}

/// Length of a chunked body without trailers, if it is whole.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..at + line]).ok()?, 16).ok()?;
        at += line + 2 + size + 2;
        if at > bytes.len() {
            return None;
        }
        if size == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_whole_or_not_yet() {
        let head = "POST / HTTP/1.1\r\n";
        let cases = [
            ("\r\n", "", true),
            ("Content-Length: 2\r\n\r\n", "ab", true),
            ("Content-Length: 2\r\n\r\n", "a", false),
            ("Transfer-Encoding: chunked\r\n\r\n", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", true),
            ("Transfer-Encoding: chunked\r\n\r\n", "5\r\n0\r\n\r\n\r\n", false),
        ];
        for (lines, body, whole) in cases {
            let text = format!("{head}{lines}{body}");
            assert_eq!(request(text.as_bytes()), whole.then_some(text.len()), "{text}");
            let two = format!("{text}{head}\r\n");
            assert!(!whole || request(two.as_bytes()) == Some(text.len()), "{two}");
        }
    }
}
