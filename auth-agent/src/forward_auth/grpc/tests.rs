use http_body_util::Full;

use super::message::{Address, AttributeContext, Peer, SocketAddress};
use super::*;

/// What a proxy sends that asks about a request with these fields.
pub fn call(
    (client, host): (&str, &str),
    (method, path): (&str, &str),
    fields: &[(String, String)],
) -> Vec<u8> {
    let pseudo = [(":authority", host), (":method", method), (":path", path), (":scheme", "https")];
    let fields = pseudo.into_iter().chain(fields.iter().map(|(name, value)| (&**name, &**value)));
    let fields = fields.map(|(name, value)| message::HeaderValue {
        key: name.to_owned(),
        value: String::new(),
        raw_value: Bytes::copy_from_slice(value.as_bytes()),
    });
    let http = HttpRequest {
        header_map: Some(message::HeaderMap { headers: fields.collect() }),
        host: host.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        ..HttpRequest::default()
    };
    let address = Some(SocketAddress { address: client.to_owned() });
    let source = Some(Peer { address: Some(Address { socket_address: address }) });
    let request = Some(message::Request { http: Some(http) });
    frame(&CheckRequest { attributes: Some(AttributeContext { request, source }) }.encode_to_vec())
}

/// The one message of a call.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// An answer as the client gets it, or as the upstream gets the request: status, fields, body, and what is taken off.
pub fn answer(framed: &[u8]) -> (u16, HeaderMap, String, Vec<String>) {
    let answer = CheckResponse::decode(unframed(framed).unwrap()).unwrap();
    let code = answer.status.unwrap().code;
    let fields = |options: Vec<HeaderValueOption>| {
        let field = |option: HeaderValueOption| {
            assert_eq!(option.append_action, OVERWRITE_IF_EXISTS_OR_ADD);
            let field = option.header.unwrap();
            (HeaderName::try_from(field.key).unwrap(), HeaderValue::try_from(field.value).unwrap())
        };
        options.into_iter().map(field).collect::<HeaderMap>()
    };
    match (answer.ok_response, answer.denied_response) {
        (Some(ok), None) => {
            assert_eq!(code, 0);
            let mut told = fields(ok.headers);
            told.extend(fields(ok.response_headers_to_add));
            (200, told, String::new(), ok.headers_to_remove)
        }
        (None, Some(denied)) => {
            assert_ne!(code, 0);
            let status = u16::try_from(denied.status.unwrap().code).unwrap();
            assert_eq!(code == 16, status == 401);
            (status, fields(denied.headers), denied.body, Vec::new())
        }
        both => panic!("{both:?}"),
    }
}

async fn asked(framed: Vec<u8>) -> Result<(Parts, IpAddr), Refusal> {
    question(Full::new(Bytes::from(framed))).await
}

