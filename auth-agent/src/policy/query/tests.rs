use proptest::prelude::*;

use super::*;

#[test]
fn a_parameter_counts_if_it_is_there_once_and_spelled_plainly() {
    let some = |text: &str| Ok(Some(text.to_owned()));
    for (query, expected) in [
        ("id=1", some("1")),
        ("a=b&id=1&c", some("1")),
        ("&&id=1&", some("1")),
        ("id=", some("")),
        ("id=a%20b", some("a b")),
        ("id=%C3%A9", some("é")),
        ("id=%c3%a9", some("é")),
        ("id=%2B%3D", some("+=")),
        ("id=100%25", some("100%")),
        ("q=caf%E9&id=1", some("1")),
        ("q=1%2B1%3D2&id=1", some("1")),
        ("xid=2&ids=3&id=1&a_id=4", some("1")),
        ("a[id]=2&id=1", some("1")),
        ("", Ok(None)),
        ("a=b", Ok(None)),
        ("ids=1", Ok(None)),
        // Twice, also in another spelling.
        ("id=1&id=1", Err(Ambiguous)),
        ("id=1&id=2", Err(Ambiguous)),
        ("id=1&ID=2", Err(Ambiguous)),
        ("id=1&%69d=2", Err(Ambiguous)),
        ("id=1&i%64=2", Err(Ambiguous)),
        ("id=1&id[]=2", Err(Ambiguous)),
        ("id=1&id%5B%5D=2", Err(Ambiguous)),
        ("id=1&id%5b0%5d=2", Err(Ambiguous)),
        ("id=1&[id]=2", Err(Ambiguous)),
        ("id=1&id[=2", Err(Ambiguous)),
        ("id=1&id.=2", Err(Ambiguous)),
        ("id=1&+id=2", Err(Ambiguous)),
        ("id=1&%20id=2", Err(Ambiguous)),
        ("id=1&id%20=2", Err(Ambiguous)),
        ("id=1&id%00=2", Err(Ambiguous)),
        ("id=1&id%00x=2", Err(Ambiguous)),
        ("id=1&?id=2", Err(Ambiguous)),
        ("x=1?id=2&id=1", Err(Ambiguous)),
        ("id=1&x=1?id=2", Err(Ambiguous)),
        ("id=1?id=2", Err(Ambiguous)),
        ("x=1?y=2&id=1", some("1")),
        ("id=1&%2569d=2", Err(Ambiguous)),
        ("id=1&%C4%B1d=2", Err(Ambiguous)),
        ("id=1&id", Err(Ambiguous)),
        // Once, and not plainly.
        ("ID=1", Err(Ambiguous)),
        ("%69d=1", Err(Ambiguous)),
        ("id[]=1", Err(Ambiguous)),
        ("id", Err(Ambiguous)),
        ("id=1=2", Err(Ambiguous)),
        ("id=a+b", Err(Ambiguous)),
        ("id=1%00", Err(Ambiguous)),
        ("id=%0a1", Err(Ambiguous)),
        ("id=%C2%85", Err(Ambiguous)),
        ("id=a%26b", Err(Ambiguous)),
        ("id=a%3Bb", Err(Ambiguous)),
        ("id=%2531", Err(Ambiguous)),
        ("id=%25u0031", Err(Ambiguous)),
        ("id=%u0031", Err(Ambiguous)),
        ("id=%", Err(Ambiguous)),
        ("id=%3", Err(Ambiguous)),
        ("id=%zz", Err(Ambiguous)),
        ("id=%FF", Err(Ambiguous)),
        ("id=%C0%B1", Err(Ambiguous)),
        // For those who split at semicolons, or after decoding.
        ("id=1;id=2", Err(Ambiguous)),
        ("a=1;id=2", Err(Ambiguous)),
        ("a=b&amp;id=1", Err(Ambiguous)),
        ("id=1&a=x%26id=2", Err(Ambiguous)),
        ("id=1&a=x%26id%3D2", Err(Ambiguous)),
        ("a=x%3Bid%3D2&id=1", Err(Ambiguous)),
        ("id=1&a=%zz", Err(Ambiguous)),
    ] {
        let found = value(query, "id").map(|found| found.map(Cow::into_owned));
        assert_eq!(found, expected, "{query}");
    }
}

#[test]
fn names_of_several_words_are_one_in_every_writing() {
    for other in [
        "user-id",
        "userId",
        "user.id",
        "USER_ID",
        "user%5Fid",
        "user%20id",
        "user+id",
        "user[id",
        "user_id[x]",
    ] {
        assert_eq!(value(&format!("user_id=1&{other}=2"), "user_id"), Err(Ambiguous), "{other}");
        assert_eq!(value(&format!("{other}=2"), "user_id"), Err(Ambiguous), "{other}");
    }
    assert_eq!(value("user=2&id=3&user_id=1", "user_id"), Ok(Some("1".into())));
}

