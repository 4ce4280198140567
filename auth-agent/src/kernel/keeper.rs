//! Keeps the program on its interfaces while the agent runs: compares what is with what should be, and mends the
//! difference. Interfaces come, go, come back under another index and change their names; others take programs off.
//!
//! It goes by what the kernel says now, and never by what it was told: a lost message costs time and nothing else.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_route::link::LinkMessage;

use super::cures::{GENERIC, NATIVE};
use super::error::FilterError;
use super::interfaces::{self, Interface};
use super::links::{Hand, Put};
use super::pins::Link;
use crate::config::{Kernel, XdpMode};
use crate::edge;

/// See the module.
pub struct Keeper(Mutex<State>);

struct State {
    /// The operator took the filter off: it stays off until the next start.
    detached: bool,
    hand: Hand,
    /// Another agent looks after the interfaces.
    resting: bool,
    wanted: Vec<Wanted>,
}

/// An interface that the filter belongs on.
struct Wanted {
    /// The index under which it was last filtered.
    filtered: Option<u32>,
    /// Why it is in generic mode, where native was tried.
    generic_because: Option<String>,
    /// It may be missing at the start.
    late: bool,
    name: String,
    /// Why it is not filtered, as it was last logged.
    trouble: Option<String>,
}

impl Keeper {
    /// A keeper of the interfaces in the configuration, who has done nothing yet.
    pub fn new(hand: Hand, kernel: &Kernel) -> Self {
        let wanted = |late| {
            move |name: &String| Wanted {
                filtered: None,
                generic_because: None,
                late,
                name: name.clone(),
                trouble: None,
            }
        };
        let must = kernel.interfaces.iter().map(wanted(false));
        let wanted = must.chain(kernel.hotplug.iter().map(wanted(true))).collect();
        Self(Mutex::new(State { detached: false, hand, resting: false, wanted }))
    }

    /// Puts the program on every interface that is there: links of an earlier agent get it in one step, without a
    /// packet in between; missing ones are made; pinned ones that are no longer wanted are let go.
    ///
    /// # Errors
    /// The first interface that can't be served, or is missing though it must be there.
    pub fn attach(&self) -> Result<(), FilterError> {
        let mut state = self.state();
        let State { hand, wanted, .. } = &mut *state;
        // First of all: nothing is attached where not all can be.
        for wanted in wanted.iter() {
            match interfaces::named(&wanted.name)? {
                Some(interface) => interface.must_be_ethernet()?,
                None if wanted.late => {}
                None => return Err(missing(&wanted.name)?),
            }
        }
        remove_dead(hand)?;
        for wanted in wanted {
            match interfaces::named(&wanted.name)? {
                Some(interface) => wanted.serve(hand, &interface)?,
                None if wanted.late => wanted.is_absent(),
                None => return Err(missing(&wanted.name)?),
            }
        }
        state.let_go()
    }

    /// Mends whatever differs, and logs it; what can't be mended is logged once, and tried again the next time.
    pub fn reconcile(&self) {
        let mut state = self.state();
        if state.detached || state.resting {
            return;
        }
        let State { hand, wanted, .. } = &mut *state;
        // Before others are made in their place.
        if let Err(error) = remove_dead(hand) {
            tracing::warn!(%error, "dead pins are left");
        }
        for wanted in wanted {
            wanted.reconcile(hand);
        }
        if let Err(error) = state.let_go() {
            tracing::warn!(%error, "an interface that is no longer wanted is still filtered");
        }
    }

    /// Mends nothing from now on, or again whatever differs.
    pub fn rest(&self, resting: bool) {
        self.state().resting = resting;
    }

    /// Whether a change of this link may be one of ours. Does not wait: while somebody works on them, it may.
    pub fn concerns(&self, link: &LinkMessage) -> bool {
        let Interface { index, name, .. } = interfaces::interface(link);
        let ours = |wanted: &Wanted| wanted.name == name || wanted.filtered == Some(index);
        self.0.try_lock().map_or(true, |state| state.wanted.iter().any(ours))
    }

    /// Takes the filter off every interface, for as long as the agent runs, and forgets its maps.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn detach(&self, pin_directory: &Path) -> Result<edge::Detached, FilterError> {
        let mut state = self.state();
        // Even if it fails: what is off must not come back by itself.
        state.detached = true;
        super::detach(pin_directory)
    }

    /// The interfaces, and what the operator should know of them.
    ///
    /// # Errors
    /// [`FilterError::Netlink`].
    pub fn status(&self) -> Result<(Vec<edge::Interface>, Vec<String>), FilterError> {
        let state = self.state();
        let mut warnings = Vec::new();
        if state.detached {
            warnings.push("the filter was taken off by `auth-agent detach`: restart the agent".to_owned());
        }
        let mut shown = Vec::new();
        for wanted in &state.wanted {
            let interface = interfaces::named(&wanted.name)?;
            if !state.detached {
                warnings.extend(wanted.warning(&state.hand, interface.as_ref())?);
            }
            shown.push(wanted.shown(&state.hand, interface));
        }
        Ok((shown, warnings))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves an interface unmended at most: the next round looks again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets go of links that no wanted interface stands for. One that went away under its name, to another name or
    /// another network namespace, stays filtered until an interface of that name is there again.
    fn let_go(&self) -> Result<(), FilterError> {
        for link in self.hand.pins().own_links()? {
            let index = link.interface();
            let ours = self.wanted.iter().any(|wanted| index.is_some() && wanted.filtered == index);
            if ours || self.absent(&link.name) {
                continue;
            }
            tracing::warn!(
                interface = %link.name,
                "no longer in kernel.interfaces or kernel.hotplug: filter detached"
            );
            link.remove()?;
        }
        Ok(())
    }

    /// Whether this is the name of an interface that is wanted and not there.
    fn absent(&self, name: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted.name == name && wanted.filtered.is_none())
    }
}

