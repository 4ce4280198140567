//! One run of the command line: which agent and configuration it means, and where its words go.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use ipnet::IpNet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::args::{
    AddBan, AllowVerb, BanOptions, BanVerb, ConfigVerb, Confirm, ConnectionVerb, EndConnections,
    ForwardAuthVerb, ImportBans, IssuerVerb, Remove, RevocationVerb, SourceVerb, UpstreamVerb, Verb,
};
use super::client::{self, ClientError, call, call_within};
use super::{
    Failure, audit, check, configuration, connections, events, issuer, keys, limit, network_list, offenders,
    own_issuer, pending, policy, render, revocation, service, tokens, upstream, why,
};
use crate::clock::UnixTime;
use crate::config::{Config, EXAMPLE};
use crate::control::messages;
use crate::doctor::{self, Severity};
use crate::forward_auth::EXAMPLES;
use crate::handover::READY_WITHIN;
use crate::kernel;
use crate::reload::Source;
use crate::run;

const DEFAULT_CONFIG: &str = "/etc/auth-agent/config.toml";
const DEFAULT_PINS: &str = "/sys/fs/bpf/auth-agent";
const DEFAULT_SOCKET: &str = "/run/auth-agent/control.sock";
const SOCKET_VARIABLE: &str = "AUTH_AGENT_SOCKET";

pub(super) struct Session<'a> {
    pub(super) config: Option<PathBuf>,
    pub(super) err: &'a mut dyn Write,
    pub(super) json: bool,
    pub(super) now: UnixTime,
    pub(super) out: &'a mut dyn Write,
    pub(super) socket: Option<PathBuf>,
}

