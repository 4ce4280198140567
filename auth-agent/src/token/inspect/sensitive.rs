//! Finds data that has no business in a token, which anyone who holds it can read, and hides what must not
//! be shown. A guess by appearance: it warns, and decides nothing.

use serde_json::Value;

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

const PHONE_NAMES: [&str; 3] = ["mobile", "phone", "telephone"];

const HIDDEN: &str = "[hidden]";

/// One line per finding: where and what, never the value.
pub(super) fn find(place: &str, value: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    search(place, "", value, &mut findings);
    findings
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

fn search(path: &str, name: &str, value: &Value, findings: &mut Vec<String>) {
    if is_secret_name(name) {
        findings.push(format!("{path} is named like a secret"));
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| search(path, name, item, findings)),
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| search(&format!("{path}.{name}"), name, value, findings));
        }
        Value::Number(number) => {
            if let Some(what) = resembles(name, &number.to_string()) {
                findings.push(format!("{path} looks like {what}"));
            }
        }
        Value::String(text) => {
            if let Some(what) = resembles(name, text) {
                findings.push(format!("{path} looks like {what}"));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

fn resembles(name: &str, text: &str) -> Option<&'static str> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if is_token(text) {
        Some("a token")
    } else if digit_runs(text).any(|run| is_card_number(&run)) {
        Some("a card number")
    } else if text.split(|c: char| c.is_whitespace() || "<>,;()".contains(c)).any(is_email) {
        Some("an e-mail address")
    } else if digits >= 7 && (is_phone(text) || PHONE_NAMES.iter().any(|part| plain(name).contains(part))) {
        Some("a phone number")
    } else {
        None
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = plain(name);
    SECRET_NAMES.iter().any(|part| name.contains(part)) || WHOLE_SECRET_NAMES.contains(&name.as_str())
}

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
    (13..=19).contains(&digits.len()) && (2..=6).contains(&digits[0]) && sum.is_multiple_of(10)
}
