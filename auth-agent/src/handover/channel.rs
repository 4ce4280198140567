//! What the two agents say to each other, with descriptors: one packet each on a pair of sockets.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// Bytes of a packet; a longer reason is cut.
const PACKET_BYTES: usize = 16 << 10;
const REASON_BYTES: usize = 8 << 10;

/// A message.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The inode of the control socket's file.
    Control(u64),
    /// Ends the connections from this network.
    End(String),
    /// Why the new agent can't serve.
    Failed(String),
    /// With a socket: where proxies ask.
    ForwardAuth,
    /// The new agent is to serve from now on.
    Go,
    /// Nothing more is handed over.
    Handed,
    /// With a socket: what listens on this address, as configured.
    Listener(SocketAddr),
    /// With a file: the lock on the pins.
    Pins,
    /// The new agent could serve.
    Ready {
        /// Of the new agent.
        version: String,
    },
    /// It does.
    Serving,
    /// With a file: the lock on the store.
    Store,
}

impl Message {
    /// A reason, cut to what a packet holds.
    pub fn failed(reason: &str) -> Self {
        let mut end = reason.len().min(REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self::Failed(reason[..end].to_owned())
    }
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that is this process's standard input, which then reads as empty.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_stdin() -> io::Result<Self> {
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        if socket_type(&end)? != SocketType::SEQPACKET {
            return Err(Errno::PROTOTYPE.into());
        }
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Ok(Self(end))
    }

    /// For the other process.
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// Says something.
    ///
    /// # Errors
    /// What the system says, also where the other end is gone.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        self.send_bytes(message, &mut SendAncillaryBuffer::default())
    }

    /// Says something, and hands over a descriptor with it.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_with(&self, message: &Message, descriptor: impl AsFd) -> io::Result<()> {
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Errno::NOBUFS.into());
        }
        self.send_bytes(message, &mut ancillary)
    }

    fn send_bytes(
        &self,
        message: &Message,
        ancillary: &mut SendAncillaryBuffer<'_, '_, '_>,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        // A packet goes as a whole or not at all.
        rustix::io::retry_on_intr(|| {
            sendmsg(&self.0, &[IoSlice::new(&bytes)], ancillary, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// The next message, with its descriptor; `None`: the other end is gone. Waits until `deadline`, if there is one.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] at the deadline; a message that can't be understood; what the system says.
    pub fn receive(&self, deadline: Option<Instant>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut bytes = [0; PACKET_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            set_socket_timeout(&self.0, Timeout::Recv, deadline.map(left))?;
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        });
        let length = match received {
            // The other end went without having read everything.
            Err(Errno::CONNRESET) => 0,
            received => received?.bytes,
        };
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        match length {
            0 => Ok(None),
            length => Ok(Some((serde_json::from_slice(&bytes[..length])?, descriptor))),
        }
    }
}

/// Until then, and never nothing, which would be for ever.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn messages_come_in_order_each_with_its_descriptor_until_the_other_end_is_gone() {
        let (one, other) = Channel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"handed over").unwrap();
        let address = "[::]:443".parse().unwrap();
        one.send_with(&Message::Listener(address), &file).unwrap();
        one.send(&Message::Handed).unwrap();
        drop(one);
        let (message, descriptor) = other.receive(None).unwrap().unwrap();
        assert_eq!(message, Message::Listener(address));
        let (mut same, mut text) = (File::from(descriptor.unwrap()), String::new());
        same.rewind().unwrap();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, "handed over");
        let (message, descriptor) = other.receive(None).unwrap().unwrap();
        assert!(message == Message::Handed && descriptor.is_none());
        assert!(other.receive(None).unwrap().is_none());
        assert!(other.send(&Message::Serving).is_err(), "nobody hears it");
    }

    #[test]
    fn a_deadline_ends_the_wait_and_what_is_no_message_is_refused() {
        let (one, other) = Channel::pair().unwrap();
        let error = other.receive(Some(Instant::now())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        rustix::net::send(&one.0, b"\"gone\"", SendFlags::empty()).unwrap();
        assert_eq!(other.receive(None).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let (one, other) = Channel::pair().unwrap();
        let long = format!("x{}", "ü".repeat(REASON_BYTES));
        one.send(&Message::failed(&long)).unwrap();
        let Some((Message::Failed(cut), None)) = other.receive(None).unwrap() else { panic!("no reason") };
        assert!(long.starts_with(&cut) && cut.len() > REASON_BYTES - 4, "{}", cut.len());
        assert_eq!(Message::failed("short"), Message::Failed("short".to_owned()));
    }
}