impl Wanted {
    fn reconcile(&mut self, hand: &mut Hand) {
        let served = interfaces::named(&self.name).and_then(|interface| match interface {
            Some(interface) => self.serve(hand, &interface),
            None => {
                self.is_absent();
                Ok(())
            }
        });
        if let Err(error) = served {
            let error = error.to_string();
            if self.trouble.as_ref() != Some(&error) {
                tracing::error!(interface = %self.name, error, "UNFILTERED; it is tried again");
            }
            self.trouble = Some(error);
        }
    }

    fn serve(&mut self, hand: &mut Hand, interface: &Interface) -> Result<(), FilterError> {
        let before = self.filtered;
        let put = hand.put(interface)?;
        match put {
            Put::Adopted => {
                tracing::info!(interface = %self.name, "filter adopted");
                warn_of_other_mode(hand, interface);
            }
            Put::Already => {}
            Put::Attached { fallback } => {
                self.generic_because = fallback;
                if before == Some(interface.index) {
                    tracing::warn!(interface = %self.name, "somebody had taken the filter off: it is back");
                }
            }
        }
        (self.filtered, self.trouble) = (Some(interface.index), None);
        Ok(())
    }

    fn is_absent(&mut self) {
        const ABSENT: &str = "absent";
        if self.trouble.as_deref() != Some(ABSENT) {
            tracing::warn!(interface = %self.name, "not there: it is filtered as soon as it appears");
        }
        (self.filtered, self.trouble) = (None, Some(ABSENT.to_owned()));
    }

    fn shown(&self, hand: &Hand, interface: Option<Interface>) -> edge::Interface {
        let program = interface.as_ref().filter(|interface| hand.is_on(interface));
        let program = program.and_then(|interface| interface.program);
        let mode = match (&interface, program) {
            (None, _) => "absent",
            (Some(_), None) => "detached",
            (Some(_), Some(program)) => program.mode,
        };
        edge::Interface {
            index: interface.map_or(0, |interface| interface.index),
            mode: mode.to_owned(),
            name: self.name.clone(),
            program_id: program.map_or(0, |program| program.id),
        }
    }

    /// What differs from what was asked for.
    fn warning(&self, hand: &Hand, interface: Option<&Interface>) -> Result<Option<String>, FilterError> {
        let name = &self.name;
        let Some(interface) = interface else {
            let elsewhere = match self.renamed(hand)? {
                Some(other) => format!("; what had the name is now {other}, and is still filtered"),
                None => String::new(),
            };
            return Ok(Some(format!("{name} is absent: it is filtered as soon as it appears{elsewhere}")));
        };
        if !hand.is_on(interface) {
            let why =
                self.trouble.as_deref().unwrap_or("the filter was taken off, and is put back in a moment");
            return Ok(Some(format!("{name} is UNFILTERED: {why}")));
        }
        Ok(other_mode(hand.mode(), interface).map(|what| match &self.generic_because {
            Some(why) => format!("{name} is in {what}: {why}"),
            None => format!("{name} is in {what}"),
        }))
    }

    /// The present name of the interface that was filtered under ours.
    fn renamed(&self, hand: &Hand) -> Result<Option<String>, FilterError> {
        let links = hand.pins().own_links()?;
        let Some(index) = links.iter().filter(|link| link.name == self.name).find_map(Link::interface) else {
            return Ok(None);
        };
        let interface = interfaces::numbered(index)?.filter(|interface| hand.is_on(interface));
        Ok(Some(interface.map_or("in another network namespace".to_owned(), |interface| interface.name)))
    }
}

/// The mode that an interface is in, where another was asked for. A link keeps its mode for life.
fn other_mode(wanted: XdpMode, interface: &Interface) -> Option<String> {
    let present = interface.program.map_or("", |program| program.mode);
    let keeps =
        |wanted| format!("{present} mode; kernel.mode = \"{wanted}\" takes effect after `auth-agent detach`");
    match wanted {
        XdpMode::Auto => (present == GENERIC).then(|| "generic mode, which costs more per packet".to_owned()),
        XdpMode::Generic => (present != GENERIC).then(|| keeps(GENERIC)),
        XdpMode::Native => (present != NATIVE).then(|| keeps(NATIVE)),
    }
}

fn warn_of_other_mode(hand: &Hand, interface: &Interface) {
    if hand.mode() == XdpMode::Auto {
        return;
    }
    if let Some(mode) = other_mode(hand.mode(), interface) {
        tracing::warn!(interface = %interface.name, "the filter in place stays in {mode}");
    }
}

/// Removes pins of links that hold nothing any more: their interface is gone, or somebody detached them.
fn remove_dead(hand: &Hand) -> Result<(), FilterError> {
    for link in hand.pins().own_links()?.iter().filter(|link| !link.holds()) {
        tracing::info!(interface = %link.name, index = link.index, "its link holds nothing any more: pin removed");
        link.remove()?;
    }
    Ok(())
}

fn missing(name: &str) -> Result<FilterError, FilterError> {
    let present: Vec<_> = interfaces::list()?.into_iter().map(|interface| interface.name).collect();
    Ok(FilterError::InterfaceMissing { interface: name.to_owned(), present: present.join(", ") })
}
