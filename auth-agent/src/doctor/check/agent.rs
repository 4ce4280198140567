//! What the configuration asks for: listeners, certificates, store, descriptors.

use super::{quoted, unseen};
use crate::clock::UnixTime;
use crate::doctor::Finding;
use crate::doctor::Severity::{Problem, Warning};
use crate::doctor::facts::{Agent, Certificate, Facts, Host, Listener, Port, Process, Rights, Store};
use crate::tls::SOON_SECONDS;

const DAY: u64 = 86_400;

/// The agent's own name, as the kernel shows it.
const OWN_NAME: &str = "auth-agent";

/// Everything.
pub fn check(agent: &Agent, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![open_files(agent, &facts.host), store(&agent.store)];
    for listener in &agent.listeners {
        findings.push(port(listener, &facts.host));
        findings.extend(listener.certificates.iter().map(|shown| certificate(shown, facts.host.now)));
    }
    findings
}

fn open_files(agent: &Agent, host: &Host) -> Finding {
    let limits = match &host.limits {
        Ok(limits) => limits,
        Err(error) => return unseen("open files", "the limit", error),
    };
    let needed = agent.descriptors;
    if limits.open_files >= needed {
        return Finding::ok(
            "open files",
            format!("{} for {} connections and those of the upstreams", limits.open_files, agent.connections),
        );
    }
    let seen = format!(
        "a hard limit of {} here; sizes.connections = {} with upstreams needs {needed}: the agent will admit fewer",
        limits.open_files, agent.connections
    );
    let fix = format!("ulimit -Hn {needed} # as root; for the service, LimitNOFILE={needed} in its unit");
    Finding::bad(Warning, "open files", seen, fix)
}

fn store(store: &Store) -> Finding {
    let Store { directory, state } = store;
    let shown = directory.display();
    match state {
        Ok(None) => Finding::ok("store", format!("{shown} will be made")),
        Ok(Some(Rights { directory: false, .. })) => Finding::bad(
            Problem,
            "store",
            format!("{shown} is not a directory"),
            "set store.directory to another one",
        ),
        Ok(Some(Rights { mode, .. })) if mode & 0o077 != 0 => Finding::bad(
            Problem,
            "store",
            format!("{shown} has mode {mode:04o}, open to others"),
            format!("chmod 700 {}", quoted(directory)),
        ),
        Ok(Some(_)) => Finding::ok("store", shown.to_string()),
        Err(error) => unseen("store", &shown.to_string(), error),
    }
}

fn port(listener: &Listener, host: &Host) -> Finding {
    let address = listener.address;
    let find = format!("ss -ltnp 'sport = :{}'", address.port());
    match &listener.port {
        Ok(Port::Free) => Finding::ok("listener", format!("{address} is free")),
        Ok(Port::NotHere) => Finding::bad(
            Problem,
            "listener",
            format!("{address}: no interface has this address"),
            "ip -br address",
        ),
        Ok(Port::Privileged) if host.root => Finding::bad(
            Problem,
            "listener",
            format!("{address}: CAP_NET_BIND_SERVICE is missing"),
            "docker run --cap-add NET_BIND_SERVICE",
        ),
        Ok(Port::Privileged) => Finding::bad(
            crate::doctor::Severity::Note,
            "listener",
            format!("{address}: could not be tried without CAP_NET_BIND_SERVICE"),
            super::AS_ROOT,
        ),
        Ok(Port::Taken(Some(Process { id, name }))) if name == OWN_NAME => {
            Finding::ok("listener", format!("{address}: an agent listens (pid {id})"))
        }
        Ok(Port::Taken(Some(Process { id, name }))) => {
            Finding::bad(Problem, "listener", format!("{address}: {name} (pid {id}) listens there"), find)
        }
        Ok(Port::Taken(None)) if !host.root => Finding::bad(
            crate::doctor::Severity::Note,
            "listener",
            format!("{address}: taken, perhaps by the agent; by whom could not be seen"),
            format!("sudo {find}"),
        ),
        Ok(Port::Taken(None)) => {
            Finding::bad(Problem, "listener", format!("{address}: another process listens there"), find)
        }
        Err(error) => unseen("listener", &address.to_string(), error),
    }
}

fn certificate(certificate: &Certificate, now: UnixTime) -> Finding {
    let Certificate { path, validity } = certificate;
    let file = path.display();
    let look = format!("openssl x509 -noout -subject -dates -in {}", quoted(path));
    let bad = |severity, seen: String| Finding::bad(severity, "certificate", seen, &look);
    let (not_before, not_after) = match validity {
        Err(error) if error.denied => return unseen("certificate", &file.to_string(), error),
        Err(error) => return bad(Problem, error.why.clone()),
        Ok(validity) => (validity.not_before, validity.not_after),
    };
    if now < not_before {
        bad(Problem, format!("{file} is not valid before {} from now", days(not_before.0 - now.0)))
    } else if now > not_after {
        bad(Problem, format!("{file} expired {} ago", days(now.0 - not_after.0)))
    } else {
        match not_after.0 - now.0 {
            left @ ..SOON_SECONDS => bad(Warning, format!("{file} expires in {}", days(left))),
            left => Finding::ok("certificate", format!("{file}, {} left", days(left))),
        }
    }
}

/// Whole days, since certificates are replaced by the day; less than one in hours.
fn days(seconds: u64) -> String {
    match seconds / DAY {
        0 => format!("{} hours", seconds / 3600),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}
