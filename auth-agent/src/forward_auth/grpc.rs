//! Envoy asks by gRPC: `envoy.service.auth.v3.Authorization/Check`, over HTTP/2 with prior knowledge.
//!
//! The few messages are decoded by prost, and the frame around the one message of a call is five bytes, so that a second
//! server stack has no place here. Whatever can't be read is answered as a denial and not as a failed call: a proxy may be
//! told to let requests through when calls fail.

mod message;
#[cfg(test)]
pub(super) mod tests;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use prost::Message as _;

use self::message::{
    CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValueOption, HttpRequest, HttpStatus,
    OVERWRITE_IF_EXISTS_OR_ADD, OkHttpResponse, Status,
};
use crate::client_address::parse_address;
use crate::limits::{RATE_LIMIT, RATE_LIMIT_POLICY};
use crate::refusal::Refusal;

/// The method that is called.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A question is the fields of a request and what the proxy knows of it; a body has no place there.
const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// Whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// An answer with the status of the call after it.
pub(super) type Answer = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;

/// Whether this is such a call.
pub(super) fn is_check(asking: &Parts) -> bool {
    asking.version == Version::HTTP_2
        && asking.method == Method::POST
        && asking.uri.path() == CHECK
        && asking
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| *kind == GRPC || kind == "application/grpc+proto")
}

/// The request that is asked about, and the address of its client.
///
/// # Errors
/// It can't be read, a part is missing, or two parts contradict each other.
pub(super) async fn question<B>(body: B) -> Result<(Parts, IpAddr), Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let framed = Limited::new(body, PREFIX_BYTES + MAX_MESSAGE_BYTES).collect().await;
    let framed = framed.map_err(|_| Refusal::QuestionInvalid)?.to_bytes();
    let asked = CheckRequest::decode(unframed(&framed)?).map_err(|_| Refusal::QuestionInvalid)?;
    let attributes = asked.attributes.ok_or(Refusal::QuestionInvalid)?;
    let source = attributes.source.and_then(|peer| peer.address?.socket_address);
    let client = source.and_then(|source| parse_address(&source.address));
    let http = attributes.request.and_then(|request| request.http).ok_or(Refusal::QuestionInvalid)?;
    Ok((original(http)?, client.ok_or(Refusal::ClientAddressInvalid)?))
}

/// The one message of a call; it is not compressed, as nothing was said of a way to.
fn unframed(framed: &[u8]) -> Result<&[u8], Refusal> {
    match framed.split_at_checked(PREFIX_BYTES) {
        Some((&[0, a, b, c, d], message)) if u32::from_be_bytes([a, b, c, d]) as usize == message.len() => {
            Ok(message)
        }
        _ => Err(Refusal::QuestionInvalid),
    }
}

fn original(http: HttpRequest) -> Result<Parts, Refusal> {
    let HttpRequest { header_map, headers, host, method, path } = http;
    // What is joined to one can't be told from what is one: there may be two credentials.
    let (Some(fields), true) = (header_map, headers.is_empty()) else { return Err(Refusal::QuestionInvalid) };
    // What follows a `#` would not be read here, and may be there.
    if path.contains('#') {
        return Err(Refusal::QuestionInvalid);
    }
    let (mut original, ()) = Request::new(()).into_parts();
    for field in fields.headers {
        let value = match (&*field.value, field.raw_value) {
            ("", value) => value,
            (_, value) if value.is_empty() => field.value.into(),
            _ => return Err(Refusal::QuestionInvalid),
        };
        let told = match &*field.key.to_ascii_lowercase() {
            ":authority" | "host" => Some(&host),
            ":method" => Some(&method),
            ":path" => Some(&path),
            name if name.starts_with(':') => continue,
            _ => None,
        };
        match told {
            Some(told) if told.as_bytes() == value => {}
            Some(_) => return Err(Refusal::QuestionInvalid),
            None => {
                let name = HeaderName::from_bytes(field.key.as_bytes());
                let value = HeaderValue::from_maybe_shared(value);
                let (Ok(name), Ok(value)) = (name, value) else { return Err(Refusal::QuestionInvalid) };
                // More than a map holds are more than any configuration takes.
                original.headers.try_append(name, value).map_err(|_| Refusal::QuestionInvalid)?;
            }
        }
    }
    let host = HeaderValue::try_from(host).map_err(|_| Refusal::QuestionInvalid)?;
    original.headers.try_insert(HOST, host).map_err(|_| Refusal::QuestionInvalid)?;
    original.method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::QuestionInvalid)?;
    original.uri = Uri::try_from(path).map_err(|_| Refusal::QuestionInvalid)?;
    Ok(original)
}

/// Lets a request through with these fields; what is covered by an empty one is taken off.
pub(super) fn permitted(headers: &HeaderMap) -> Response<Answer> {
    let (told, removed): (Vec<_>, Vec<_>) = headers.iter().partition(|(_, value)| !value.is_empty());
    let for_client = |name: &HeaderName| [RATE_LIMIT, RATE_LIMIT_POLICY].contains(name);
    let (to_client, to_upstream): (Vec<_>, Vec<_>) = told.into_iter().partition(|(name, _)| for_client(name));
    let ok = OkHttpResponse {
        headers: to_upstream.into_iter().map(field).collect(),
        headers_to_remove: removed.into_iter().map(|(name, _)| name.to_string()).collect(),
        response_headers_to_add: to_client.into_iter().map(field).collect(),
    };
    let status = Status { code: 0 };
    framed(&CheckResponse { status: Some(status), denied_response: None, ok_response: Some(ok) })
}

/// Has the client get this response.
pub(super) async fn denied(response: Response<Full<Bytes>>) -> Response<Answer> {
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await;
    let status = parts.status.as_u16();
    // The proxy says itself how long what it sends is.
    let fields = parts.headers.iter().filter(|(name, _)| **name != CONTENT_LENGTH);
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: status.into() }),
        headers: fields.map(field).collect(),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    };
    let status = Status { code: code(status) };
    framed(&CheckResponse { status: Some(status), denied_response: Some(denied), ok_response: None })
}

/// The code of `google.rpc.Code` that stands for a status; none of them is that of success.
fn code(status: u16) -> i32 {
    const PERMISSION_DENIED: i32 = 7;
    const RESOURCE_EXHAUSTED: i32 = 8;
    const UNAVAILABLE: i32 = 14;
    const UNAUTHENTICATED: i32 = 16;
    match status {
        401 => UNAUTHENTICATED,
        429 => RESOURCE_EXHAUSTED,
        503 => UNAVAILABLE,
        _ => PERMISSION_DENIED,
    }
}

fn field((name, value): (&HeaderName, &HeaderValue)) -> HeaderValueOption {
    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let header = message::HeaderValue { key: name.to_string(), value, raw_value: Bytes::new() };
    HeaderValueOption { header: Some(header), append_action: OVERWRITE_IF_EXISTS_OR_ADD }
}

fn framed(message: &CheckResponse) -> Response<Answer> {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    // There is room.
    let _ = message.encode(&mut bytes);
    // The call went well, whatever the answer is.
    let done = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let mut response = Response::new(Full::new(bytes.freeze()).with_trailers(ready(Some(Ok(done)))));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}
