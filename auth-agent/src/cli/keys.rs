//! `auth-agent key`

use std::fmt::Write as _;
use std::path::Path;

use http::Method;

use super::Failure;
use super::args::{CreateKey, KeyVerb, RotateKey};
use super::line_list;
use super::session::{Session, parse};
use super::table::table;
use crate::clock::UnixTime;
use crate::control::messages::{self, ImportKey, ImportKeys, ImportedKeys, KeyEntry, Keys};
use crate::duration::{relative, relative_or};

/// Above what the agent takes.
const LIST_BYTES: u64 = 32 * 1024 * 1024;

pub(super) fn run(session: &mut Session<'_>, verb: KeyVerb) -> Result<(), Failure> {
    let now = session.now;
    match verb {
        KeyVerb::Create(key) => create(session, key),
        KeyVerb::List => list(session),
        KeyVerb::Show { id } => session.get(&format!("/v1/keys/{id}"), |key| one(key, now)),
        KeyVerb::Rotate(rotate) => self::rotate(session, &rotate),
        KeyVerb::Import { file } => import(session, &file),
        KeyVerb::Revoke { id } => {
            let body = session.ask(Method::POST, &format!("/v1/keys/{id}/revoke"), None::<()>)?;
            session.show(&body, |key: &messages::RevokedKey| format!("revoked {}\n", key.id))
        }
    }
}

fn create(session: &mut Session<'_>, key: CreateKey) -> Result<(), Failure> {
    let request = messages::CreateKey {
        burst: key.burst.map(Into::into),
        expires_in_seconds: key.expires_in.map(|time| time.as_secs()),
        name: key.name,
        networks: key.networks.iter().map(ToString::to_string).collect(),
        note: key.note,
        owner: key.owner,
        rate: key.rate,
        scopes: key.scopes,
    };
    let body = session.ask(Method::POST, "/v1/keys", Some(request))?;
    session.show(&body, |created: &messages::CreatedKey| format!("{}\n", created.key))?;
    if !session.json {
        let created: messages::CreatedKey = parse(&body)?;
        session.say(&new_key(&created.entry, session.now));
    }
    Ok(())
}

fn rotate(session: &mut Session<'_>, rotate: &RotateKey) -> Result<(), Failure> {
    let request = messages::RotateKey {
        expires_in_seconds: rotate.expires_in.map(|time| time.as_secs()),
        overlap_seconds: rotate.overlap.map(|time| time.as_secs()),
    };
    let body = session.ask(Method::POST, &format!("/v1/keys/{}/rotate", rotate.id), Some(request))?;
    session.show(&body, |rotated: &messages::RotatedKey| format!("{}\n", rotated.key))?;
    if !session.json {
        let messages::RotatedKey { entry, replaced, .. } = parse(&body)?;
        let ends = relative_or("never", replaced.expires, session.now);
        session.say(&format!("{}The old key {} ends {ends}.\n", new_key(&entry, session.now), replaced.id));
    }
    Ok(())
}

/// A page at a time, so that a million keys take no more memory than a thousand.
fn list(session: &mut Session<'_>) -> Result<(), Failure> {
    let now = session.now;
    let mut target = "/v1/keys".to_owned();
    loop {
        let body = session.ask(Method::GET, &target, None::<()>)?;
        session.show(&body, |keys| page(keys, now))?;
        match parse::<Keys>(&body)?.next {
            Some(next) => target = format!("/v1/keys?after={next}"),
            None => return Ok(()),
        }
    }
}

fn import(session: &mut Session<'_>, file: &Path) -> Result<(), Failure> {
    let keys = read(file).map_err(Failure::new)?;
    let body = session.ask(Method::POST, "/v1/keys/import", Some(ImportKeys { keys }))?;
    session.show(&body, |imported: &ImportedKeys| format!("imported {} API keys\n", imported.imported))
}

/// The keys in `path`, or standard input where that is `-`; the error names every wrong line, and quotes none.
fn read(path: &Path) -> Result<Vec<ImportKey>, String> {
    lines(&line_list::read(path, LIST_BYTES)?, path)
}

