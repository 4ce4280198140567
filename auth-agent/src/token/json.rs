//! JSON as `serde_json` reads it, but without room for two readings: a member that occurs twice (at any
//! depth, however it is escaped) is an error, and so is deep nesting.
//!
//! Invalid UTF-8, lone surrogates and trailing data are errors of `serde_json` already.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::TokenError;

/// Objects and arrays inside each other; claims need two or three, a key set four.
const MAX_DEPTH: usize = 16;

/// Where and why a text is not strict JSON.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {}", if *duplicate { "a member occurs twice" } else { "not a JSON object" })]
pub(super) struct JsonError {
    column: usize,
    duplicate: bool,
    line: usize,
}

impl From<JsonError> for TokenError {
    fn from(error: JsonError) -> Self {
        if error.duplicate { Self::DuplicateMember } else { Self::Malformed }
    }
}

/// Reads a text that is one JSON object.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let duplicate = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: MAX_DEPTH, duplicate: &duplicate }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(JsonError { column: 1, duplicate: false, line: 1 }),
        Err(error) => {
            Err(JsonError { column: error.column(), duplicate: duplicate.get(), line: error.line() })
        }
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
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inside)?;
            if object.insert(name, value).is_some() {
                self.duplicate.set(true);
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(Value::Object(object))
    }
}
