use super::*;

const LONGEST: usize = 80;

fn find(headers: &[(&str, &str)], query: Option<&str>) -> Result<(Method, String), Refusal> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    let credential = extract(&map, query, &HeaderName::from_static("x-api-key"), LONGEST)?;
    Ok((credential.method(), credential.text().to_owned()))
}

#[test]
fn one_credential_is_found_where_it_may_be() {
    for (header, value, expected) in [
        ("authorization", "Bearer a.b.c", (Method::Jwt, "a.b.c")),
        ("authorization", "bearer a.b.c", (Method::Jwt, "a.b.c")),
        ("Authorization", "BEARER aZ0-._~+/==", (Method::Jwt, "aZ0-._~+/==")),
        ("x-api-key", "ak_0123", (Method::ApiKey, "ak_0123")),
        ("X-API-Key", "ak_0123", (Method::ApiKey, "ak_0123")),
    ] {
        let (method, text) = find(&[(header, value)], Some("page=1&token_type=x")).unwrap();
        assert_eq!((method, text.as_str()), expected);
    }
}

#[test]
fn no_credential_is_missing_and_cookies_are_none() {
    for headers in [
        &[][..],
        &[("cookie", "access_token=a.b.c")],
        &[("x_api_key", "ak")],
        &[("proxy-authorization", "Bearer a")],
    ] {
        assert_eq!(find(headers, Some("q=access_token")), Err(Refusal::CredentialMissing), "{headers:?}");
    }
}

#[test]
fn more_than_one_credential_is_ambiguous() {
    let (token, key) = (("authorization", "Bearer a"), ("x-api-key", "k"));
    let basic = ("authorization", "Basic YTpi");
    for (headers, query) in [
        (&[token, token][..], None),
        (&[token, basic], None),
        (&[key, key], None),
        (&[token, key], None),
        (&[basic, key], None),
        (&[token], Some("access_token=a")),
        (&[key], Some("a=b&api_key=k")),
    ] {
        assert_eq!(find(headers, query), Err(Refusal::CredentialAmbiguous), "{headers:?} {query:?}");
    }
}

#[test]
fn a_credential_in_another_form_is_malformed() {
    let long = format!("Bearer {}", "a".repeat(LONGEST + 1));
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  a",
        "Bearer\ta",
        "Bearer a b",
        "Bearer a\t",
        "Bearer a,b",
        "Bearer a, Bearer b",
        "Bearer =",
        "Bearer a=b",
        "Bearer \"a\"",
        "Bearer é",
        "Bearera",
        "a.b.c",
        "Basic YTpi",
        "DPoP a",
        "Token a",
        "Bearer: a",
        " Bearer a",
        "Bearer a;b",
        "Bearer %61",
        long.as_str(),
    ] {
        assert_eq!(find(&[("authorization", value)], None), Err(Refusal::CredentialMalformed), "{value:?}");
    }
    for value in ["", "a b", "a,b", "é", "a\tb", &long[7..]] {
        assert_eq!(find(&[("x-api-key", value)], None), Err(Refusal::CredentialMalformed), "{value:?}");
    }
}

#[test]
fn a_credential_in_the_query_is_refused_however_its_name_is_spelt() {
    for query in [
        "access_token=a",
        "a=b&access_token=a",
        "ACCESS_TOKEN=a",
        "access-token=a",
        "accessToken=a",
        "%61ccess_token=a",
        "access%5Ftoken=a",
        "a;access_token=b",
        "access_token",
        "api_key=a",
        "apikey=a",
        "api.key=a",
        "X-API-Key=a",
        "x%2dapi%2Dkey=a",
        "authorization=Bearer%20a",
        "id_token=a",
    ] {
        assert_eq!(find(&[], Some(query)), Err(Refusal::CredentialMalformed), "{query}");
    }
}

#[test]
fn an_api_key_in_the_query_is_refused_whatever_it_is_called() {
    let key = ApiKey::generate().unwrap();
    let key = key.expose();
    for query in [
        format!("key={key}"),
        format!("q=1&x={key}"),
        format!("k={}", key.replace('_', "%5f")),
        format!("k=%61{}", &key[1..]),
        format!("={key}"),
    ] {
        assert_eq!(find(&[], Some(&query)), Err(Refusal::CredentialMalformed), "{query}");
        assert_eq!(find(&[("x-api-key", key)], Some(&query)), Err(Refusal::CredentialAmbiguous), "{query}");
    }
    for query in
        [format!("k={}", &key[..key.len() - 1]), format!("k={key}x"), "k=aak_".into(), key.to_owned()]
    {
        assert_eq!(find(&[], Some(&query)), Err(Refusal::CredentialMissing), "{query}: no key, or no value");
    }
}

#[test]
fn a_credential_does_not_show_its_secret() {
    let credential = Credential { method: Method::Jwt, text: "secret" };
    assert!(!format!("{credential:?}").contains("secret"));
}
