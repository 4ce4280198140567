//! What an agent finds when it starts: from the agent before it, or from the service manager.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Result;

use crate::config::Config;
use crate::handover::{Channel, Heir};
use crate::serve::{Server, Sockets};
use crate::service_manager;

/// What is there already.
pub struct Inheritance {
    /// To the agent before.
    pub channel: Option<Arc<Channel>>,
    pub control: Option<u64>,
    pub forward_auth: Option<OwnedFd>,
    pub pins: Option<File>,
    sockets: Sockets,
    pub store: Option<File>,
}

impl Inheritance {
    pub fn new(heir: Option<Heir>) -> Result<Self> {
        Ok(match heir {
            Some(heir) => {
                let channel = Some(heir.channel());
                let Heir { control, forward_auth, pins, sockets, store, .. } = heir;
                Self { channel, control, forward_auth, pins, sockets, store }
            }
            None => {
                let sockets = service_manager::sockets()?;
                Self { channel: None, control: None, forward_auth: None, pins: None, sockets, store: None }
            }
        })
    }

    /// Opens the listeners that are not there. What the agent before this one listened on and this one does not is closed
    /// when that one ends.
    pub fn open_listeners(&mut self, config: &Config) -> Result<Server> {
        let server = Server::bind_or_take(config, &mut self.sockets)?;
        if self.channel.is_none() {
            service_manager::refuse_unwanted(&self.sockets)?;
        }
        self.sockets = Sockets::default();
        Ok(server)
    }
}
