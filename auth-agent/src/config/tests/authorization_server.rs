//! `[authorization_server]`

use super::*;

#[test]
fn there_is_none_unless_it_is_configured_and_the_example_shows_its_defaults() {
    assert_eq!(parse(EXAMPLE).unwrap().authorization_server, None);
    let section = EXAMPLE.split_once("#[authorization_server]\n").unwrap().1;
    let lines = section.lines().take_while(|line| !line.is_empty());
    let fields: Vec<_> =
        lines.filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = ")).collect();
    assert_eq!(fields.len(), 6);
    let shown = minimal_with(&format!("[authorization_server]\n{}", fields.join("\n"))).unwrap();
    let least = "issuer = \"https://api.example.com\"\naudience = \"https://api.example.com\"";
    let least = minimal_with(&format!("[authorization_server]\n{least}")).unwrap();
    assert_eq!(shown, least);
    let [issuer] = &least.issuers[..] else { panic!("it is one of the issuers") };
    assert_eq!((&*issuer.name, &issuer.keys), (OWN_ISSUER, &KeySource::Own));
    assert_eq!(issuer.types, ["at+jwt"]);
}

#[test]
fn its_url_is_taken_apart_as_clients_will() {
    for (url, authority, path) in [
        ("https://Edge.example", "edge.example", ""),
        ("https://edge.example:443", "edge.example", ""),
        ("https://edge.example:8443/a/b", "edge.example:8443", "/a/b"),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", ""),
        ("https://[2001:db8::1]", "[2001:db8::1]", ""),
        ("https://192.0.2.1/x", "192.0.2.1", "/x"),
    ] {
        let text = format!("[authorization_server]\nissuer = \"{url}\"\naudience = \"a\"");
        let found = minimal_with(&text).unwrap().authorization_server.unwrap().issuer;
        assert_eq!((&*found.text, &*found.authority, &*found.path), (url, authority, path));
    }
}
