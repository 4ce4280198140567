//! Files, folders and sockets.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::{address, string};
use crate::config::document::{Checked, shown, wrong};
use crate::config::{LocalAddress, LogTarget};

/// A file or folder; a relative one is looked for in `folder`.
pub(in crate::config) fn path(folder: &Path) -> impl Fn(&DeValue<'_>) -> Checked<PathBuf> {
    move |value| {
        const CURE: &str = "write a path in quotes";
        let text = string(value, CURE)?;
        if text.is_empty() || text.contains('\0') {
            return wrong(format!("\"{}\" is not a path", shown(text)), CURE);
        }
        Ok(folder.join(text))
    }
}

/// A path that doesn't depend on where the file lies.
pub(in crate::config) fn absolute_path(value: &DeValue<'_>) -> Checked<PathBuf> {
    let path = path(Path::new(""))(value)?;
    if path.is_absolute() {
        Ok(path)
    } else {
        wrong(format!("\"{}\" is not an absolute path", shown(&path.to_string_lossy())), "write it from / on")
    }
}

/// The path of a Unix socket, which the kernel keeps short.
pub(in crate::config) fn socket(folder: &Path) -> impl Fn(&DeValue<'_>) -> Checked<PathBuf> {
    const MAX_BYTES: usize = 107;
    move |value| {
        let path = path(folder)(value)?;
        if path.as_os_str().len() <= MAX_BYTES {
            Ok(path)
        } else {
            wrong(
                format!("longer than the {MAX_BYTES} bytes that a socket's path may have"),
                "choose a shorter path",
            )
        }
    }
}

/// `"127.0.0.1:9180"` or `"unix:/run/auth-agent/forward-auth.sock"`
pub(in crate::config) fn local_address(folder: &Path) -> impl Fn(&DeValue<'_>) -> Checked<LocalAddress> {
    move |value| {
        let text = string(value, "write an address and a port, or \"unix:/path\"")?;
        match text.strip_prefix("unix:") {
            Some(path) => socket(folder)(&DeValue::String(path.into())).map(LocalAddress::Unix),
            None => address(value).map(LocalAddress::Socket),
        }
    }
}

/// `"off"`, `"stdout"`, or a file; a relative one is looked for in `folder`.
pub(in crate::config) fn log_target(folder: &Path) -> impl Fn(&DeValue<'_>) -> Checked<LogTarget> {
    move |value| match value.as_str() {
        Some("off") => Ok(LogTarget::Off),
        Some("stdout") => Ok(LogTarget::Stdout),
        Some(text) if text.ends_with('/') => {
            wrong(format!("\"{}\" is not a file", shown(text)), "write \"off\", \"stdout\" or a file's path")
        }
        _ => path(folder)(value).map(LogTarget::File),
    }
}
