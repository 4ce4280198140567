//! The new agent's side.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::channel::{Channel, Message};
use crate::serve::{SocketProblem, Sockets};

/// Why nothing can be taken over.
#[derive(Debug, thiserror::Error)]
pub enum HeirError {
    /// Not started by an agent.
    #[error("--handover is for `auth-agent upgrade`, which starts a new agent with it: leave it out ({0})")]
    NoChannel(io::Error),
    /// The old agent's message is none.
    #[error("the old agent can't be understood: {0}; stop it and start this one in its place")]
    Other(io::Error),
    /// A descriptor that is none.
    #[error("the socket of {name} that the old agent handed over {problem}")]
    Socket {
        /// The listener.
        name: String,
        /// What is wrong.
        problem: SocketProblem,
    },
    /// The old agent ended.
    #[error("the old agent ended before it had handed everything over")]
    Unfinished,
}

/// What an agent gets from the one before it.
pub struct Heir {
    channel: Arc<Channel>,
    /// The inode of the control socket's file.
    pub control: Option<u64>,
    /// What proxies ask by.
    pub forward_auth: Option<OwnedFd>,
    /// The lock on the pins.
    pub pins: Option<File>,
    /// Sockets that listen.
    pub sockets: Sockets,
    /// The lock on the store.
    pub store: Option<File>,
}

impl Heir {
    /// Takes everything from the agent that started this one. Blocks.
    ///
    /// # Errors
    /// [`HeirError`].
    pub fn receive() -> Result<Self, HeirError> {
        Self::receive_by(Channel::from_stdin().map_err(HeirError::NoChannel)?)
    }

    fn receive_by(channel: Channel) -> Result<Self, HeirError> {
        let (channel, sockets) = (Arc::new(channel), Sockets::default());
        let mut heir = Self { channel, control: None, forward_auth: None, pins: None, sockets, store: None };
        loop {
            match heir.channel.receive(None).map_err(HeirError::Other)? {
                Some((Message::Handed, _)) => return Ok(heir),
                Some((message, descriptor)) => heir.take(message, descriptor)?,
                None => return Err(HeirError::Unfinished),
            }
        }
    }

    fn take(&mut self, message: Message, descriptor: Option<OwnedFd>) -> Result<(), HeirError> {
        match (message, descriptor) {
            (Message::Control(inode), _) => self.control = Some(inode),
            (Message::ForwardAuth, Some(socket)) => self.forward_auth = Some(socket),
            (Message::Listener(address), Some(socket)) => {
                let failed = |problem| HeirError::Socket { name: address.to_string(), problem };
                self.sockets.add(Some(address), TcpListener::from(socket)).map_err(failed)?;
            }
            (Message::Pins, Some(lock)) => self.pins = Some(lock.into()),
            (Message::Store, Some(lock)) => self.store = Some(lock.into()),
            (message, _) => return Err(HeirError::Other(io::Error::other(format!("{message:?}")))),
        }
        Ok(())
    }

    /// The way to the old agent.
    pub fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.channel)
    }
}

/// Says that this agent could serve, and waits until it is to. An old agent that is gone does not: it is time then, too.
///
/// # Errors
/// The old agent can't be understood.
pub async fn wait_for_go(channel: Arc<Channel>) -> anyhow::Result<()> {
    spawn_blocking(move || {
        let ready = Message::Ready { version: env!("CARGO_PKG_VERSION").to_owned() };
        let answer = match channel.send(&ready) {
            Ok(()) => channel.receive(None).map_err(HeirError::Other)?,
            Err(_) => None,
        };
        match answer {
            Some((Message::Go, _)) => Ok(()),
            None => {
                tracing::warn!("the old agent is gone: going on without it");
                Ok(())
            }
            Some((message, _)) => Err(HeirError::Other(io::Error::other(format!("{message:?}"))).into()),
        }
    })
    .await?
}

/// Says that this agent serves, and comes back when the old one has ended.
pub async fn outlive(channel: Arc<Channel>) {
    let waited = spawn_blocking(move || {
        // It may be gone already.
        let _ = channel.send(&Message::Serving);
        while let Ok(Some(_)) = channel.receive(None) {}
    });
    if let Err(error) = waited.await {
        tracing::error!(%error, "waiting for the old agent's end broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_taken_until_the_end_and_what_has_no_descriptor_is_refused() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = "0.0.0.0:443".parse().unwrap();
        let (old, new) = Channel::pair().unwrap();
        old.send(&Message::Control(7)).unwrap();
        old.send_with(&Message::Listener(name), &socket).unwrap();
        old.send_with(&Message::Store, tempfile::tempfile().unwrap()).unwrap();
        old.send(&Message::Handed).unwrap();
        let heir = Heir::receive_by(new).unwrap();
        assert_eq!((heir.control, heir.sockets.addresses()), (Some(7), vec![name]));
        assert!(heir.store.is_some() && heir.pins.is_none());

        for (message, expected) in [
            (Some(Message::Listener(name)), "can't be understood"),
            (Some(Message::Go), "can't be understood"),
            (None, "ended before"),
        ] {
            let (old, new) = Channel::pair().unwrap();
            if let Some(message) = message {
                old.send(&message).unwrap();
            }
            drop(old);
            let error = Heir::receive_by(new).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn a_new_agent_goes_when_it_is_told_to_or_nobody_can_tell_it_any_more() {
        let (old, new) = Channel::pair().unwrap();
        let new = Arc::new(new);
        let waiting = tokio::spawn(wait_for_go(Arc::clone(&new)));
        old.send(&Message::Go).unwrap();
        waiting.await.unwrap().unwrap();
        assert!(matches!(old.receive(None).unwrap(), Some((Message::Ready { .. }, None))));
        let waiting = tokio::spawn(wait_for_go(Arc::clone(&new)));
        drop(old);
        waiting.await.unwrap().unwrap();
        outlive(new).await;
    }
}
