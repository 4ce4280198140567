//! `/v1/requests/{id}`: what was decided about a request, from memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Path, State};

use super::messages::{CredentialStory, DeciderStory, LimitStory, RequestStory, UpstreamStory};
use super::problem::Problem;
use super::succession::Standing;
use super::{Control, blocking};
use crate::clock::{Monotonic, UnixTime, since_epoch};
use crate::explain::{Entry, Presented, RequestId};
use crate::gateway::Gateway;
use crate::identity::Method;

pub(super) async fn show(
    State((control, gateway)): State<(Arc<Control>, Arc<Gateway>)>,
    Path(id): Path<String>,
) -> Result<Json<RequestStory>, Problem> {
    let Some(id) = RequestId::parse(&id) else {
        return Err(Problem::field("id", "write it as the response's X-Request-Id has it".to_owned()));
    };
    blocking(control, move |control| {
        let clock = Clock::read();
        let story = gateway.journal().find(&id, |entry| story(entry, clock));
        let mut story = story.ok_or_else(|| missing(control, &gateway, &id, clock))?;
        story.kernel = control.edge.source(story.source).ok();
        control.age_of_keys(&mut story);
        Ok(Json(story))
    })
    .await
}

/// The wall clock less the monotonic one.
#[derive(Clone, Copy)]
struct Clock(Duration);

impl Clock {
    fn read() -> Self {
        Self(since_epoch().saturating_sub(Duration::from_nanos(Monotonic::now().0)))
    }

    fn at(self, time: Monotonic) -> Duration {
        self.0 + Duration::from_nanos(time.0)
    }

    fn text(self, time: Monotonic) -> String {
        humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + self.at(time)).to_string()
    }
}

/// Why nothing is known of a request, and who else may know.
fn missing(control: &Control, gateway: &Gateway, id: &RequestId, clock: Clock) -> Problem {
    let reach = gateway.journal().reach();
    let since = |lost: Option<Monotonic>| {
        lost.map_or_else(|| "the start of this agent".to_owned(), |lost| clock.text(lost))
    };
    let other = if control.predecessor.load().is_some() {
        "; the agent before this one is still finishing requests, and their ids are known to it alone"
    } else if matches!(control.standing(), Standing::Replaced | Standing::Upgrading) {
        "; another agent is taking over, and may know it"
    } else {
        ""
    };
    Problem::RequestMissing {
        answered: since(reach.answered),
        id: id.as_str().to_owned(),
        other,
        refused: since(reach.refused),
    }
}

fn story(entry: &Entry, clock: Clock) -> RequestStory {
    let notes = &entry.notes;
    let limits = notes.limits.iter().map(|note| LimitStory {
        debt: note.debt,
        limit: note.limit,
        name: note.name.to_string(),
    });
    let decided_by = notes
        .decided_by
        .as_ref()
        .map(|(decider, name)| DeciderStory { kind: decider.name().to_owned(), name: name.to_string() });
    let upstream = notes.upstream.as_ref().map(|name| UpstreamStory {
        duration_ms: entry.upstream_took().map(milliseconds),
        endpoint: notes.endpoint.as_ref().map(ToString::to_string),
        name: name.to_string(),
    });
    RequestStory {
        credential: credential(entry, clock),
        decided_by,
        detail: entry.outcome.detail().map(str::to_owned),
        duration_ms: milliseconds(entry.took),
        host: entry.host.clone(),
        id: entry.id.clone(),
        kernel: None,
        limits: limits.collect(),
        method: entry.method.clone(),
        path: entry.path.clone(),
        reason: entry.outcome.reason().map(str::to_owned),
        route: notes.route.as_ref().map(ToString::to_string),
        source: entry.source,
        status: entry.outcome.status,
        time: UnixTime(clock.at(entry.at).as_secs()),
        time_text: clock.text(entry.at),
        upstream,
        via: entry.via.name().to_owned(),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

fn credential(entry: &Entry, clock: Clock) -> Option<CredentialStory> {
    let notes = &entry.notes;
    let kind = notes.credential?;
    let blank = CredentialStory {
        cached: notes.cached,
        expires: None,
        issued_at: None,
        issuer: None,
        key: None,
        key_age_seconds: None,
        kind: kind.name().to_owned(),
        principal: None,
        revoked: notes.revoked,
        scopes: Vec::new(),
        tenant: None,
        verified: notes.identity.is_some(),
    };
    let Some(identity) = &notes.identity else {
        let Presented { issuer, key } = notes.presented.clone().unwrap_or_default();
        let issuer = issuer.map(|issuer| issuer.to_string());
        return Some(CredentialStory { issuer, key: key.map(String::from), ..blank });
    };
    let facts = identity.facts();
    let key = match kind {
        Method::ApiKey => facts.key.map(|key| key.to_string()),
        Method::Certificate | Method::Jwt => facts.signing_key.as_ref().map(ToString::to_string),
    };
    let came = clock.at(entry.at).as_secs();
    let age = facts.issued_at.filter(|_| kind == Method::ApiKey).map(|made| came.saturating_sub(made.0));
    Some(CredentialStory {
        expires: facts.expires,
        issued_at: facts.issued_at,
        issuer: facts.issuer.as_ref().map(ToString::to_string),
        key,
        key_age_seconds: age,
        principal: Some(facts.subject.to_string()),
        scopes: facts.scopes.iter().map(ToString::to_string).collect(),
        tenant: facts.tenant.as_ref().map(ToString::to_string),
        ..blank
    })
}

impl Control {
    /// How old was what is known of the keys of a token's issuer.
    fn age_of_keys(&self, story: &mut RequestStory) {
        let Some(credential) = &mut story.credential else { return };
        let Some(issuer) = &credential.issuer else { return };
        let known = self.issuers.list(Monotonic::now(), UnixTime::now());
        let fetched = known.into_iter().find(|known| known.name == *issuer).and_then(|known| known.fetched);
        // What was fetched since then says nothing of it.
        let age = fetched.and_then(|fetched| story.time.0.checked_sub(fetched.0));
        credential.key_age_seconds = credential.key_age_seconds.or(age);
    }
}
