//! JSON as `serde_json` reads it, but without room for two readings: a member that occurs twice (at any
//! depth, however it is escaped) is an error, and so is deep nesting.
//!
//! Invalid UTF-8, lone surrogates and trailing data are errors of `serde_json` already. What is read borrows
//! from the text wherever that holds no escapes: a token is read once for each request.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::TokenError;

/// Objects and arrays inside each other; claims need two or three, a key set four.
const MAX_DEPTH: usize = 16;

/// Up to so many members, each name is held against every other; more are sorted first, so that a token can't
/// make this slow.
const FEW_MEMBERS: usize = 16;

/// Where and why a text is not strict JSON.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {}", if *duplicate { "a member occurs twice" } else { "not a JSON object" })]
pub(super) struct JsonError {
    column: usize,
    duplicate: bool,
    line: usize,
}

impl JsonError {
    /// Not JSON, or no object.
    const START: Self = Self { column: 1, duplicate: false, line: 1 };
}

impl From<JsonError> for TokenError {
    fn from(error: JsonError) -> Self {
        if error.duplicate { Self::DuplicateMember } else { Self::Malformed }
    }
}

/// A JSON value.
#[derive(Debug)]
pub(super) enum Json<'t> {
    Array(Vec<Json<'t>>),
    Bool(bool),
    Null,
    Number(Number),
    Object(Object<'t>),
    Text(Cow<'t, str>),
}

impl Json<'_> {
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number from 0 on, written as one: no sign, fraction or exponent.
    pub fn as_whole(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }
}

impl<'t> From<&'t Value> for Json<'t> {
    fn from(value: &'t Value) -> Self {
        match value {
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Bool(value) => Self::Bool(*value),
            Value::Null => Self::Null,
            Value::Number(number) => Self::Number(number.clone()),
            Value::Object(members) => Self::Object(Object(
                members.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), value.into())).collect(),
            )),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
        }
    }
}

impl From<Json<'_>> for Value {
    fn from(json: Json<'_>) -> Self {
        match json {
            Json::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Json::Bool(value) => Self::Bool(value),
            Json::Null => Self::Null,
            Json::Number(number) => Self::Number(number),
            Json::Object(object) => Self::Object(object.into()),
            Json::Text(text) => Self::String(text.into_owned()),
        }
    }
}

/// An object: its members, no name twice.
#[derive(Debug)]
pub(super) struct Object<'t>(Vec<(Cow<'t, str>, Json<'t>)>);

impl<'t> Object<'t> {
    /// Reads a text that is one JSON object.
    pub fn parse(text: &'t [u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(text).map_err(|_| JsonError::START)?;
        let duplicate = Cell::new(false);
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Strict { depth: MAX_DEPTH, duplicate: &duplicate }
            .deserialize(&mut reader)
            .and_then(|value| reader.end().map(|()| value));
        match value {
            Ok(Json::Object(object)) => Ok(object),
            Ok(_) => Err(JsonError::START),
            Err(error) => {
                Err(JsonError { column: error.column(), duplicate: duplicate.get(), line: error.line() })
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&Json<'t>> {
        self.0.iter().find_map(|(found, value)| (found == name).then_some(value))
    }

    pub fn members(&self) -> impl Iterator<Item = (&str, &Json<'t>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    fn has_duplicate(&self) -> bool {
        if self.0.len() <= FEW_MEMBERS {
            let occurs_in = |name: &str, others: &[(Cow<'_, str>, _)]| others.iter().any(|(n, _)| n == name);
            return self.0.iter().enumerate().any(|(place, (name, _))| occurs_in(name, &self.0[..place]));
        }
        let mut names: Vec<&str> = self.members().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

impl From<Object<'_>> for Map<String, Value> {
    fn from(object: Object<'_>) -> Self {
        object.0.into_iter().map(|(name, value)| (name.into_owned(), value.into())).collect()
    }
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    duplicate: &'a Cell<bool>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        // What is read is finite.
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let inside = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let inside = self.deeper()?;
        let mut object = Object(Vec::new());
        while let Some(name) = members.next_key_seed(Name)? {
            object.0.push((name, members.next_value_seed(inside)?));
        }
        if object.has_duplicate() {
            self.duplicate.set(true);
            return Err(A::Error::custom("a member occurs twice"));
        }
        Ok(Json::Object(object))
    }
}

/// A member's name. (`Cow` by itself would always be a copy.)
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
