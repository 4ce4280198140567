//! Where issuers' keys come from.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn keys(fields: &str) -> KeySource {
    let issuer = "[[issuer]]\nname = \"main\"\nissuer = \"https://id.example.com/realm\"\naudiences = [\"edge\"]\nalgorithms = [\"ES256\"]\n";
    minimal_with(&format!("{issuer}{fields}")).unwrap().issuers.remove(0).keys
}

#[test]
fn each_source_is_told_from_the_others_and_has_its_defaults() {
    let url = |text| HttpsUrl::parse(text).unwrap();
    assert_eq!(keys("keys = \"a.pem\""), KeySource::File("/etc/auth-agent/a.pem".into()));
    assert_eq!(keys("keys = \"a.pem\"\ndiscovery = false"), KeySource::File("/etc/auth-agent/a.pem".into()));
    let published = RemoteKeys {
        ca: None,
        max_age: 24 * HOUR,
        refetch_interval: Duration::from_secs(30),
        refresh_default: Duration::from_secs(600),
        refresh_max: HOUR,
        refresh_min: Duration::from_secs(60),
        source: RemoteSource::Jwks(url("https://keys.example.com/a?b=c")),
    };
    assert_eq!(keys("jwks_url = \"https://keys.example.com/a?b=c\""), KeySource::Remote(published.clone()));
    let discovered = RemoteSource::Discovery(url("https://id.example.com/realm"));
    let expected = RemoteKeys { ca: Some("/etc/auth-agent/ca.pem".into()), source: discovered, ..published };
    assert_eq!(keys("discovery = true\nca = \"ca.pem\""), KeySource::Remote(expected));
}

#[test]
fn defaults_stay_within_bounds_that_are_set() {
    let bounds = |fields: &str| {
        let KeySource::Remote(keys) = keys(&format!("discovery = true\n{fields}")) else {
            panic!("not remote")
        };
        [keys.refresh_min, keys.refresh_default, keys.refresh_max].map(|time| time.as_secs())
    };
    assert_eq!(bounds("refresh_max = \"5m\""), [60, 300, 300]);
    assert_eq!(bounds("refresh_max = \"30s\""), [30, 30, 30]);
    assert_eq!(bounds("refresh_min = \"20m\""), [1200, 1200, 3600]);
    assert_eq!(bounds("refresh_min = \"1s\"\nrefresh_max = \"1s\""), [1, 1, 1]);
}
