//! An agent takes another's place, and no request is dropped for it (promise P13).
//!
//! The old agent starts the new one with a socket as its standard input, and gives it, as messages there: its listening
//! sockets, and its locks on the store and on the pins. So the new one listens without having bound, and nobody else can
//! come between the two.
//!
//! ```text
//! old                                     new
//! holds changes and upkeep, starts it
//! ---- sockets, locks, control socket -->
//!                                         opens everything, attaches its program
//! <----------------------------- ready --
//! ---------------------------------- go -->
//!                                         puts its control socket in place, accepts
//! <--------------------------- serving --
//! accepts no more, drains, ends
//! ```
//!
//! Until `go` the old one can take everything back, and does whenever the new one fails or is late. From `go` on it
//! touches neither filter nor control socket. While both live, each follows what the other writes to the store. If the
//! old one dies before `go`, the new one goes on: nobody else would serve.

mod channel;
mod heir;
mod upgrader;

use std::sync::Arc;
use std::time::Duration;

pub use self::channel::{Channel, Message};
pub use self::heir::{Heir, HeirError, outlive, wait_for_go};
pub use self::upgrader::{Parts, Program, Succession, UpgradeError, Upgraded, Upgrader};
use crate::control::Control;

/// How long a new agent may take to be ready, unless it is said.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// The longest that may be said: no change is taken meanwhile.
pub const LONGEST_READY: Duration = Duration::from_secs(600);

/// Does to this agent's connections what the new one's operator says, until the new agent is gone. Blocks.
pub fn obey(channel: &Channel, control: &Arc<Control>) {
    while let Ok(Some((message, _))) = channel.receive(None) {
        if let Message::End(network) = message {
            let ended = control.end_from(&network);
            tracing::info!(network, ended, "connections ended for the new agent");
        }
    }
}
