use proptest::prelude::*;

use super::PathError::*;
use super::*;

#[test]
fn a_canonical_path_is_borrowed_as_it_is() {
    for path in
        ["/", "/a", "/a/", "/a/b.c/~d_e-f", "/a:b@c!$&'()*+,=", "/%20", "/%C3%A9", "/%25", "/...", "/a..b"]
    {
        assert!(matches!(canonical(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
    }
}

#[test]
fn escapes_are_normalised() {
    for (path, expected) in [
        ("/%61%62", "/ab"),
        ("/%7euser", "/~user"),
        ("/a%2db", "/a-b"),
        ("/%c3%a9", "/%C3%A9"),
        ("/x%3ay", "/x:y"),
        ("/%21%24%26%27%28%29%2a%2c%3D%3A%40", "/!$&'()*,=:@"),
        ("/a%2bb+c", "/a%2Bb+c"),
        ("/%41/%3f/%61", "/A/%3F/a"),
        ("/100%25", "/100%25"),
        ("/%25zz", "/%25zz"),
    ] {
        assert_eq!(canonical(path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn whatever_two_servers_could_read_differently_is_refused_by_name() {
    for (path, expected) in [
        ("", Form),
        ("*", Form),
        ("a/b", Form),
        ("%2Fa", Form),
        ("/a/../b", DotSegment),
        ("/..", DotSegment),
        ("/a/.", DotSegment),
        ("/./a", DotSegment),
        ("/%2e%2e/a", DotSegment),
        ("/.%2E/a", DotSegment),
        ("/a/%2e", DotSegment),
        ("/a%2fb", EncodedSlash),
        ("/a%2F..%2Fb", EncodedSlash),
        ("/a%5cb", Backslash),
        ("/a\\b", Backslash),
        ("//", EmptySegment),
        ("//a", EmptySegment),
        ("/a//b", EmptySegment),
        ("/a//", EmptySegment),
        ("/a;b=c/d", Parameter),
        ("/..;/a", Parameter),
        ("/a%3bb", Parameter),
        ("/a%00", Control),
        ("/a%0d%0ab", Control),
        ("/%1f", Control),
        ("/%7F", Control),
        ("/a\u{7f}", Control),
        ("/a\tb", Control),
        ("/%c2%85", Control),
        ("/%252e%252e/a", DoubleEncoding),
        ("/%252f", DoubleEncoding),
        ("/%25%32%66", DoubleEncoding),
        ("/%2525", DoubleEncoding),
        ("/%c0%ae%c0%ae/a", Utf8),
        ("/%e0%80%af", Utf8),
        ("/%ff", Utf8),
        ("/%c3", Utf8),
        ("/%c3/%a9", Utf8),
        ("/%ed%a0%80", Utf8),
        ("/%", Escape),
        ("/%4", Escape),
        ("/%u0041", Escape),
        ("/%+1a", Escape),
        ("/é", Character),
        ("/a b", Character),
        ("/a|b", Character),
        ("/a\"b", Character),
        ("/<a>", Character),
        ("/a?b", Character),
        ("/a#b", Character),
    ] {
        assert_eq!(canonical(path), Err(expected), "{path}");
    }
}

#[test]
fn a_query_passes_byte_for_byte_or_not_at_all() {
    for query in ["", "a=b&c=%2e%2e//", "q[]=1&x={}|^`\\\"<>", "%zz"] {
        assert_eq!(check_query(query), Ok(()), "{query}");
    }
    for query in ["a b", "a\tb", "é", "\u{7f}"] {
        assert_eq!(check_query(query), Err(Character), "{query}");
    }
}

/// Pieces that, put together, come near every rule.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9]{1,3}",
        4 => prop::sample::select(vec!["/", ".", "..", "%", "2e", "25", "%2E", "%2f", "%25", "%5C", ";", "%3B", "//"])
            .prop_map(str::to_owned),
        3 => "%[0-9a-fA-F]{2}",
        1 => "%C3%[89AB][0-9A-F]",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn decode(path: &str) -> Vec<u8> {
    let mut rest = path.as_bytes();
    let mut decoded = Vec::new();
    while let Some(&byte) = rest.first() {
        let escaped = escape(rest);
        decoded.push(escaped.unwrap_or(byte));
        rest = &rest[if escaped.is_some() { 3 } else { 1 }..];
    }
    decoded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_canonical_form_is_its_own_canonical_form(path in paths()) {
        if let Ok(once) = canonical(&path) {
            let twice = canonical(&once);
            prop_assert!(matches!(&twice, Ok(Cow::Borrowed(same)) if *same == once), "{} {:?}", once, twice);
        }
    }

    #[test]
    fn no_number_of_decodings_reveals_a_refused_form(path in paths()) {
        if let Ok(form) = canonical(&path) {
            prop_assert_eq!(decode(&form), decode(&path));
            let once = String::from_utf8(decode(&form)).unwrap();
            let again = decode(&once);
            for text in [form.as_bytes(), once.as_bytes(), &again] {
                prop_assert!(!text.windows(2).any(|pair| pair == b"//"));
                prop_assert!(!text.iter().any(|byte| matches!(byte, b'\\' | b';') || byte.is_ascii_control()));
                let slashes = text.iter().filter(|&&byte| byte == b'/').count();
                prop_assert_eq!(slashes, form.matches('/').count());
                prop_assert!(!text.split(|&byte| byte == b'/').any(|part| part == b"." || part == b".."));
            }
        }
    }

    #[test]
    fn nothing_makes_it_panic(path in any::<String>()) {
        let _ = canonical(&path);
        let _ = check_query(&path);
    }
}
