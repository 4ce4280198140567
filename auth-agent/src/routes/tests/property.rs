//! The table finds what a look at every route finds.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;
use crate::config::{Auth, Segment};

/// What a route says of a path, the more specific the greater: its form, then what tells templates and prefixes apart.
type Rank = (u8, Reverse<Vec<u8>>, usize);

fn path_rank(pattern: &PathPattern, path: &str) -> Option<Rank> {
    match pattern {
        PathPattern::Exact(exact) => (exact == path).then_some((2, Reverse(vec![]), 0)),
        PathPattern::Template(template) => {
            let covered = covers(&template.0, &path.split('/').skip(1).collect::<Vec<_>>());
            let kinds = template.0.iter().map(|segment| match segment {
                Segment::Literal(_) => 0,
                Segment::Parameter(_) => 1,
                Segment::Rest(_) => 2,
            });
            covered.then(|| (1, Reverse(kinds.collect()), 0))
        }
        PathPattern::Prefix(prefix) => {
            let under = prefix == "/" || path == prefix || path.starts_with(&format!("{prefix}/"));
            under.then_some((0, Reverse(vec![]), prefix.len()))
        }
    }
}

fn covers(template: &[Segment], path: &[&str]) -> bool {
    match (template, path) {
        ([], []) => true,
        ([Segment::Rest(_)], rest) => !rest.is_empty() && rest != [""],
        ([Segment::Literal(text), template @ ..], [first, path @ ..]) => {
            text == first && covers(template, path)
        }
        ([Segment::Parameter(_), template @ ..], [first, path @ ..]) => {
            !first.is_empty() && covers(template, path)
        }
        _ => false,
    }
}

/// 0 for a route of any host; longer for longer wildcards; the most for a name.
fn host_rank(route: &Route, host: &str) -> Option<usize> {
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (name == host).then_some(usize::MAX),
        HostPattern::Under(name) => host.ends_with(&format!(".{name}")).then_some(name.len()),
    };
    if route.hosts.is_empty() { Some(0) } else { route.hosts.iter().filter_map(rank).max() }
}

fn naive(routes: &[Route], host: &str, method: &Method, path: &str) -> Result<usize, bool> {
    let rank = |route: &Route| Some((host_rank(route, host)?, path_rank(&route.path, path)?));
    let best = routes.iter().filter_map(rank).max().ok_or(false)?;
    let position = |takes: &dyn Fn(&Route) -> bool| {
        routes.iter().position(|route| rank(route).as_ref() == Some(&best) && takes(route))
    };
    let named = |method: &Method| position(&|route: &Route| route.methods.contains(method));
    let head = || if method == Method::HEAD { named(&Method::GET) } else { None };
    named(method).or_else(head).or_else(|| position(&|route| route.methods.is_empty())).ok_or(true)
}

fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let segment = prop_oneof![
        3 => "[ab]".prop_map(Segment::Literal),
        2 => Just(Segment::Parameter("n".to_owned())),
    ];
    let last = prop_oneof![
        Just(None),
        Just(Some(Segment::Rest("r".to_owned()))),
        Just(Some(Segment::Literal(String::new()))),
    ];
    (prop::collection::vec(segment, 1..4), last).prop_map(|(mut segments, last)| {
        segments.extend(last);
        segments
    })
}

fn path() -> impl Strategy<Value = String> {
    ("(/[abc]){0,4}", any::<bool>()).prop_map(|(path, slash)| match path {
        path if path.is_empty() || slash => format!("{path}/"),
        path => path,
    })
}

fn pattern() -> impl Strategy<Value = PathPattern> {
    prop_oneof![
        path().prop_map(PathPattern::Exact),
        "(/[ab]){0,3}".prop_map(|path| PathPattern::Prefix(if path.is_empty() { "/".into() } else { path })),
        segments().prop_map(|segments| PathPattern::Template(Template(segments))),
    ]
}

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        "[xy](\\.[xy]){0,2}".prop_map(HostPattern::Exact),
        "[xy](\\.[xy]){0,1}".prop_map(HostPattern::Under),
    ]
}

fn methods() -> impl Strategy<Value = Vec<Method>> {
    let method = prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST]);
    prop::collection::btree_set(method.prop_map(|method| method.to_string()), 0..3)
        .prop_map(|names| names.iter().map(|name| Method::from_bytes(name.as_bytes()).unwrap()).collect())
}

prop_compose! {
    fn a_route()(
        path in pattern(),
        hosts in prop::collection::vec(host_pattern(), 0..3),
        methods in methods(),
    ) -> Route {
        Route { hosts, methods, path, ..Route::under("/", Auth::None, &[], 0) }
    }
}

/// As the configuration would have it: none with a host, a path and a method that an earlier one has.
fn without_clashes(routes: Vec<Route>) -> Vec<Route> {
    let mut kept: Vec<Route> = Vec::new();
    for mut route in routes {
        route.hosts.sort_by_key(ToString::to_string);
        route.hosts.dedup();
        let clash = kept.iter().any(|other| {
            let host = other.hosts.is_empty() && route.hosts.is_empty()
                || other.hosts.iter().any(|host| route.hosts.contains(host));
            let method = other.methods.is_empty() && route.methods.is_empty()
                || other.methods.iter().any(|method| route.methods.contains(method));
            host && method && other.path == route.path
        });
        if !clash {
            kept.push(route);
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_table_agrees_with_a_look_at_every_route(
        routes in prop::collection::vec(a_route(), 1..12).prop_map(without_clashes),
        requests in prop::collection::vec(("[xy](\\.[xy]){0,3}", methods(), path()), 1..8),
    ) {
        let table = RouteTable::new(&routes);
        for (host, methods, path) in requests {
            for method in methods.iter().chain([&Method::PUT]) {
                let found = match table.find(&host, method, &path) {
                    Ok(matched) => Ok(table.routes.iter().position(|route| std::ptr::eq(route, matched.route)).unwrap()),
                    Err(miss) => Err(matches!(miss, Miss::Method { .. })),
                };
                prop_assert_eq!(found, naive(&routes, &host, method, &path), "{} {} {}", method, host, path);
            }
        }
    }

    #[test]
    fn any_text_finds_its_route_without_a_panic(host in "\\PC{0,300}", path in "\\PC{0,80}") {
        let routes = [Route { hosts: vec![HostPattern::Under("x".into())], ..Route::under("/", Auth::None, &[], 0) }];
        let _ = RouteTable::new(&routes).find(&host, &Method::GET, &path);
    }
}
