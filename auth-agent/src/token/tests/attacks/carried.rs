//! Class 14: more than one credential, or one in a form or place where another server might read another.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::credential::extract;
use crate::refusal::Refusal;

const MAX_BYTES: usize = 64;

#[test]
fn credentials_in_another_form_or_place() {
    let (ambiguous, malformed) = (Refusal::CredentialAmbiguous, Refusal::CredentialMalformed);
    let (token, key) = ("authorization", "x-api-key");
    let long = format!("Bearer {}", "a".repeat(MAX_BYTES + 1));
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let rows: [(&str, Fields<'_>, Option<&str>, Option<Refusal>); 32] = [
        ("Bearer", &[(token, "Bearer a.b.c")], None, None),
        ("bearer", &[(token, "bearer a.b.c")], None, None),
        ("BEARER", &[(token, "BEARER a.b.c")], None, None),
        ("no scheme", &[(token, "a.b.c")], None, Some(malformed)),
        ("nothing after the scheme", &[(token, "Bearer ")], None, Some(malformed)),
        ("the scheme alone", &[(token, "Bearer")], None, Some(malformed)),
        ("a tab", &[(token, "Bearer\ta.b.c")], None, Some(malformed)),
        ("two spaces", &[(token, "Bearer  a.b.c")], None, Some(malformed)),
        ("a space after", &[(token, "Bearer a.b.c ")], None, Some(malformed)),
        ("data after", &[(token, "Bearer a.b.c x")], None, Some(malformed)),
        ("two, with a comma", &[(token, "Bearer a.b.c, Bearer d.e.f")], None, Some(malformed)),
        ("two, with a comma and no space", &[(token, "Bearer a.b.c,d.e.f")], None, Some(malformed)),
        ("in quotes", &[(token, "Bearer \"a.b.c\"")], None, Some(malformed)),
        ("Basic", &[(token, "Basic YTpi")], None, Some(malformed)),
        ("DPoP", &[(token, "DPoP a.b.c")], None, Some(malformed)),
        ("too long", &[(token, &long)], None, Some(malformed)),
        ("another script", &[(token, "Bearer é")], None, Some(malformed)),
        ("two Authorization fields", &[(token, "Bearer a"), (token, "Bearer b")], None, Some(ambiguous)),
        ("the same twice", &[(token, "Bearer a"), (token, "Bearer a")], None, Some(ambiguous)),
        ("a token and a key", &[(token, "Bearer a"), (key, "b")], None, Some(ambiguous)),
        ("a broken token and a key", &[(token, "Basic a"), (key, "b")], None, Some(ambiguous)),
        ("two keys", &[(key, "a"), (key, "b")], None, Some(ambiguous)),
        ("two keys, with a comma", &[(key, "a,b")], None, Some(malformed)),
        ("an empty key", &[(key, "")], None, Some(malformed)),
        ("a key with a space", &[(key, "a b")], None, Some(malformed)),
        ("a token in the query", &[], Some("access_token=a"), Some(malformed)),
        ("a key in the query", &[], Some("x=1&API-Key=a"), Some(malformed)),
        ("a key in the query, escaped", &[], Some("%61pi%5Fkey=a"), Some(malformed)),
        ("a token, and one in the query", &[(token, "Bearer a")], Some("access_token=a"), Some(ambiguous)),
        ("a key, and a token in the query", &[(key, "a")], Some("access_token=b"), Some(ambiguous)),
        (
            "a cookie, which counts for nothing",
            &[("cookie", "access_token=a")],
            None,
            Some(Refusal::CredentialMissing),
        ),
        ("nothing", &[], Some("q=1"), Some(Refusal::CredentialMissing)),
    ];
    for (what, fields, query, expected) in rows {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        });
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value)| {
            headers.append(name, value);
        });
        let found = extract(&headers, query, &HeaderName::from_static("x-api-key"), MAX_BYTES);
        assert_eq!(found.err(), expected, "{what}");
    }
}
