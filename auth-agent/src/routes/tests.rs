mod property;

use std::path::Path;

use super::*;
use crate::config::Config;
use crate::config::tests::MINIMAL;

/// One route; `fields` go besides its path.
fn route(path: &str, fields: &str) -> String {
    let object = if path.contains('{') { "object = \"unchecked\"" } else { "" };
    format!("[[route]]\npath = \"{path}\"\n{fields}\n{object}\nauth = \"none\"\nupstream = \"app\"\n")
}

fn template(path: &str) -> String {
    route(path, "match = \"template\"")
}

fn exact(path: &str) -> String {
    route(path, "match = \"exact\"")
}

fn config(routes: &[String]) -> Config {
    let (before, _) = MINIMAL.split_once("[[route]]").unwrap();
    Config::parse(&format!("{before}{}", routes.concat()), Path::new("edge.toml")).unwrap()
}

fn table(routes: &[String]) -> RouteTable {
    RouteTable::new(&config(routes).routes)
}

/// What a request finds: the route's path with what it captured, or what it is told.
fn found(table: &RouteTable, method: &str, host: &str, path: &str) -> String {
    match table.find(host, &Method::from_bytes(method.as_bytes()).unwrap(), path) {
        Ok(Matched { captures, route, .. }) => {
            let captured = captures.iter().map(|(name, value)| format!(" {name}={value}"));
            format!("{}{}", route.path, captured.collect::<String>())
        }
        Err(Miss::Method { allow }) => format!("405 {}", allow.to_str().unwrap()),
        Err(Miss::Path) => "404".to_owned(),
    }
}

#[test]
fn a_prefix_ends_on_a_segment_boundary_and_the_longest_wins() {
    let table = table(&["/", "/api", "/api/admin", "/a"].map(|path| route(path, "")));
    for (path, expected) in [
        ("/", "/"),
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/api/x", "/api"),
        ("/apix", "/"),
        ("/api/admin", "/api/admin"),
        ("/api/admin/x", "/api/admin"),
        ("/api/administrator", "/api"),
        ("/a/api/admin", "/a"),
        ("/API", "/"),
    ] {
        assert_eq!(found(&table, "GET", "h", path), expected, "{path}");
    }
}

#[test]
fn what_no_route_covers_is_404() {
    let only = |routes: &[String], path| found(&table(routes), "GET", "api.example", path);
    let prefix = [route("/api", "")];
    let hosts = [route("/", "hosts = [\"a.example\", \"*.b.example\"]")];
    let rest = [template("/files/{rest...}"), template("/users/{id}/orders")];
    for (routes, paths) in [
        (&prefix[..], &["/", "/apis", "", "api"][..]),
        (&hosts, &["/", "/x"]),
        (&rest, &["/", "/files", "/files/", "/users/", "/users//orders", "/users/1", "/users/1/orders/"]),
    ] {
        for path in paths {
            assert_eq!(only(routes, path), "404", "{path:?}");
        }
    }
}

#[test]
fn an_exact_path_goes_before_a_template_and_that_before_every_prefix() {
    let table = table(&[
        route("/", ""),
        route("/users/me/orders", ""),
        template("/users/{id}"),
        template("/users/{id}/orders"),
        template("/users/{id}/{what}"),
        template("/users/{id}/{rest...}"),
        template("/users/{id}/orders/{order}/"),
        template("/{any}/admin"),
        exact("/users/me"),
        exact("/users/me/"),
    ]);
    for (path, expected) in [
        ("/users/me", "/users/me"),
        ("/users/me/", "/users/me/"),
        ("/users/7", "/users/{id} id=7"),
        ("/users/caf%C3%A9", "/users/{id} id=caf%C3%A9"),
        ("/users/7/orders", "/users/{id}/orders id=7"),
        ("/users/me/orders", "/users/{id}/orders id=me"),
        ("/users/me/orders/", "/users/{id}/{rest...} id=me rest=orders/"),
        ("/users/7/orders/9/", "/users/{id}/orders/{order}/ id=7 order=9"),
        ("/users/7/orders/9", "/users/{id}/{rest...} id=7 rest=orders/9"),
        ("/users/7/notes", "/users/{id}/{what} id=7 what=notes"),
        ("/users/7/a/b", "/users/{id}/{rest...} id=7 rest=a/b"),
        ("/users/admin", "/users/{id} id=admin"),
        ("/groups/admin", "/{any}/admin any=groups"),
        ("/users/7/", "/"),
        ("/users/", "/"),
        ("/x", "/"),
    ] {
        assert_eq!(found(&table, "GET", "h", path), expected, "{path}");
    }
}

#[test]
fn the_most_specific_host_with_a_route_for_the_path_wins() {
    let on = |host: &str, path: &str| route(path, &format!("hosts = [\"{host}\"]"));
    let table = table(&[
        route("/any", ""),
        on("API.example", "/exact"),
        on("*.example", "/wide"),
        on("*.eu.example", "/narrow"),
        on("*.eu.example", "/wide"),
        on("[2001:DB8:0::1]", "/six"),
        on("192.0.2.1", "/four"),
    ]);
    for (host, path, expected) in [
        ("api.example", "/exact", "/exact"),
        ("Api.EXAMPLE", "/exact", "/exact"),
        ("api.example", "/wide", "/wide"),
        ("api.example", "/any", "/any"),
        ("example", "/wide", "404"),
        ("badexample", "/wide", "404"),
        ("x.eu.example", "/narrow", "/narrow"),
        ("x.y.eu.example", "/narrow", "/narrow"),
        ("eu.example", "/narrow", "404"),
        ("eu.example", "/wide", "/wide"),
        ("other.api.example", "/exact", "404"),
        ("2001:db8::1", "/six", "/six"),
        ("2001:0db8::0:1", "/six", "/six"),
        ("2001:db8::2", "/six", "404"),
        ("192.0.2.1", "/four", "/four"),
        ("", "/any", "/any"),
    ] {
        assert_eq!(found(&table, "GET", host, path), expected, "{host} {path}");
    }
    let long = format!("{}.example", "A".repeat(300));
    assert_eq!(found(&table, "GET", &long, "/wide"), "404");
    assert_eq!(found(&table, "GET", &long, "/any"), "/any");
}