#[test]
fn a_method_in_the_query_is_found_in_every_spelling() {
    for query in [
        "_method=DELETE",
        "a=b&_method=PUT",
        "_METHOD=DELETE",
        "%5Fmethod=DELETE",
        "_metho%64=DELETE",
        "a=%26_method=DELETE",
        "a=b;_method=DELETE",
        "_method",
        "_method[]=x",
        ".method=x",
        "%20_method=x",
        "[_method]=x",
        "_method%00=x",
        "+_method=x",
        "q=%E9&_method=x",
        "q=%zz&_method=x",
    ] {
        assert!(mentions(query, "_method"), "{query}");
    }
    for query in [
        "",
        "a=b",
        "q=_method",
        "payment_method=card",
        "methods=a",
        "q=caf%E9",
        "q=%zz",
        "%C3%A9=1",
        "a=method",
    ] {
        assert!(!mentions(query, "_method"), "{query}");
    }
}

/// How servers take a query apart: each gives all the values that it finds for `id`.
mod servers {
    fn decode(text: &str, plus: bool) -> String {
        let text = if plus { text.replace('+', " ") } else { text.to_owned() };
        let bytes = text.as_bytes();
        let (mut output, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) => {
                    output.push(byte);
                    at += 3;
                }
                None => {
                    output.push(bytes[at]);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&output).into_owned()
    }

    fn pairs(query: &str, separators: &[char]) -> Vec<(String, String)> {
        let pairs = query.split(separators).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    fn found(pairs: Vec<(String, String)>, is: impl Fn(&str) -> bool, plus: bool) -> Vec<String> {
        let decoded = pairs.iter().map(|(key, value)| (decode(key, plus), decode(value, plus)));
        decoded.filter(|(key, _)| is(key)).map(|(_, value)| value).collect()
    }

    pub fn all(query: &str) -> Vec<Vec<String>> {
        let exact = |key: &str| key == "id";
        let php = |key: &str| {
            let name = key.trim_start_matches(' ').split('\0').next().unwrap_or_default().to_owned();
            let name = name
                .split_once('[')
                .filter(|(_, rest)| rest.contains(']'))
                .map_or(name.clone(), |(base, _)| base.into());
            name.replace([' ', '.', '['], "_") == "id"
        };
        let rack = |key: &str| {
            let start = key.trim_start_matches(['[', ']']);
            start.split(['[', ']']).next() == Some("id")
        };
        let last = |query: &str| query.rsplit('=').next().unwrap_or_default().to_owned();
        vec![
            found(pairs(query, &['&']), exact, true),
            found(pairs(query, &['&']), exact, false),
            found(pairs(query, &['&', ';']), exact, true),
            found(pairs(query, &['&']), |key| key.eq_ignore_ascii_case("id"), true),
            found(pairs(query, &['&']), |key| key.trim() == "id", true),
            found(pairs(query, &['&']), |key| key.trim_start_matches('?') == "id", true),
            found(pairs(query, &['&']), php, true),
            found(pairs(query, &['&']), rack, true),
            found(pairs(&decode(query, true), &['&']), exact, false),
            found(pairs(&decode(query, false), &['&', ';']), exact, false),
            // Twice.
            found(pairs(query, &['&']), |key| decode(key, true) == "id", true)
                .iter()
                .map(|value| decode(value, true))
                .collect(),
            // What is after the last `=` of a pair.
            query
                .split('&')
                .filter(|pair| pair.split('=').next() == Some("id"))
                .map(|pair| decode(&last(pair), true))
                .collect(),
        ]
    }
}

fn query() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "id", "ID", "i", "d", "%69", "%64", "%2569", "=", "=", "&", "&", "&", ";", "%3B", "%26", "%3D", "[",
        "]", "%5B", "%5D", "+", "%20", ".", "%00", "1", "2", "%31", "%2531", "a", "?", "%", "%C3%A9",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_server_finds_another_value_than_the_one_that_counts(query in query(), rest in query()) {
        let query = format!("{query}&id=1&{rest}");
        for query in [query.as_str(), &rest] {
            if let Ok(Some(counted)) = value(query, "id") {
                for found in servers::all(query) {
                    prop_assert!(found.iter().all(|found| *found == *counted), "{query}: {counted} {found:?}");
                }
            }
        }
    }

    #[test]
    fn a_parameter_that_is_encoded_as_clients_do_counts_as_what_it_was(text in "[^\\p{Cc}%&;?]{0,12}", other in "[^\\p{Cc}]{0,12}") {
        let encode = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let query = format!("q={}&id={}", encode(&other.replace(['&', ';', '?'], "")), encode(&text));
        prop_assert_eq!(value(&query, "id"), Ok(Some(text.as_str().into())));
    }

    #[test]
    fn no_query_panics(query in "[!-~]{0,40}", name in "[a-zA-Z0-9_-]{1,8}") {
        let _ = (value(&query, &name), mentions(&query, &name));
    }
}
