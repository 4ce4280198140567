//! Finds data that has no business in a token, which anyone who holds it can read, and hides what must not
//! be shown. A guess by appearance.

use std::fmt;

use serde_json::Value;

use super::json::Json;

/// Parts of a member's name, without separators, that announce a secret.
const SECRET_NAMES: [&str; 10] = [
    "accesstoken",
    "apikey",
    "clientsecret",
    "creditcard",
    "password",
    "passwd",
    "privatekey",
    "refreshtoken",
    "secret",
    "sessiontoken",
];

/// Short names that announce one only when they are the whole name.
const WHOLE_SECRET_NAMES: [&str; 5] = ["cvc", "cvv", "pin", "pwd", "ssn"];

/// Parts of names that announce a national identity number.
const NATIONAL_ID_NAMES: [&str; 5] =
    ["nationalid", "nationalinsurance", "passport", "personalnumber", "socialsecurity"];

const PHONE_NAMES: [&str; 3] = ["mobile", "phone", "telephone"];

const MIN_CARD_DIGITS: usize = 13;

const HIDDEN: &str = "[hidden]";

/// What was found: where and what, never the value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    /// The names that lead to it, joined by full stops.
    pub path: String,
    /// What is wrong with it.
    what: What,
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    /// It looks like this.
    Looks(&'static str),
    /// It is named like a secret.
    Named,
}

impl Finding {
    /// What it is, in words.
    pub fn what(&self) -> &'static str {
        match self.what {
            What::Looks(like) => like,
            What::Named => "a secret, by its name",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Looks(like) => write!(f, "{} looks like {like}", self.path),
            What::Named => write!(f, "{} is named like a secret", self.path),
        }
    }
}

/// Looks through an object's members.
pub(super) fn find<'j>(members: impl Iterator<Item = (&'j str, &'j Json<'j>)>) -> Vec<Finding> {
    let mut search = Search { findings: Vec::new(), path: Vec::new() };
    search.members(members);
    search.findings
}

/// The value with secrets and tokens taken out.
pub(super) fn hide(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(hide).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let value = if is_secret_name(&name) { HIDDEN.into() } else { hide(value) };
                (name, value)
            })
            .collect(),
        Value::String(text) if is_token(&text) => HIDDEN.into(),
        other => other,
    }
}

struct Search<'j> {
    findings: Vec<Finding>,
    /// The names that lead to where it is.
    path: Vec<&'j str>,
}

impl<'j> Search<'j> {
    fn members(&mut self, members: impl Iterator<Item = (&'j str, &'j Json<'j>)>) {
        for (name, value) in members {
            self.path.push(name);
            let name = plain(name);
            if is_secret(&name) {
                self.found(What::Named);
            } else {
                self.value(&name, value);
            }
            self.path.pop();
        }
    }

    /// `name` is as [`plain`] has it.
    fn value(&mut self, name: &str, value: &'j Json<'j>) {
        let like = match value {
            Json::Array(items) => return items.iter().for_each(|item| self.value(name, item)),
            Json::Object(object) => return self.members(object.members()),
            Json::Number(number) => resembles(name, &number.to_string()),
            Json::Text(text) => resembles(name, text),
            Json::Bool(_) | Json::Null => None,
        };
        if let Some(like) = like {
            self.found(What::Looks(like));
        }
    }

    fn found(&mut self, what: What) {
        self.findings.push(Finding { path: self.path.join("."), what });
    }
}

/// `name` is as [`plain`] has it. What costs more is asked only where it can be so: this is done for every token
/// that comes for the first time.
fn resembles(name: &str, text: &str) -> Option<&'static str> {
    let is_named = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if is_token(text) {
        Some("a token")
    } else if digits >= MIN_CARD_DIGITS && digit_runs(text).any(|run| is_card_number(&run)) {
        Some("a card number")
    } else if text.contains('@') && words(text).any(is_email) {
        Some("an e-mail address")
    } else if digits >= 5 && (is_named(&NATIONAL_ID_NAMES) || words(text).any(is_national_id)) {
        Some("a national identity number")
    } else if digits >= 7 && (is_phone(text) || is_named(&PHONE_NAMES)) {
        Some("a phone number")
    } else {
        None
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "<>,;()".contains(c))
}

fn is_secret_name(name: &str) -> bool {
    is_secret(&plain(name))
}

/// `name` is as [`plain`] has it.
fn is_secret(name: &str) -> bool {
    SECRET_NAMES.iter().any(|part| name.contains(part)) || WHOLE_SECRET_NAMES.contains(&name)
}

/// In lower case, without separators.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

/// Base64url of `{"` starts every JWT's header.
fn is_token(text: &str) -> bool {
    text.find("eyJ").is_some_and(|start| text[start..].matches('.').count() >= 2)
}

fn is_email(word: &str) -> bool {
    word.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && domain.split_once('.').is_some_and(|(name, top)| !name.is_empty() && !top.is_empty())
    })
}

/// A social security number of the United States as it is written, or a national insurance number of the United
/// Kingdom: both have a form that other numbers do not come in.
fn is_national_id(word: &str) -> bool {
    let bytes = word.as_bytes();
    let is = |form: &[u8]| {
        bytes.len() == form.len()
            && bytes.iter().zip(form).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                b'A' => byte.is_ascii_uppercase(),
                _ => byte == form,
            })
    };
    // Never given out: the area numbers 000, 666 and from 900 on, and groups and serial numbers of zeros.
    let given_out = |word: &str| {
        !["000", "666", "9"].iter().any(|area| word.starts_with(area))
            && word.get(4..6) != Some("00")
            && !word.ends_with("0000")
    };
    is(b"000-00-0000") && given_out(word)
        || is(b"AA000000A") && matches!(bytes.last(), Some(b'A'..=b'D')) && !b"DFIQUV".contains(&bytes[0])
}

/// E.164, with the usual separators.
fn is_phone(text: &str) -> bool {
    let Some(rest) = text.trim().strip_prefix('+') else { return false };
    rest.chars().all(|c| c.is_ascii_digit() || " -.()/".contains(c))
        && (7..=15).contains(&rest.bytes().filter(u8::is_ascii_digit).count())
}

/// The digits of each run of digits, with or without spaces and hyphens between them.
fn digit_runs(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.split(|c: char| !c.is_ascii_digit() && c != ' ' && c != '-')
        .map(|run| run.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect())
}

/// ISO/IEC 7812: 13 to 19 digits, issued by a bank or card scheme (2 to 6), with a Luhn check digit.
fn is_card_number(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| u32::from(if place % 2 == 1 { doubled(*digit) } else { *digit }))
        .sum();
    (MIN_CARD_DIGITS..=19).contains(&digits.len()) && (2..=6).contains(&digits[0]) && sum.is_multiple_of(10)
}