#[test]
fn a_host_goes_before_a_path_and_a_path_before_a_method() {
    let table = table(&[
        exact("/a"),
        route("/", "hosts = [\"h\"]"),
        route("/b", "hosts = [\"h\"]\nmethods = [\"GET\"]"),
        route("/b", ""),
        route("/", "methods = [\"POST\", \"PUT\"]"),
    ]);
    for (method, host, path, expected) in [
        ("GET", "h", "/a", "/"),
        ("GET", "i", "/a", "/a"),
        ("GET", "h", "/b", "/b"),
        ("POST", "h", "/b", "405 GET, HEAD"),
        ("POST", "i", "/b", "/b"),
        ("DELETE", "i", "/c", "405 POST, PUT"),
        ("PUT", "i", "/c", "/"),
    ] {
        assert_eq!(found(&table, method, host, path), expected, "{method} {host} {path}");
    }
}

#[test]
fn a_named_method_goes_before_any_and_get_stands_for_head() {
    let methods = |path, list: &str| route(path, &format!("methods = [{list}]"));
    let table = table(&[
        methods("/read", "\"GET\""),
        methods("/both", "\"GET\""),
        methods("/both", "\"HEAD\", \"PROPFIND\""),
        methods("/rest", "\"GET\""),
        route("/rest", "request_headers = { remove = [\"x-rest\"] }"),
    ]);
    let taken = |method: &str, path| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        table.find("h", &method, path).ok().map(|matched| matched.route.methods.clone())
    };
    let (get, head) = (vec![Method::GET], Method::HEAD);
    assert_eq!(taken("HEAD", "/read"), Some(get.clone()));
    assert_eq!(taken("HEAD", "/both").unwrap()[0], head);
    assert_eq!(taken("HEAD", "/rest"), Some(get));
    assert_eq!(taken("POST", "/rest"), Some(vec![]));
    assert_eq!(found(&table, "get", "h", "/read"), "405 GET, HEAD");
    assert_eq!(found(&table, "OPTIONS", "h", "/both"), "405 GET, HEAD, PROPFIND");
}

#[test]
fn a_rewritten_path_is_canonical_and_says_what_the_route_says() {
    let rewriting = |path: &str, rewrite: &str| {
        let form = match path {
            path if path.contains('{') => "template",
            "/old" => "exact",
            _ => "prefix",
        };
        route(path, &format!("match = \"{form}\"\nrewrite = {{ {rewrite} }}"))
    };
    for (own, rewrite, path, expected) in [
        ("/api", "prefix = \"/\"", "/api", "/"),
        ("/api", "prefix = \"/\"", "/api/", "/"),
        ("/api", "prefix = \"/\"", "/api/x", "/x"),
        ("/api", "prefix = \"/v2/b\"", "/api", "/v2/b"),
        ("/api", "prefix = \"/v2\"", "/api/", "/v2/"),
        ("/api", "prefix = \"/v2\"", "/api/x/%20", "/v2/x/%20"),
        ("/", "prefix = \"/v2\"", "/", "/v2/"),
        ("/", "prefix = \"/v2\"", "/x", "/v2/x"),
        ("/", "prefix = \"/\"", "/x/", "/x/"),
        ("/old", "path = \"/new/one\"", "/old", "/new/one"),
        ("/u/{a}/{b}", "path = \"/{b}/of/{a}\"", "/u/1/%C3%A9", "/%C3%A9/of/1"),
        ("/u/{a}/{b...}", "path = \"/x/{b...}\"", "/u/1/c/d/", "/x/c/d/"),
        ("/u/{a}", "path = \"/all\"", "/u/1", "/all"),
    ] {
        let table = table(&[rewriting(own, rewrite)]);
        let matched = table.find("h", &Method::GET, path).unwrap();
        let rewritten = matched.rewritten(path).unwrap();
        assert_eq!(rewritten, expected, "{own} {rewrite} {path}");
        assert_eq!(crate::path::canonical(&rewritten).unwrap(), rewritten);
    }
    let plain = table(&[route("/", "")]);
    assert_eq!(plain.find("h", &Method::GET, "/x").unwrap().rewritten("/x"), None);
}

#[test]
fn finding_one_of_ten_thousand_templates_takes_as_many_steps_as_it_has_segments() {
    let templates: Vec<_> = (0..10_000).map(|number| format!("/svc{number}/{{id}}/items/{{item}}")).collect();
    let mut tree = trie::Templates::default();
    for (value, text) in templates.iter().enumerate() {
        let segment = |text: &str| match text.strip_prefix('{') {
            Some(_) => crate::config::Segment::Parameter("n".to_owned()),
            None => crate::config::Segment::Literal(text.to_owned()),
        };
        tree.insert(&Template(text[1..].split('/').map(segment).collect()), value);
    }
    assert_eq!(tree.find("/svc9999/7/items/8").map(|(value, _)| value), Some(9_999));
    assert_eq!(tree.steps("/svc9999/7/items/8"), 5);
    assert_eq!(tree.steps("/svc9999/7/items/8/9"), 5);
    assert_eq!(tree.steps(&"/x".repeat(4_000)), 1);
    assert_eq!(tree.most_steps(), 5);
}