fn lines(text: &str, path: &Path) -> Result<Vec<ImportKey>, String> {
    let mut keys = Vec::new();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match serde_json::from_str(line) {
            Ok(key) => keys.push(key),
            Err(error) => {
                let what = if error.is_data() {
                    "a field is missing, unknown or of another type"
                } else {
                    "not JSON"
                };
                wrong.push(format!(
                    "{}:{number}:{}: {what}: write it as `auth-agent key import --help` says",
                    path.display(),
                    error.column()
                ));
            }
        }
    }
    line_list::all(keys, wrong, "nothing was imported")
}

fn page(keys: &Keys, now: UnixTime) -> String {
    if keys.keys.is_empty() {
        return "no API keys: `auth-agent key create --name NAME` makes one\n".to_owned();
    }
    let rows = keys.keys.iter().map(|key| {
        [
            key.id.to_string(),
            key.name.clone(),
            key.owner.clone().unwrap_or_default(),
            state(key, now),
            relative_or("never", key.expires, now),
            relative_or("never", key.last_used, now),
            key.scopes.join(" "),
            key.networks.join(" "),
            key.rate.clone().unwrap_or_default(),
            key.note.clone().unwrap_or_default(),
        ]
    });
    let head = ["ID", "NAME", "OWNER", "STATE", "EXPIRES", "LAST USED", "SCOPES", "NETWORKS", "RATE", "NOTE"];
    table(head, &rows.collect::<Vec<_>>())
}

fn one(key: &KeyEntry, now: UnixTime) -> String {
    let or = |text: &str, absent: &str| if text.is_empty() { absent.to_owned() } else { text.to_owned() };
    let rate = match (&key.rate, key.burst) {
        (Some(rate), Some(burst)) => format!("{rate}, {burst} at once"),
        _ => "only the limits of its source".to_owned(),
    };
    let id = |id: Option<crate::api_key::KeyId>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let rows = [
        ("id", key.id.to_string()),
        ("name", key.name.clone()),
        ("owner", or(key.owner.as_deref().unwrap_or_default(), "-")),
        ("state", state(key, now)),
        ("created", relative(key.created, now)),
        ("expires", relative_or("never", key.expires, now)),
        ("last used", relative_or("never", key.last_used, now)),
        ("scopes", or(&key.scopes.join(" "), "-")),
        ("networks", or(&key.networks.join(" "), "any")),
        ("rate", rate),
        ("replaces", id(key.replaces)),
        ("replaced by", id(key.replaced_by)),
        ("note", or(key.note.as_deref().unwrap_or_default(), "-")),
    ];
    rows.iter().fold(String::new(), |mut out, (name, value)| {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{name:<12} {value}");
        out
    })
}

fn state(key: &KeyEntry, now: UnixTime) -> String {
    match (key.revoked, key.expires, key.replaced_by) {
        (Some(_), ..) => "revoked".to_owned(),
        (None, Some(expires), _) if expires <= now => "expired".to_owned(),
        (None, _, Some(successor)) => format!("valid, replaced by {successor}"),
        (None, _, None) => "valid".to_owned(),
    }
}

/// For standard error: standard output is for the key alone.
fn new_key(key: &KeyEntry, now: UnixTime) -> String {
    let expires = match key.expires {
        Some(expires) => format!("expires {}", relative(expires, now)),
        None => "does not expire".to_owned(),
    };
    format!(
        "API key {} for {} {expires}. It can't be shown again: store it in a safe place now.\n",
        key.id, key.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_line_is_named_and_nothing_of_it_quoted() {
        let text =
            "{\"key\":\"aak_secret\",\"name\":\"a\"}\n\"aak_secret\"\n{\"aak_secret\":1}\n\naak_secret\n";
        let error = lines(text, Path::new("list")).err().unwrap();
        assert!(!error.contains("secret"), "{error}");
        for line in ["list:2:12: a field", "list:3:13: a field", "list:4:0: not JSON", "list:5:1: not JSON"] {
            assert!(error.contains(line), "{line} in {error}");
        }
        assert!(!error.contains("list:1:"), "{error}");
        assert_eq!(lines("{\"key\":\"k\",\"name\":\"a\"}\r\n", Path::new("list")).unwrap().len(), 1);
        assert!(
            lines(&"x\n".repeat(25), Path::new("list"))
                .err()
                .unwrap()
                .ends_with("and 15 more; nothing was imported")
        );
    }
}
