//! Values of `[[listener]]` and `[acme]`.

use std::net::IpAddr;

use toml::de::DeValue;

use super::{choice, string, text};
use crate::config::document::{Checked, shown, wrong};
use crate::config::upstream::is_host_name;
use crate::config::{CertificateName, TlsVersion, UnknownName};

/// A name that an ACME server can validate on port 443, in lower case.
pub(in crate::config) fn host_name(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write a name such as \"api.example.com\"";
    let text = string(value, CURE)?;
    if text.starts_with("*.") {
        return wrong(
            format!("\"{}\" is a wildcard, which takes DNS records to validate", shown(text)),
            "write each name, or name a certificate file",
        );
    }
    let is_name =
        is_host_name(text) && text.contains('.') && !text.contains('_') && text.parse::<IpAddr>().is_err();
    if is_name {
        Ok(text.to_ascii_lowercase())
    } else {
        wrong(format!("\"{}\" is not a name that a certificate can be got for", shown(text)), CURE)
    }
}

/// `"mailto:ops@example.com"`
pub(in crate::config) fn contact(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write \"mailto:\" and an address, such as \"mailto:ops@example.com\"";
    let text = text(value)?;
    if text.strip_prefix("mailto:").is_some_and(|address| address.contains('@')) {
        Ok(text)
    } else {
        wrong(format!("\"{}\" is not a contact", shown(&text)), CURE)
    }
}

pub(in crate::config) fn certificate_name(value: &DeValue<'_>) -> Checked<CertificateName> {
    let choices = [
        ("san-dns", CertificateName::SanDns),
        ("san-email", CertificateName::SanEmail),
        ("san-uri", CertificateName::SanUri),
        ("subject", CertificateName::Subject),
    ];
    choice(value, &choices)
}

/// Whether a client certificate is required, where one is asked for.
pub(in crate::config) fn client_mode(value: &DeValue<'_>) -> Checked<Option<bool>> {
    choice(value, &[("none", None), ("optional", Some(false)), ("required", Some(true))])
}

pub(in crate::config) fn tls_version(value: &DeValue<'_>) -> Checked<TlsVersion> {
    choice(value, &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)])
}

pub(in crate::config) fn unknown_name(value: &DeValue<'_>) -> Checked<UnknownName> {
    choice(value, &[("default", UnknownName::Default), ("refuse", UnknownName::Refuse)])
}
