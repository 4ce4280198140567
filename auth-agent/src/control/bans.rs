//! `/v1/bans`

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use ipnet::IpNet;

use super::body::Body;
use super::confirm::ConfirmWithin;
use super::messages::{AddBan, AddedBan, BanEntry, Bans, Changed, ImportBans, ImportedBans, RemovedBan};
use super::problem::Problem;
use super::revocations::STEADY_FOR;
use super::{Control, blocking, deadline, remark};
use crate::clock::UnixTime;
use crate::network::parse_network;
use crate::store::Ban;

/// Shorter prefixes need `force`: the largest blocks that a registry hands out.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;
/// What one link has (RFC 4291 2.5.1), and so one client.
const SITE_V6: u8 = 64;

pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<Bans>, Problem> {
    blocking(control, |control| {
        let bans = control.store.bans(UnixTime::now())?;
        Ok(Json(Bans { bans: bans.into_iter().map(entry).collect() }))
    })
    .await
}

pub(super) async fn add(
    State(control): State<Arc<Control>>,
    confirm: ConfirmWithin,
    Body(request): Body<AddBan>,
) -> Result<(StatusCode, Json<Changed<AddedBan>>), Problem> {
    let now = UnixTime::now();
    let when = confirm.from(now);
    let network = parse_network(&request.network)?;
    let until = deadline("for_seconds", request.for_seconds, now)?;
    let reason = remark("reason", request.reason)?;
    if is_very_wide(network) && !request.force {
        return Err(Problem::BanTooWide(network));
    }
    blocking(control, move |control| {
        let _changing = control.changing();
        let ban = control.store.add_ban(network, until, reason.as_deref(), when)?;
        let applied = control.apply_rules_locked(now);
        let ended = control.end_banned(&[network]);
        applied?;
        let notes = notes(network, &control.allowed()?);
        let answer = AddedBan { ended, entry: entry(ban), notes };
        Ok((StatusCode::CREATED, Json(control.changed(answer, when)?)))
    })
    .await
}

pub(super) async fn import(
    State(control): State<Arc<Control>>,
    confirm: ConfirmWithin,
    Body(request): Body<ImportBans>,
) -> Result<(StatusCode, Json<Changed<ImportedBans>>), Problem> {
    let now = UnixTime::now();
    let when = confirm.from(now);
    let until = deadline("for_seconds", request.for_seconds, now)?;
    let reason = remark("reason", request.reason)?;
    let networks: Vec<_> =
        request.networks.iter().map(|network| parse_network(network)).collect::<Result<_, _>>()?;
    if let Some(&wide) = networks.iter().find(|network| is_very_wide(**network) && !request.force) {
        return Err(Problem::BanTooWide(wide));
    }
    blocking(control, move |control| {
        let _changing = control.changing();
        control.store.import_bans(&networks, until, reason.as_deref(), when)?;
        let applied = control.apply_rules_locked(now);
        let ended = control.end_banned(&networks);
        applied?;
        let answer = ImportedBans { ended, imported: networks.len(), until };
        Ok((StatusCode::CREATED, Json(control.changed(answer, when)?)))
    })
    .await
}

pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    confirm: ConfirmWithin,
    Path(network): Path<String>,
) -> Result<Json<Changed<RemovedBan>>, Problem> {
    let network = parse_network(&network)?;
    blocking(control, move |control| {
        let now = UnixTime::now();
        let _changing = control.changing();
        let when = confirm.from(now);
        if !control.store.remove_ban(network, when)? {
            let bans = control.store.bans(now)?;
            let covering = bans.iter().map(|ban| ban.network).find(|wider| wider.contains(&network));
            return Err(Problem::BanMissing { covering, network });
        }
        control.apply_rules_locked(now)?;
        Ok(Json(control.changed(RemovedBan { network }, when)?))
    })
    .await
}

impl Control {
    /// To be called every few seconds with how long the wall clock has been steady: forgets bans that are over, and sources
    /// that count as new, where that can be relied on. Once the clock was set, what is over by it is seen anew: bans that
    /// it had ended too soon hold again. Blocks.
    ///
    /// # Errors
    /// The store's, and the kernel's.
    pub fn tidy_bans(&self, steady: Duration, now: UnixTime) -> Result<(), Problem> {
        let _tending = self.tending();
        if !self.keeps_up() {
            return Ok(());
        }
        if steady.is_zero() {
            let _changing = self.changing();
            self.apply_rules_locked(now)?;
        }
        if steady >= STEADY_FOR {
            self.store.purge_expired(now)?;
        } else {
            self.store.purge_surplus(now)?;
        }
        Ok(())
    }
}

fn entry(ban: Ban) -> BanEntry {
    let Ban { automatic, created, network, reason, until } = ban;
    BanEntry { automatic, created, network, reason, until }
}

fn is_very_wide(network: IpNet) -> bool {
    match network {
        IpNet::V4(network) => network.prefix_len() < WIDEST_V4,
        IpNet::V6(network) => network.prefix_len() < WIDEST_V6,
    }
}

/// What the ban does otherwise than its words say.
fn notes(banned: IpNet, allow: &[IpNet]) -> Vec<String> {
    let rotates = matches!(banned, IpNet::V6(network) if network.prefix_len() > SITE_V6).then(|| {
        format!("an IPv6 client can change its address within its /{SITE_V6}: ban that to be sure of it")
    });
    let allowed = allow.iter().filter_map(|allowed| {
        if allowed.contains(&banned) {
            Some(format!("it has no effect: {allowed} is on the allowlist, which wins"))
        } else if banned.contains(allowed) {
            Some(format!("{allowed} stays allowed: it is on the allowlist, which wins"))
        } else {
            None
        }
    });
    rotates.into_iter().chain(allowed).collect()
}
