//! What is pinned, seen without a running agent.

use std::path::Path;

use super::error::FilterError;
use super::pins::{Link, Pins};
use crate::edge::Detached;

/// Takes the filter off every interface and forgets its maps. Needs no running agent.
///
/// # Errors
/// [`FilterError::Directory`].
pub fn detach(pin_directory: &Path) -> Result<Detached, FilterError> {
    let Some(pins) = Pins::existing(pin_directory)? else {
        return Ok(Detached { interfaces: Vec::new() });
    };
    let interfaces = pins.links()?.into_iter().map(|link| link.name).collect();
    pins.remove()?;
    Ok(Detached { interfaces })
}

/// Which filters are pinned in a directory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pinned {
    /// Names of the interfaces in other network namespaces.
    pub elsewhere: Vec<String>,
    /// Indexes of the interfaces in this one.
    pub here: Vec<u32>,
}

/// Which filters are pinned in this directory.
///
/// # Errors
/// [`FilterError::Directory`].
pub fn pinned(pin_directory: &Path) -> Result<Pinned, FilterError> {
    let Some(pins) = Pins::existing(pin_directory)? else { return Ok(Pinned::default()) };
    let elsewhere = pins.strangers()?.into_iter().filter(Link::holds).map(|link| link.name);
    let here = pins.own_links()?.iter().map(|link| link.interface().unwrap_or(link.index)).collect();
    Ok(Pinned { elsewhere: elsewhere.collect(), here })
}
