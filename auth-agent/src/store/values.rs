//! How our types look in SQLite. What can't be read back is damage, and said so.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use serde::de::DeserializeOwned;

use crate::api_key::{KeyHash, KeyId};
use crate::clock::UnixTime;
use crate::config::Rate;

impl ToSql for UnixTime {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        // Past the year 292 billion is as good as never.
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for UnixTime {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let seconds = value.as_i64()?;
        u64::try_from(seconds).map(Self).map_err(|_| FromSqlError::OutOfRange(seconds))
    }
}

impl ToSql for KeyId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for KeyId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(FromSqlError::other)
    }
}

impl ToSql for KeyHash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_slice().into())
    }
}

impl FromSql for KeyHash {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_blob()?.try_into().map(Self).map_err(FromSqlError::other)
    }
}

/// A network in its canonical text.
pub(super) fn network(row: &Row<'_>, column: usize) -> rusqlite::Result<IpNet> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| unreadable(column, error))
}

/// A JSON value.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| unreadable(column, error))
}

/// A list of networks, each as canonical text.
pub(super) fn networks(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<IpNet>> {
    let texts: Vec<String> = json(row, column)?;
    texts.iter().map(|text| text.parse().map_err(|error| unreadable(column, error))).collect()
}

/// A rate in three columns from this one on: events, seconds, burst. Without events there is none.
pub(super) fn rate(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Rate>> {
    let Some(events) = row.get::<_, Option<u32>>(column)? else { return Ok(None) };
    let (period, burst) = (row.get::<_, UnixTime>(column + 1)?.0, row.get(column + 2)?);
    let number =
        |number: u32| NonZeroU32::new(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, 0));
    Ok(Some(Rate { burst: number(burst)?, events: number(events)?, period: Duration::from_secs(period) }))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
