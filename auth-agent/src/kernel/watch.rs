//! Hears of interfaces that come, go and change, and wakes the keeper.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::error::FilterError;
use super::interfaces;
use super::keeper::Keeper;

/// `RTMGRP_LINK` of linux/rtnetlink.h: interfaces come, go and change.
const LINKS: u32 = 1;

/// Between two looks that nothing gave rise to: the kernel sends no message when somebody detaches a link, so a
/// filter that was taken off is back after this long.
const ROUND: Duration = Duration::from_secs(1);

/// Bytes for one datagram; the kernel sends none longer to a group.
const DATAGRAM_BYTES: usize = 32 * 1024;

/// Keeps the filter on its interfaces, for as long as it runs.
#[must_use = "interfaces that appear later are not filtered unless it runs"]
pub struct Watch {
    keeper: Arc<Keeper>,
    socket: Socket,
}

impl Watch {
    /// Hears from now on; to be opened before the interfaces are looked at for the first time.
    ///
    /// # Errors
    /// [`FilterError::Netlink`].
    pub fn open(keeper: Arc<Keeper>) -> Result<Self, FilterError> {
        let failed = |error: io::Error| FilterError::Netlink(error.to_string());
        let socket = interfaces::socket(LINKS).map_err(failed)?;
        socket.set_non_blocking(true).map_err(failed)?;
        Ok(Self { keeper, socket })
    }

    /// Wakes the keeper whenever one of its interfaces changes, and every second.
    ///
    /// # Errors
    /// What the system says of waiting.
    pub async fn run(self) -> io::Result<()> {
        let Self { keeper, socket } = self;
        let socket = readable(socket)?;
        let mut round = interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ready = socket.readable() => {
                    let mut ready = ready?;
                    let concerned = hear(|buffer| ready.get_inner().recv(buffer, 0).map(drop), &keeper);
                    ready.clear_ready();
                    if !concerned {
                        continue;
                    }
                }
                _ = round.tick() => {}
            }
            let keeper = Arc::clone(&keeper);
            if let Err(error) = spawn_blocking(move || keeper.reconcile()).await {
                tracing::error!(%error, "looking after the interfaces broke off; it is tried again");
            }
        }
    }
}

#[allow(unsafe_code, reason = "tokio's promise about file descriptors")]
fn readable(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket keeps its file descriptor open, and the same, until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

/// Takes in everything that has come; whether any of it may concern the keeper. What was lost (ENOBUFS) or can't be
/// read may.
fn hear(mut receive: impl FnMut(&mut Vec<u8>) -> io::Result<()>, keeper: &Keeper) -> bool {
    let mut concerned = false;
    loop {
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
        match receive(&mut datagram) {
            Ok(()) => concerned = concerned || tells_of(&datagram, keeper),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return concerned,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                tracing::debug!("news of interfaces was lost: looking at all");
                concerned = true;
            }
            Err(error) => {
                tracing::warn!(%error, "news of interfaces can't be read: looking at all");
                return true;
            }
        }
    }
}

fn tells_of(datagram: &[u8], keeper: &Keeper) -> bool {
    interfaces::messages(datagram).any(|message| match message.map(|message| message.payload) {
        Ok(NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
        )) => keeper.concerns(&link),
        Ok(NetlinkPayload::InnerMessage(_)) => false,
        Ok(_) | Err(_) => true,
    })
}
