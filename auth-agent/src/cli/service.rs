//! `service`: unit files for systemd, made for this program and its configuration.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::config::Config;
use crate::serve::descriptors_needed;

/// On top of the drain, until systemd kills.
const STOP_MARGIN_SECONDS: u64 = 15;

/// The two units, as text.
#[derive(Serialize)]
pub(super) struct Units {
    service: String,
    socket: String,
}

impl Units {
    /// For a program and a configuration that both lie where they are to stay.
    pub(super) fn new(binary: &Path, path: &Path, config: &Config) -> Self {
        Self { service: service(binary, path, config), socket: socket(config) }
    }

    /// One of them.
    pub(super) fn text(&self, socket: bool) -> &str {
        if socket { &self.socket } else { &self.service }
    }
}

fn service(binary: &Path, path: &Path, config: &Config) -> String {
    let command = format!("{} --config {}", quoted(binary), quoted(path));
    let stop = config.timeouts.drain.as_secs().saturating_add(STOP_MARGIN_SECONDS);
    let descriptors = descriptors_needed(config);
    format!(
        "# /etc/systemd/system/auth-agent.service\n\
         # A new version: put it in the place of the old file, then `auth-agent upgrade`, which drops no request.\n\
         [Unit]\n\
         Description=auth-agent, an authenticating edge\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={command} run\n\
         ExecReload={command} reload\n\
         Restart=on-failure\n\
         TimeoutStopSec={stop}\n\
         LimitNOFILE={descriptors}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

fn socket(config: &Config) -> String {
    let mut text = "# /etc/systemd/system/auth-agent.socket\n\
                    # Not needed, but with it the ports are open before the agent is, and while it restarts.\n\
                    [Socket]\n"
        .to_owned();
    for listener in &config.listeners {
        // Writing to a string does not fail.
        let _ = writeln!(text, "ListenStream={}", listener.address);
    }
    text + "BindIPv6Only=default\n\n[Install]\nWantedBy=sockets.target\n"
}

/// As systemd.service(5) reads command lines: a specifier's mark twice, and in quotes where there are blanks.
fn quoted(path: &Path) -> String {
    let text = path
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::MINIMAL;

    #[test]
    fn the_units_name_the_program_the_configuration_and_its_listeners() {
        let text =
            format!("{MINIMAL}\n[timeouts]\ndrain = \"45s\"\n[sizes]\nconnections = 1000\nworkers = 2\n");
        let config = Config::parse(&text, Path::new("/etc/auth-agent/config.toml")).unwrap();
        let (binary, path) = (Path::new("/opt/auth 1/auth-agent"), Path::new("/etc/100%/config.toml"));
        let units = Units::new(binary, path, &config);
        let service = units.text(false);
        for line in [
            "ExecStart=\"/opt/auth 1/auth-agent\" --config /etc/100%%/config.toml run",
            "ExecReload=\"/opt/auth 1/auth-agent\" --config /etc/100%%/config.toml reload",
            "TimeoutStopSec=60",
            // 1,000 of clients; 1,000 in use and 2 x 128 kept for the upstream, and a health check; 512 in reserve.
            "LimitNOFILE=2769",
            "Type=notify",
        ] {
            assert!(service.lines().any(|other| other == line), "no {line:?} in {service}");
        }
        let address = config.listeners[0].address;
        assert!(units.text(true).contains(&format!("\nListenStream={address}\n")), "{}", units.text(true));
    }
}
