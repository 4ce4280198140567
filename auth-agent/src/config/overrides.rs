//! Limits of which only some are written: how `auth-agent limit set` and the store state them.
//!
//! They are read as a `[[class]]` section is, so that they mean the same, and are refused in the same words.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::defaults::{DAY, HOUR, MINUTE, SECOND};
use super::{
    ByteRate, ConfigErrors, Counted, HttpLimit, Rate, RequestBudget, SourceLimits, VolumeRate, document,
    sections,
};

/// Limits of a source, in the words of the configuration. What is absent is as in `[limits]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Failed authentications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_failures: Option<HttpOverride>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteOverride>,
    /// New TCP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<RateOverride>,
    /// Packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<RateOverride>,
    /// HTTP requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<HttpOverride>,
}

/// A [`ByteRate`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ByteOverride {
    /// A size: how much may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<String>,
    /// A size: how much may go on for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<String>,
}

/// An [`HttpLimit`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpOverride {
    /// How many may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// After how many refused ones the source is dropped at the NIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_after: Option<u32>,
    /// A duration: for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_for: Option<String>,
    /// What may go on for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

/// A [`Rate`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateOverride {
    /// How many may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// What may go on for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

impl RateOverride {
    /// The rate that these amount to.
    ///
    /// # Errors
    /// What is wrong, each as `field: what; cure`.
    pub fn rate(&self) -> Result<Rate, String> {
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        document::parse(&text, Path::new(""), sections::limits::sole_rate)
            .map_err(|errors| listed(&errors))
            .and_then(|rate| rate.ok_or_else(|| "rate: missing; write a number per s, min or h".to_owned()))
    }
}

/// How much a `[[limit]]` or `[[quota]]` allows, in the words of the configuration.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetText {
    /// Of a quota: so much in each period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// Of a limit: how much may come at once; absent: as much as the number in the rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<String>,
    /// Of a limit: what may go on for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

impl BudgetText {
    /// The budget that this amounts to for what is `configured` as another.
    ///
    /// # Errors
    /// What is wrong, each as `field: what; cure`.
    pub fn resolve(&self, counted: Counted, configured: RequestBudget) -> Result<RequestBudget, String> {
        let Self { amount, burst, rate } = self;
        // A number is one of requests, or of bytes without a unit.
        let number = |text: &String| match text.parse::<i64>() {
            Ok(number) => toml::Value::Integer(number),
            Err(_) => toml::Value::String(text.clone()),
        };
        let fields = [
            ("amount", amount.as_ref().map(number)),
            ("burst", burst.as_ref().map(number)),
            ("rate", rate.clone().map(toml::Value::String)),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let text = toml::to_string(&fields.collect::<toml::Table>()).map_err(|error| error.to_string())?;
        document::parse(&text, Path::new(""), |section| {
            sections::request_limits::sole_budget(section, counted, configured)
        })
        .map_err(|errors| listed(&errors))
        .and_then(|budget| budget.ok_or_else(|| "write a rate, or an amount for a quota".to_owned()))
    }

    /// What is configured, in words that yield it again.
    pub fn of(counted: Counted, budget: RequestBudget) -> Self {
        let volume = |volume: NonZeroU64| match counted {
            Counted::Requests => volume.to_string(),
            Counted::ResponseBytes => size(volume.get()),
        };
        match budget {
            RequestBudget::Quota { amount, .. } => Self { amount: Some(volume(amount)), ..Self::default() },
            RequestBudget::Rate(VolumeRate { amount, burst, period }) => Self {
                burst: Some(volume(burst)),
                rate: Some(format!("{}/{}", volume(amount), unit(period))),
                ..Self::default()
            },
        }
    }
}

impl Overrides {
    /// The limits that these and `default` amount to.
    ///
    /// # Errors
    /// What is wrong, each as `field: what; cure`.
    pub fn resolve(&self, default: &SourceLimits) -> Result<SourceLimits, String> {
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        document::parse(&text, Path::new(""), |section| sections::limits::overrides(section, default))
            .map_err(|errors| listed(&errors))
    }
}

fn listed(errors: &ConfigErrors) -> String {
    let problems = errors.iter().map(|error| format!("{}: {}; {}", error.field, error.what, error.cure));
    problems.collect::<Vec<_>>().join("\n")
}

/// In full: set, they yield the same limits, whatever the default is.
impl From<&SourceLimits> for Overrides {
    fn from(limits: &SourceLimits) -> Self {
        Self {
            auth_failures: Some((&limits.auth_failures).into()),
            bytes: Some((&limits.bytes).into()),
            connections: Some((&limits.connections).into()),
            packets: Some((&limits.packets).into()),
            requests: Some((&limits.requests).into()),
        }
    }
}

impl From<&ByteRate> for ByteOverride {
    fn from(rate: &ByteRate) -> Self {
        Self { burst: Some(size(rate.burst)), per_second: Some(size(rate.per_second)) }
    }
}

impl From<&HttpLimit> for HttpOverride {
    fn from(limit: &HttpLimit) -> Self {
        Self {
            burst: Some(limit.rate.burst.get()),
            drop_after: Some(limit.drop_after.get()),
            drop_for: Some(duration(limit.drop_for)),
            rate: Some(rate(&limit.rate)),
        }
    }
}

impl From<&Rate> for RateOverride {
    fn from(limit: &Rate) -> Self {
        Self { burst: Some(limit.burst.get()), rate: Some(rate(limit)) }
    }
}

fn rate(rate: &Rate) -> String {
    format!("{}/{}", rate.events, unit(rate.period))
}

fn unit(period: Duration) -> &'static str {
    match period {
        SECOND => "s",
        MINUTE => "min",
        _ => "h",
    }
}

/// In the largest unit that divides it.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes != 0 && bytes.is_multiple_of(1_u64 << shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// In the largest unit that divides it.
fn duration(duration: Duration) -> String {
    let units = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)];
    let ms = duration.as_millis();
    match units.into_iter().find(|(_, unit)| ms != 0 && ms.is_multiple_of(unit.as_millis())) {
        Some((name, unit)) => format!("{}{name}", ms / unit.as_millis()),
        None => format!("{ms}ms"),
    }
}