impl Session<'_> {
    pub(super) fn run(&mut self, verb: Verb) -> Result<(), Failure> {
        let now = self.now;
        match verb {
            Verb::Run { handover, replace } => {
                let source = Source { path: self.config_path().to_owned(), replace };
                run::run(source, handover).map_err(|error| Failure::new(format!("{error:#}")))
            }
            Verb::Metrics => {
                let body = self.ask(Method::GET, "/metrics", None::<()>)?;
                Ok(self.out.write_all(&body)?)
            }
            Verb::Reload => {
                let body = self.ask(Method::POST, "/v1/config/reload", None::<()>)?;
                self.show(&body, configuration::reloaded)
            }
            Verb::Upgrade { binary, within } => self.upgrade(binary, within),
            Verb::Status => self.get("/v1/status", |status| render::status(status, now)),
            Verb::Key(verb) => keys::run(self, verb),
            Verb::Issuer(IssuerVerb::List) => self.get("/v1/issuers", |issuers| issuer::list(issuers, now)),
            Verb::Upstream(UpstreamVerb::List) => {
                self.get("/v1/upstreams", |upstreams| upstream::list(upstreams, now))
            }
            Verb::Issuer(IssuerVerb::Refresh { name }) => {
                let body = self.ask(Method::POST, &issuer::refresh_target(&name)?, None::<()>)?;
                self.show(&body, |issuer| issuer::refreshed(issuer, now))
            }
            Verb::Allow(AllowVerb::Add { confirm, network, reason }) => {
                let request = messages::AddAllow { network: network.to_string(), reason };
                self.add("/v1/allows", request, confirm, |allow: &messages::AllowEntry| {
                    format!("allowed {}\n", allow.network)
                })
            }
            Verb::Allow(AllowVerb::List) => self.get("/v1/allows", |allows| render::allows(allows, now)),
            Verb::Allow(AllowVerb::Remove(remove)) => {
                self.remove("/v1/allows", remove, |allow: &messages::RemovedAllow| {
                    format!("took {} off the allowlist\n", allow.network)
                })
            }
            Verb::Ban(BanVerb::Add(ban)) => self.add_ban(ban),
            Verb::Ban(BanVerb::Import(list)) => self.import_bans(list),
            Verb::Ban(BanVerb::List) => self.get("/v1/bans", |bans| render::bans(bans, now)),
            Verb::Ban(BanVerb::Remove(remove)) => {
                self.remove("/v1/bans", remove, |ban: &messages::RemovedBan| {
                    format!("removed the ban on {}\n", ban.network)
                })
            }
            Verb::Confirm { id } => self.confirm(id),
            Verb::Why { id } => self.get(&why::target(&id), |story| why::story(story, now)),
            Verb::Audit { limit, since } => self.get(&audit::target(since, limit), audit::list),
            Verb::Offenders => self.get("/v1/offenders", |list| offenders::list(list, now)),
            Verb::Pending => self.get("/v1/pending", |list| pending::list(list, now)),
            Verb::Connection(ConnectionVerb::List { source, subject }) => {
                let target = connections::target(source, subject.as_deref());
                self.get(&target, |list| connections::list(list, now))
            }
            Verb::Connection(ConnectionVerb::End(end)) => self.end_connections(end),
            Verb::Revoke(verb) => {
                let request = revocation::request(verb, io::stdin().lock(), now)?;
                let body = self.ask(Method::POST, "/v1/revocations", Some(request))?;
                self.show(&body, |revoked| revocation::revoked(revoked, now))
            }
            Verb::Revocation(verb @ RevocationVerb::List { .. }) => {
                self.get(&revocation::target(&verb), |list| revocation::list(list, now))
            }
            Verb::Revocation(verb @ RevocationVerb::Remove { .. }) => {
                let body = self.ask(Method::DELETE, &revocation::target(&verb), None::<()>)?;
                self.show(&body, revocation::removed)
            }
            Verb::Limit(verb) => limit::run(self, verb),
            Verb::Source(SourceVerb::Show { address }) => {
                self.get(&format!("/v1/sources/{address}"), |source| render::source(source, now))
            }
            Verb::Events(wanted) => events::run(self, &wanted),
            Verb::SigningKey(verb) => own_issuer::signing_key(self, &verb),
            Verb::Token(verb) => tokens::run(self, verb),
            Verb::ForwardAuth(ForwardAuthVerb::Example { proxy }) => self.forward_auth_example(&proxy),
            Verb::Config(ConfigVerb::Check) => self.check(),
            Verb::Config(ConfigVerb::Diff) => self.get("/v1/config/diff", configuration::diff),
            Verb::Config(ConfigVerb::Example) => Ok(self.out.write_all(EXAMPLE.as_bytes())?),
            Verb::Policy(verb) => policy::run(self, &verb),
            Verb::Service { sockets } => self.service(sockets),
            Verb::Doctor { interfaces } => self.doctor(interfaces),
            Verb::Detach { pin_directory } => self.detach(pin_directory),
        }
    }

    fn upgrade(&mut self, binary: Option<PathBuf>, within: Option<Duration>) -> Result<(), Failure> {
        // The agent's directory may be another one than ours.
        let binary = binary.map(std::path::absolute).transpose()?;
        let request = messages::Upgrade {
            binary: binary.map(|binary| binary.display().to_string()),
            within_seconds: within.map(|within| within.as_secs()),
        };
        let body = json_body(Some(request))?;
        let patience = within.unwrap_or(READY_WITHIN) + client::TIMEOUT;
        let answer = call_within(&self.socket()?, Method::POST, "/v1/upgrade", body, patience);
        let body = self.good(answer)?;
        self.show(&body, |done: &messages::Upgraded| {
            format!("upgraded: {} {} serves, pid {}\n", done.binary, done.version, done.pid)
        })
    }

    fn forward_auth_example(&mut self, proxy: &str) -> Result<(), Failure> {
        let example = EXAMPLES.iter().find(|(known, _)| *known == proxy).map_or("", |(_, example)| example);
        if self.json {
            return Ok(writeln!(self.out, "{}", json!({ "example": example, "proxy": proxy }))?);
        }
        Ok(self.out.write_all(example.as_bytes())?)
    }

    fn add_ban(&mut self, AddBan { network, options }: AddBan) -> Result<(), Failure> {
        let BanOptions { confirm, force, lasts, reason } = options;
        let for_seconds = lasts.map(|time| time.as_secs());
        let request = messages::AddBan { for_seconds, force, network: network.to_string(), reason };
        let now = self.now;
        let mut notes = Vec::new();
        self.add("/v1/bans", request, confirm, |added: &messages::AddedBan| {
            notes.clone_from(&added.notes);
            render::added_ban(added, now)
        })?;
        for note in notes {
            self.say(&format!("note: {note}\n"));
        }
        Ok(())
    }

    fn end_connections(&mut self, end: EndConnections) -> Result<(), Failure> {
        let request = messages::EndConnections {
            drop_for_seconds: end.drop_for.map(|time| time.as_secs()),
            id: end.which.id,
            source: end.which.source.map(|source| source.to_string()),
        };
        let now = self.now;
        let body = self.ask(Method::POST, "/v1/connections/end", Some(request))?;
        self.show(&body, |ended| connections::ended(ended, now))
    }

    fn import_bans(&mut self, ImportBans { file, options }: ImportBans) -> Result<(), Failure> {
        let BanOptions { confirm, force, lasts, reason } = options;
        let for_seconds = lasts.map(|time| time.as_secs());
        let networks = network_list::read(&file).map_err(Failure::new)?;
        let request = messages::ImportBans { for_seconds, force, networks, reason };
        let now = self.now;
        self.add("/v1/bans/import", request, confirm, |imported| render::imported_bans(imported, now))
    }

    /// Confirms the change of this number, or the only one there is.
    fn confirm(&mut self, id: Option<i64>) -> Result<(), Failure> {
        let id = match id {
            Some(id) => id,
            None => {
                let body = self.ask(Method::GET, "/v1/pending", None::<()>)?;
                pending::only(&parse(&body)?).map_err(Failure::new)?
            }
        };
        let body = self.ask(Method::POST, &format!("/v1/pending/{id}/confirm"), None::<()>)?;
        self.show(&body, |confirmed: &messages::Confirmed| format!("confirmed change {}\n", confirmed.id))
    }

    pub(super) fn add<T: DeserializeOwned>(
        &mut self,
        collection: &str,
        request: impl Serialize,
        confirm: Confirm,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        self.change(Method::POST, collection, Some(request), confirm, text)
    }

    pub(super) fn remove<T: DeserializeOwned>(
        &mut self,
        collection: &str,
        Remove { confirm, network }: Remove,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        self.change(Method::DELETE, &item(collection, network), None::<()>, confirm, text)
    }

    fn change<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: &str,
        request: Option<impl Serialize>,
        confirm: Confirm,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let target = match confirm.within {
            Some(time) => format!("{target}?confirm_within_seconds={}", time.as_secs()),
            None => target.to_owned(),
        };
        let body = self.ask(method, &target, request)?;
        let now = self.now;
        self.show(&body, |changed: &messages::Changed<T>| {
            text(&changed.answer)
                + &changed.pending.as_ref().map(|entry| pending::notice(entry, now)).unwrap_or_default()
        })
    }

    fn check(&mut self) -> Result<(), Failure> {
        let path = self.config_path().to_owned();
        let checked = check::check(&path);
        if self.json {
            self.print_json(&checked)?;
        } else {
            checked.notes.iter().for_each(|note| self.say(&format!("note: {note}\n")));
        }
        match &checked.problems[..] {
            [] if self.json => Ok(()),
            [] => Ok(writeln!(self.out, "{}: no problems found", path.display())?),
            problems => Err(Failure::new(problems.join("\n"))),
        }
    }

    fn service(&mut self, sockets: bool) -> Result<(), Failure> {
        let config = Config::load(self.config_path())?;
        // What a unit names is named from the root.
        let path = std::path::absolute(self.config_path())?;
        let units = service::Units::new(&env::current_exe()?, &path, &config);
        if self.json {
            return self.print_json(&units);
        }
        Ok(self.out.write_all(units.text(sockets).as_bytes())?)
    }

    fn doctor(&mut self, interfaces: Vec<String>) -> Result<(), Failure> {
        let report = doctor::examine(&doctor::Request {
            config: self.config_path().to_owned(),
            config_named: self.config.is_some(),
            interfaces,
        });
        if self.json {
            self.print_json(&report)?;
        } else {
            self.out.write_all(render::doctor(&report).as_bytes())?;
        }
        match report.count(Severity::Problem) {
            0 => Ok(()),
            1 => Err(Failure::new("1 problem found")),
            count => Err(Failure::new(format!("{count} problems found"))),
        }
    }

    /// By the running agent if there is one, so that its log tells of it.
    fn detach(&mut self, pin_directory: Option<PathBuf>) -> Result<(), Failure> {
        let socket = self.socket()?;
        if pin_directory.is_some() {
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                let socket = socket.display();
                return Err(Failure::new(format!(
                    "an agent is listening on {socket}: leave out --pin-directory"
                )));
            }
        } else {
            match call(&socket, Method::POST, "/v1/detach", Vec::new()) {
                Err(ClientError::NotListening { .. }) => {}
                answer => {
                    let body = self.good(answer)?;
                    return self.show(&body, render::detached);
                }
            }
        }
        let pins = match (pin_directory, self.optional_config()?) {
            (Some(directory), _) => directory,
            (None, Some(config)) => config.kernel.pin_directory,
            (None, None) => DEFAULT_PINS.into(),
        };
        let detached = kernel::detach(&pins).map_err(|error| Failure::new(error.to_string()))?;
        if self.json {
            self.print_json(&detached)
        } else {
            Ok(self.out.write_all(render::detached(&detached).as_bytes())?)
        }
    }

    pub(super) fn get<T: DeserializeOwned>(
        &mut self,
        target: &str,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let body = self.ask(Method::GET, target, None::<()>)?;
        self.show(&body, text)
    }

    pub(super) fn ask(
        &mut self,
        method: Method,
        target: &str,
        body: Option<impl Serialize>,
    ) -> Result<Bytes, Failure> {
        let body = json_body(body)?;
        let answer = call(&self.socket()?, method, target, body);
        self.good(answer)
    }

    /// With --json a refusal is printed as the agent gave it, too.
    pub(super) fn good(&mut self, answer: Result<Bytes, ClientError>) -> Result<Bytes, Failure> {
        if let (true, Err(ClientError::Refused { body, .. })) = (self.json, &answer) {
            self.print_raw(body)?;
        }
        Ok(answer?)
    }

    pub(super) fn show<T: DeserializeOwned>(
        &mut self,
        body: &[u8],
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            self.print_raw(body)
        } else {
            Ok(self.out.write_all(text(&parse(body)?).as_bytes())?)
        }
    }

    pub(super) fn print_json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_vec(value).map_err(|error| Failure::new(error.to_string()))?;
        self.print_raw(&json)
    }

    pub(super) fn print_raw(&mut self, json: &[u8]) -> Result<(), Failure> {
        self.out.write_all(json)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// A remark on standard error; if that is closed, nobody wanted it.
    pub(super) fn say(&mut self, remark: &str) {
        let _ = self.err.write_all(remark.as_bytes());
    }

    pub(super) fn config_path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }

    /// The configuration where one is of use but not needed: one that is named must be good.
    pub(super) fn optional_config(&mut self) -> Result<Option<Config>, Failure> {
        let named = self.config.is_some();
        match Config::load(self.config_path()) {
            Ok(config) => Ok(Some(config)),
            Err(errors) if named => Err(errors.into()),
            Err(errors) => {
                if Path::new(DEFAULT_CONFIG).exists() {
                    self.say(&format!("note: going on without the configuration: {errors}\n"));
                }
                Ok(None)
            }
        }
    }

    pub(super) fn socket(&mut self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        if let Some(socket) = env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty()) {
            return Ok(socket.into());
        }
        let socket = self.optional_config()?.map(|config| config.control.socket);
        Ok(self.socket.insert(socket.unwrap_or_else(|| DEFAULT_SOCKET.into())).clone())
    }
}

fn json_body(body: Option<impl Serialize>) -> Result<Vec<u8>, Failure> {
    let body = body.map_or(Ok(Vec::new()), |body| serde_json::to_vec(&body));
    body.map_err(|error| Failure::new(error.to_string()))
}

/// The path of a network in a collection: its slash is not one of the path's.
fn item(collection: &str, network: IpNet) -> String {
    format!("{collection}/{}", network.to_string().replace('/', "%2F"))
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::new(format!("the agent's answer can't be understood: {error}: is it of another version?"))
    })
}
