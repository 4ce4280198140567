//! `/v1/events`: samples of packets, a line of JSON each, for as long as the client listens.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use http_body::Frame;

use super::problem::Problem;
use super::{Control, blocking};
use crate::events::{DEFAULT_RATE, MAX_RATE, Subscription, Wanted, parse_reasons};
use crate::network::parse_network;

/// Networks that a subscription may name.
const SOURCES: usize = 64;

pub(super) async fn stream(
    State(control): State<Arc<Control>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Problem::field("query", error.body_text()))?;
    let wanted = wanted(&query)?;
    let subscription =
        blocking(control, move |control| control.edge.subscribe(wanted).map_err(Problem::subscribe)).await?;
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::new(Lines(subscription))).into_response())
}

/// `reason` and `source` may come several times, `rate` once.
fn wanted(query: &[(String, String)]) -> Result<Wanted, Problem> {
    let (mut reasons, mut sources, mut rate) = (0, Vec::new(), DEFAULT_RATE);
    for (name, value) in query {
        match name.as_str() {
            "rate" => rate = parse_rate(value)?,
            "reason" => {
                reasons |=
                    parse_reasons(value).map_err(|error| Problem::field("reason", error.to_string()))?;
            }
            "source" if sources.len() >= SOURCES => {
                return Err(Problem::field("source", format!("name at most {SOURCES} networks")));
            }
            "source" => sources.push(parse_network(value)?),
            _ => return Err(Problem::field("query", "write reason=NAME, source=CIDR or rate=N")),
        }
    }
    Ok(Wanted::new(reasons, sources, rate))
}

fn parse_rate(text: &str) -> Result<u32, Problem> {
    let rate = text.parse().ok().filter(|rate| (1..=MAX_RATE).contains(rate));
    rate.ok_or_else(|| {
        Problem::field("rate", format!("write a number of samples per second up to {MAX_RATE}"))
    })
}

/// A body that ends with the subscription, and the other way round: dropping either ends both.
struct Lines(Subscription);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let line = ready!(self.0.poll_next(context));
        let line = line.and_then(|line| serde_json::to_vec(&line).ok());
        Poll::Ready(line.map(|mut line| {
            line.push(b'\n');
            Ok(Frame::data(line.into()))
        }))
    }
}