/// By the numbers of the published messages, byte for byte, with a field that is not known here in each.
#[tokio::test]
async fn a_question_is_read_by_the_numbers_of_the_published_messages() {
    let field = |number: u8, value: &[u8]| [&[number << 3 | 2, value.len() as u8], value].concat();
    let unknown = field(15, b"?");
    let header = |key: &[u8], value: &[u8]| field(1, &[field(1, key), field(3, value)].concat());
    let map = [header(b":path", b"/a?b"), header(b"x-a", b"1"), header(b"x-a", b"2")].concat();
    let http = [
        field(1, b"id"),
        field(2, b"PUT"),
        field(4, b"/a?b"),
        field(5, b"api.example"),
        field(6, b"https"),
        vec![9 << 3, 5],
        field(10, b"HTTP/2"),
        field(13, &map),
        unknown.clone(),
    ]
    .concat();
    let socket = [vec![1 << 3, 0], field(2, b"2001:db8::7"), vec![3 << 3, 80]].concat();
    let source = [field(1, &field(1, &socket)), field(2, b"service"), unknown.clone()].concat();
    let request = [field(1, &[1 << 3, 7]), field(2, &http)].concat();
    let attributes = [field(1, &source), field(2, &source), field(4, &request), unknown].concat();
    let mut message = vec![1 << 3 | 2];
    // A length of two digits to the base of 128.
    message.extend([attributes.len() as u8 & 127 | 128, (attributes.len() >> 7) as u8]);
    message.extend(attributes);
    let (original, client) = asked(frame(&message)).await.unwrap();
    assert_eq!(client, "2001:db8::7".parse::<IpAddr>().unwrap());
    assert_eq!((original.method, original.uri), (Method::PUT, Uri::from_static("/a?b")));
    assert_eq!(original.headers[HOST], "api.example");
    assert_eq!(original.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(original.headers.len(), 3);
}

#[tokio::test]
async fn an_answer_is_written_by_the_numbers_of_the_published_messages() {
    let bytes = async |response: Response<Answer>| {
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        collected.to_bytes()
    };
    let headers = HeaderMap::from_iter([
        (HeaderName::from_static("x-a"), HeaderValue::from_static("1")),
        (HeaderName::from_static("x-b"), HeaderValue::from_static("")),
        (HeaderName::from_static("x-c"), HeaderValue::from_static("")),
        (RATE_LIMIT, HeaderValue::from_static("r")),
    ]);
    let ok = bytes(permitted(&headers)).await;
    let expected = b"\x0a\x00\x1a\x2c\x12\x0c\x0a\x08\x0a\x03x-a\x12\x011\x18\x02\x2a\x03x-b\x2a\x03x-c\
        \x32\x12\x0a\x0e\x0a\x09ratelimit\x12\x01r\x18\x02";
    assert_eq!(ok[..], [&[0, 0, 0, 0, expected.len() as u8][..], expected].concat());
    let mut refused = Response::new(Full::new(Bytes::from_static(b"no")));
    *refused.status_mut() = http::StatusCode::UNAUTHORIZED;
    refused.headers_mut().insert("x-a", HeaderValue::from_static("1"));
    let denied = bytes(denied(refused).await).await;
    let expected =
        b"\x0a\x02\x08\x10\x12\x17\x0a\x03\x08\x91\x03\x12\x0c\x0a\x08\x0a\x03x-a\x12\x011\x18\x02\x1a\x02no";
    assert_eq!(denied[..], [&[0, 0, 0, 0, expected.len() as u8][..], expected].concat());
}

#[tokio::test]
async fn what_can_not_be_read_or_contradicts_itself_is_refused() {
    let good = call(("192.0.2.7", "api.example"), ("GET", "/x"), &[]);
    assert!(asked(good.clone()).await.is_ok());
    let with = |name: &str, value: &str| {
        call(("192.0.2.7", "api.example"), ("GET", "/x"), &[(name.to_owned(), value.to_owned())])
    };
    let mut compressed = good.clone();
    compressed[0] = 1;
    let digit = |number: usize| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[number % 36]);
    let named = |number: usize| [number / 1_296, number / 36, number].map(digit).iter().collect::<String>();
    let names: Vec<_> = (0..30_000).map(|number| (named(number), String::new())).collect();
    // So many are the most that a map holds.
    for count in 24_574..24_579 {
        let framed = call(("192.0.2.7", "api.example"), ("GET", "/x"), &names[..count]);
        assert_eq!(asked(framed).await.is_ok(), count < 24_576, "{count}");
    }
    let many = call(("192.0.2.7", "api.example"), ("GET", "/x"), &names);
    assert!(many.len() < MAX_MESSAGE_BYTES);
    let mut joined =
        HttpRequest { method: "GET".to_owned(), path: "/x".to_owned(), ..HttpRequest::default() };
    let of_http = |http: HttpRequest| {
        let source = CheckRequest::decode(unframed(&good).unwrap()).unwrap().attributes.unwrap().source;
        let request = Some(message::Request { http: Some(http) });
        frame(&CheckRequest { attributes: Some(AttributeContext { request, source }) }.encode_to_vec())
    };
    let without_fields = of_http(joined.clone());
    joined.headers.insert("authorization".to_owned(), "Bearer a,Bearer b".to_owned());
    let joined_alone = of_http(joined.clone());
    joined.header_map = Some(message::HeaderMap::default());
    for (what, framed) in [
        ("nothing", Vec::new()),
        ("no message", frame(&[])),
        ("half a prefix", good[..4].to_vec()),
        ("half a message", good[..good.len() - 1].to_vec()),
        ("two messages", [&good[..], &good].concat()),
        ("compressed", compressed),
        ("no protobuf", frame(b"\xff\xff\xff")),
        ("too long", with("x-a", &"a".repeat(MAX_MESSAGE_BYTES))),
        ("no fields", without_fields),
        ("joined fields", joined_alone),
        ("fields in both forms", of_http(joined)),
        ("another path", with(":path", "/y")),
        ("another method", with(":method", "PUT")),
        ("another host", with("host", "other.example")),
        ("another host in capitals", with("Host", "other.example")),
        (
            "a host that is no text",
            good.iter().map(|byte| if *byte == b'p' { 0xff } else { *byte }).collect(),
        ),
        ("more fields than a map holds", many),
        ("a name that is none", with("a b", "1")),
        ("a value that is none", with("x-a", "1\n2")),
        ("a fragment", call(("192.0.2.7", "api.example"), ("GET", "/x#y"), &[])),
        ("no method", call(("192.0.2.7", "api.example"), ("", "/x"), &[])),
        ("no path", call(("192.0.2.7", "api.example"), ("GET", ""), &[])),
    ] {
        assert_eq!(asked(framed).await.err(), Some(Refusal::QuestionInvalid), "{what}");
    }
    let nobody = CheckRequest::decode(unframed(&good).unwrap()).unwrap().attributes.unwrap().request;
    let nobody = CheckRequest { attributes: Some(AttributeContext { request: nobody, source: None }) };
    let nobody = asked(frame(&nobody.encode_to_vec())).await;
    assert_eq!(nobody.err(), Some(Refusal::ClientAddressInvalid));
    for client in ["", "unknown", "192.0.2.7, 10.0.0.1", "/run/socket"] {
        let framed = call((client, "api.example"), ("GET", "/x"), &[]);
        assert_eq!(asked(framed).await.err(), Some(Refusal::ClientAddressInvalid), "{client}");
    }
}
