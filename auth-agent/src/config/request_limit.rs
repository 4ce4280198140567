//! Limits of requests by who sends them, from where, and to what.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;

/// Most `[[limit]]` and `[[quota]]` sections together.
pub const MAX_REQUEST_LIMITS: usize = 64;
/// Most of them that are for one route.
pub const MAX_LIMITS_PER_ROUTE: usize = 8;

/// `[[limit]]` or `[[quota]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestLimit {
    /// How much there may be.
    pub budget: RequestBudget,
    /// What is told apart: each combination has a budget of its own.
    pub by: By,
    /// What is counted.
    pub count: Counted,
    /// The methods that it is for; empty: all.
    pub methods: Vec<Method>,
    /// Its name.
    pub name: Arc<str>,
    /// The clients' networks that it is for; empty: all.
    pub networks: Vec<IpNet>,
}

/// How much there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestBudget {
    /// `[[quota]]`: so much in each period.
    Quota {
        /// Requests or bytes.
        amount: NonZeroU64,
        /// The period.
        period: Period,
    },
    /// `[[limit]]`: so much in so much time, and so much at once.
    Rate(VolumeRate),
}

/// So much in so much time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VolumeRate {
    /// Requests or bytes per `period`.
    pub amount: NonZeroU64,
    /// Requests or bytes that may come at once after a pause.
    pub burst: NonZeroU64,
    /// A second, a minute or an hour.
    pub period: Duration,
}

/// A day or a month of UTC.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Period {
    /// From 00:00 to 24:00.
    Day,
    /// From the first day on.
    Month,
}

impl Period {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Counted {
    /// Requests.
    Requests,
    /// Bytes of response bodies. They are known when they have passed: what is over refuses the next request.
    ResponseBytes,
}

impl Counted {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::ResponseBytes => "response-bytes",
        }
    }
}

/// What requests are told apart by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Dimension {
    /// The API key, or the one that the token was exchanged for.
    Key = 1,
    /// Who the credential stands for.
    Principal = 2,
    /// The route.
    Route = 4,
    /// The client's address: an IPv6 client's whole prefix.
    Source = 8,
    /// The tenant that the token names.
    Tenant = 16,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Key, Self::Principal, Self::Route, Self::Source, Self::Tenant];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Principal => "principal",
            Self::Route => "route",
            Self::Source => "source",
            Self::Tenant => "tenant",
        }
    }
}

/// A set of [`Dimension`]s; never empty in a configuration.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct By(u8);

impl By {
    /// Whether it is told apart by this.
    pub fn has(self, dimension: Dimension) -> bool {
        self.0 & dimension as u8 != 0
    }

    /// Whether a request's budget is known before it is known who sent it.
    pub fn needs_nobody(self) -> bool {
        self.0 & !(Dimension::Route as u8 | Dimension::Source as u8) == 0
    }

    /// Whether only the client's address tells apart whose budget it is, whatever the route is.
    pub fn is_of_sources_alone(self) -> bool {
        self.needs_nobody() && self.has(Dimension::Source)
    }

    /// Whether nothing about a request tells whose budget it is but where it goes.
    pub fn is_of_nobody(self) -> bool {
        self.needs_nobody() && !self.has(Dimension::Source)
    }

    /// As one number, the same for ever.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The names, in order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Dimension::ALL.into_iter().filter(move |dimension| self.has(*dimension)).map(Dimension::name)
    }
}

impl FromIterator<Dimension> for By {
    fn from_iter<T: IntoIterator<Item = Dimension>>(dimensions: T) -> Self {
        Self(dimensions.into_iter().fold(0, |bits, dimension| bits | dimension as u8))
    }
}

impl fmt::Debug for By {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}
