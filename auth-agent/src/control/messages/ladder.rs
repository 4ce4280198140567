//! Sources that go on whatever they are told.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::enumeration::Slowed;
use crate::network::as_text;

/// What `status` says of offences.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LadderStatus {
    /// Bans that hold and that nobody made.
    pub banned: usize,
    /// Distinct objects of others that were asked for.
    pub foreign_objects: u64,
    /// Bans and drops that were not noted because too many came at once, or are in force.
    pub lost: u64,
    /// Offences by kind.
    pub offences: BTreeMap<String, u64>,
    /// Whether anybody is banned for them.
    pub on: bool,
    /// How often a principal was slowed for the objects of others that it asked for.
    pub slowed: u64,
}

/// `GET /v1/offenders`
#[derive(Debug, Deserialize, Serialize)]
pub struct Offenders {
    /// Points beyond which a source is banned; a source that authenticated lately may have more.
    pub banned_at: u32,
    /// How many more there are than are shown.
    pub more: usize,
    /// Sources that owe points, those who owe most first.
    pub offenders: Vec<OffenderEntry>,
    /// Principals that were slowed for the objects of others that they asked for, the latest first.
    pub slowed: Vec<Slowed>,
}

/// A source that owes points.
#[derive(Debug, Deserialize, Serialize)]
pub struct OffenderEntry {
    /// How often it was banned for what it did, as far as that is remembered.
    pub banned_times: u32,
    /// The source.
    #[serde(with = "as_text")]
    pub network: IpNet,
    /// Its last offence.
    pub offence: String,
    /// What it owes.
    pub points: u64,
}
