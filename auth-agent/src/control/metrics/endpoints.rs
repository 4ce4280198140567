//! What `upstream list` says. An endpoint goes by its name in the configuration, so that addresses which a DNS name has
//! today and not tomorrow make no labels, and counters only grow.

use super::Text;
use crate::control::messages::UpstreamList;
use crate::proxy::{EndpointState, EndpointStatus, Totals, UpstreamStatus};

/// Name, kind, help, and what is counted.
type Figure<F> = (&'static str, &'static str, &'static str, F);
type Total = fn(&Totals) -> u64;
type AtPresent = fn(&EndpointStatus) -> usize;

const TOTALS: [Figure<Total>; 5] = [
    ("endpoint_requests_total", "counter", "Requests sent.", |totals| totals.requests),
    ("endpoint_failures_total", "counter", "Requests that failed there.", |totals| totals.failures),
    ("endpoint_broken_total", "counter", "Responses that broke off.", |totals| totals.broken),
    ("endpoint_connects_total", "counter", "Connections opened.", |totals| totals.connects),
    ("endpoint_ejections_total", "counter", "Times that it failed too often.", |totals| totals.ejections),
];

const NOW: [Figure<AtPresent>; 3] = [
    ("endpoint_in_flight", "gauge", "Requests in flight.", |endpoint| endpoint.in_flight),
    ("endpoint_connections", "gauge", "Open connections.", |endpoint| endpoint.connections),
    ("endpoint_idle_connections", "gauge", "Open connections without a request.", |endpoint| endpoint.idle),
];

pub(super) fn write(text: &mut Text, UpstreamList { upstreams }: &UpstreamList) {
    text.family("upstream_retries_total", "counter", "Requests that were sent once more.");
    for upstream in upstreams {
        text.sample("upstream_retries_total", &[("upstream", &upstream.name)], upstream.retries);
    }
    text.family("upstream_waiting", "gauge", "Requests that wait for room at an upstream.");
    for upstream in upstreams {
        text.sample("upstream_waiting", &[("upstream", &upstream.name)], upstream.waiting);
    }
    let named: Vec<_> = upstreams.iter().flat_map(named).collect();
    for (name, kind, help, figure) in TOTALS {
        text.family(name, kind, help);
        for endpoint in &named {
            text.sample(name, &endpoint.labels(), figure(&endpoint.totals));
        }
    }
    for (name, kind, help, figure) in NOW {
        text.family(name, kind, help);
        for endpoint in &named {
            let sum: usize = endpoint.addresses.iter().map(|address| figure(address)).sum();
            text.sample(name, &endpoint.labels(), sum);
        }
    }
    states(text, &named);
}

fn states(text: &mut Text, named: &[Named<'_>]) {
    text.family(
        "endpoint_addresses",
        "gauge",
        "Addresses of an endpoint, by whether requests are sent there.",
    );
    for endpoint in named {
        for state in [EndpointState::Ejected, EndpointState::In, EndpointState::Unhealthy] {
            let [upstream, name] = endpoint.labels();
            let count = endpoint.addresses.iter().filter(|address| address.state == state).count();
            text.sample("endpoint_addresses", &[upstream, name, ("state", state.name())], count);
        }
    }
}

/// An endpoint as the configuration names it.
struct Named<'l> {
    addresses: Vec<&'l EndpointStatus>,
    name: &'l str,
    totals: Totals,
    upstream: &'l str,
}

impl<'l> Named<'l> {
    fn labels(&self) -> [(&'static str, &'l str); 2] {
        [("upstream", self.upstream), ("endpoint", self.name)]
    }
}

fn named(upstream: &UpstreamStatus) -> Vec<Named<'_>> {
    let names = upstream.endpoints.iter().map(|endpoint| &endpoint.name).chain(upstream.former.keys());
    let mut named = Vec::<Named<'_>>::new();
    for name in names {
        if named.iter().all(|known| known.name != name) {
            let addresses: Vec<_> =
                upstream.endpoints.iter().filter(|endpoint| endpoint.name == *name).collect();
            let mut totals = upstream.former.get(name).copied().unwrap_or_default();
            addresses.iter().for_each(|address| totals.add(Totals::of(address)));
            named.push(Named { addresses, name, totals, upstream: &upstream.name });
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn endpoint(name: &str, address: &str, state: EndpointState) -> EndpointStatus {
        EndpointStatus {
            broken: 1,
            connections: 3,
            connects: 10,
            ejected_for_seconds: None,
            ejections: 2,
            endpoint: address.to_owned(),
            failures: 4,
            idle: 1,
            in_flight: 2,
            last_error: None,
            last_error_at: None,
            name: name.to_owned(),
            requests: 100,
            state,
        }
    }

    #[test]
    fn the_addresses_of_a_name_are_one_series_that_only_grows() {
        let former = Totals { ejections: 5, requests: 1_000, ..Totals::default() };
        let app = UpstreamStatus {
            endpoints: vec![
                endpoint("http://app:80", "http://app:80 (10.0.0.1:80)", EndpointState::In),
                endpoint("http://app:80", "http://app:80 (10.0.0.2:80)", EndpointState::Ejected),
                endpoint("unix:/run/app", "unix:/run/app", EndpointState::Unhealthy),
            ],
            former: BTreeMap::from([
                ("http://app:80".to_owned(), former),
                ("http://gone:80".to_owned(), former),
            ]),
            name: "app".to_owned(),
            retries: 7,
            retries_refused: 0,
            unresolved: None,
            waiting: 6,
        };
        let mut text = Text::default();
        write(&mut text, &UpstreamList { upstreams: vec![app] });
        assert!(!text.0.contains("10.0.0"), "{}", text.0);
        for (name, endpoint, more, value) in [
            ("requests_total", "http://app:80", "", 1_200),
            ("requests_total", "unix:/run/app", "", 100),
            ("requests_total", "http://gone:80", "", 1_000),
            ("failures_total", "http://app:80", "", 8),
            ("broken_total", "http://app:80", "", 2),
            ("connects_total", "http://app:80", "", 20),
            ("ejections_total", "http://app:80", "", 9),
            ("in_flight", "http://app:80", "", 4),
            ("connections", "http://app:80", "", 6),
            ("idle_connections", "http://app:80", "", 2),
            ("connections", "http://gone:80", "", 0),
            ("addresses", "http://app:80", ",state=\"in\"", 1),
            ("addresses", "http://app:80", ",state=\"ejected\"", 1),
            ("addresses", "http://app:80", ",state=\"unhealthy\"", 0),
            ("addresses", "unix:/run/app", ",state=\"unhealthy\"", 1),
        ] {
            let line = format!(
                "\nauth_agent_endpoint_{name}{{upstream=\"app\",endpoint=\"{endpoint}\"{more}}} {value}\n"
            );
            assert!(text.0.contains(&line), "{line} {}", text.0);
        }
    }
}
