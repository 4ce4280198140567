//! Under a service manager: sockets from it, and news to it.

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use tests::agent::{LOG, until};
use tests::privilege;
use tests::stage::Stage;
use tests::system;

use super::flows::PATIENCE;

const ACTIVATE: &str = "systemd-socket-activate";

fn has_activate() -> bool {
    let present = Command::new(ACTIVATE).arg("--version").output().is_ok();
    if !present {
        eprintln!("skipped: {ACTIVATE} is missing (it comes with systemd)");
    }
    present
}

#[test]
fn a_socket_of_the_service_manager_is_listened_on_and_handed_on_and_one_nobody_wants_is_refused() {
    if !privilege::kernel_usable("sockets from the service manager") || !has_activate() {
        return;
    }
    let mut stage = Stage::without_agent("").unwrap();
    for (address, wanted) in [("[::]:8443", true), ("[::]:9443", false)] {
        let by = [ACTIVATE, "--listen", address];
        let mut agent = stage.setup.spawn(&stage.edge, &[], &by, &[]).unwrap();
        let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
        // It starts the agent for its first client, who waits in the queue meanwhile.
        let knock = || stage.edge.run(|| Ok(TcpStream::connect(("127.0.0.1", port)).is_ok()));
        until("the service manager listens", knock).unwrap();
        if wanted {
            stage.setup.wait_for(&mut agent).unwrap();
            let client = stage.client(3).unwrap();
            assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, 200);
            stage.setup.json(&["upgrade"]).unwrap();
            assert!(agent.wait().unwrap().success());
            assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, 200);
            // So that the next one is alone.
            tests::heirs::end(&stage.setup.path("config.toml")).unwrap();
        } else {
            assert!(!agent.wait().unwrap().success());
            let log = std::fs::read_to_string(stage.setup.path(LOG)).unwrap();
            let said = "that no [[listener]] has the address of: [::]:9443";
            assert!(log.contains(said), "{log}");
        }
        stage.agent = None;
    }
}

#[test]
fn the_service_manager_is_told_of_the_start_a_reload_an_upgrade_and_the_end() {
    if !privilege::kernel_usable("news to the service manager") {
        return;
    }
    let stage = Stage::without_agent("").unwrap();
    let path = stage.setup.path("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let news = || {
        let mut datagram = [0; 4096];
        let length = manager.recv(&mut datagram).unwrap();
        String::from_utf8_lossy(&datagram[..length]).into_owned()
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut agent = stage.setup.spawn(&stage.edge, &environment, &[], &[]).unwrap();
    assert_eq!(news(), "READY=1\n");
    stage.setup.wait_for(&mut agent).unwrap();
    stage.setup.json(&["reload"]).unwrap();
    let reloading = news();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(news(), "READY=1\n");

    let heir = stage.setup.json(&["upgrade"]).unwrap()["pid"].as_u64().unwrap();
    assert_eq!(news(), format!("MAINPID={heir}\nREADY=1\n"));
    assert!(agent.wait().unwrap().success());
    system::terminate(u32::try_from(heir).unwrap()).unwrap();
    assert_eq!(news(), "STOPPING=1\n", "the old one does not say so, as it ends");
    until("the new one ends", || Ok(tests::heirs::of(&stage.setup.path("config.toml"))?.is_empty())).unwrap();
}
