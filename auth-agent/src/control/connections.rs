//! `/v1/connections`: who is connected, and ending connections.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use ipnet::IpNet;

use super::body::Body;
use super::messages::{ConnectionEntry, ConnectionList, EndConnections, EndedConnections};
use super::problem::Problem;
use super::{Control, blocking};
use crate::clock::{Monotonic, UnixTime};
use crate::connections::{Connection, End};
use crate::network::{NetworkSet, parse_network};

/// A port and address may be someone else's by then: whoever is to stay out longer is to be banned.
const LONGEST_DROP_SECONDS: u64 = 24 * 60 * 60;

pub(super) async fn list(
    State(control): State<Arc<Control>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<ConnectionList>, Problem> {
    let Query(query) = query.map_err(|error| Problem::field("query", error.body_text()))?;
    let filter = Filter::parse(&query)?;
    let found = control.connections.list(|connection| filter.wants(connection));
    Ok(Json(ConnectionList { connections: found.iter().map(|connection| entry(connection)).collect() }))
}

pub(super) async fn end(
    State(control): State<Arc<Control>>,
    Body(request): Body<EndConnections>,
) -> Result<Json<EndedConnections>, Problem> {
    let found = match (request.id, &request.source) {
        (Some(id), None) => {
            let found = control.connections.list(|connection| connection.id == id);
            if found.is_empty() {
                return Err(Problem::ConnectionMissing(id));
            }
            found
        }
        (None, Some(source)) => {
            let network = parse_network(source)?;
            control.end_at_predecessor(network);
            control.connections.list(|connection| connection.ends_at(|ip| network.contains(&ip)))
        }
        _ => return Err(Problem::field("id", "name either the id of a connection, or a source")),
    };
    let until = drop_until(request.drop_for_seconds, UnixTime::now())?;
    blocking(control, move |control| control.end(&found, until).map(Json)).await
}

/// On both clocks.
type Until = (Monotonic, UnixTime);

fn drop_until(seconds: Option<u64>, now: UnixTime) -> Result<Option<Until>, Problem> {
    match seconds {
        None => Ok(None),
        Some(seconds @ 1..=LONGEST_DROP_SECONDS) => {
            let after = Duration::from_secs(seconds).as_nanos() as u64;
            let monotonic = Monotonic(Monotonic::now().0.saturating_add(after));
            Ok(Some((monotonic, UnixTime(now.0.saturating_add(seconds)))))
        }
        Some(_) => {
            let cure = "write between a second and a day; to keep a source out for longer, ban it";
            Err(Problem::field("drop_for_seconds", cure))
        }
    }
}

impl Control {
    /// Ends these connections, whatever becomes of the kernel's part. That comes first, so that nothing of an ended
    /// connection reaches the host.
    fn end(&self, found: &[Arc<Connection>], until: Option<Until>) -> Result<EndedConnections, Problem> {
        let flows: Vec<_> = found.iter().map(|connection| connection.flow()).collect();
        let dropped = until.map(|(monotonic, _)| self.edge.revoke_flows(&flows, monotonic));
        let ended = found.iter().filter(|connection| connection.end(End::Operator));
        let ended: Vec<_> = ended.map(|connection| entry(connection)).collect();
        let dropped =
            dropped.transpose().map_err(|error| Problem::FlowsNotDropped { ended: ended.len(), error })?;
        Ok(EndedConnections { dropped, dropped_until: until.map(|(_, wall)| wall), ended })
    }

    /// Ends the connections of who was just banned: the kernel drops their packets, so that they would only wait for
    /// their time-outs; and what proxies passed on for them, which it does not see. Says how many.
    pub(super) fn end_banned(&self, banned: &[IpNet]) -> usize {
        let banned = NetworkSet::new(banned);
        self.connections.end_banned(|source| banned.contains(source) && !self.allowlist.contains(source))
    }
}

/// Which connections are asked for: those that match all that is given.
#[derive(Default)]
struct Filter {
    source: Option<IpNet>,
    subject: Option<String>,
}

impl Filter {
    fn parse(query: &[(String, String)]) -> Result<Self, Problem> {
        let mut filter = Self::default();
        for (name, value) in query {
            match name.as_str() {
                "source" => filter.source = Some(parse_network(value)?),
                "subject" => filter.subject = Some(value.clone()),
                _ => return Err(Problem::field("query", "write source=CIDR or subject=NAME")),
            }
        }
        Ok(filter)
    }

    fn wants(&self, connection: &Connection) -> bool {
        let has_source = self.source.is_none_or(|source| connection.ends_at(|ip| source.contains(&ip)));
        has_source
            && self.subject.as_ref().is_none_or(|wanted| {
                connection.principal().is_some_and(|principal| *principal.subject == **wanted)
            })
    }
}

fn entry(connection: &Connection) -> ConnectionEntry {
    let (method, subject) = connection
        .principal()
        .map(|principal| (principal.method.name().to_owned(), principal.subject.to_string()))
        .unzip();
    ConnectionEntry {
        accepted: connection.accepted,
        client: connection.client(),
        id: connection.id,
        listener: connection.local,
        method,
        open_requests: connection.open_requests(),
        protocol: connection.protocol().name().to_owned(),
        requests: connection.requests(),
        source: connection.peer.ip(),
        source_port: connection.peer.port(),
        subject,
    }
}
