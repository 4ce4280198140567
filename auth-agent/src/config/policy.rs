//! `[[policy]]`: rules in files of their own.

use std::path::PathBuf;
use std::sync::Arc;

use super::ClaimPath;

/// Policies in the language Cedar, which decide together about the routes that name them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// What they see of a token besides what every credential says.
    pub claims: Vec<PolicyClaim>,
    /// Where they are; at least one.
    pub files: Vec<PathBuf>,
    /// What routes call them.
    pub name: Arc<str>,
}

/// A claim as policies see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyClaim {
    /// What it is called there: the last name on the way to the claim.
    pub attribute: String,
    /// The claim.
    pub claim: ClaimPath,
    /// Its type there.
    pub kind: ClaimKind,
}

/// The type of a claim, by Cedar's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimKind {
    /// `Bool`: `true` or `false`.
    Bool,
    /// `Long`: a whole number.
    Long,
    /// `Set<String>`: a list; a single value is a list of one.
    Set,
    /// `String`: text, or a number or boolean as JSON writes it.
    String,
}

impl ClaimKind {
    /// Cedar's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "Bool",
            Self::Long => "Long",
            Self::Set => "Set<String>",
            Self::String => "String",
        }
    }
}
