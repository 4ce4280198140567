//! Whether a listener's address is free, and who has it otherwise.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use crate::doctor::facts::{Port, Process, Seen};

/// `TCP_LISTEN` of net/tcp_states.h, as `/proc/net/tcp` writes it.
const LISTENING: &str = "0A";

/// Binds the address as the agent would, without listening: no client gets to see it.
pub fn probe(address: SocketAddr) -> Seen<Port> {
    match bind(address) {
        Ok(()) => Ok(Port::Free),
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse => Ok(Port::Taken(holder(address.port()))),
            io::ErrorKind::AddrNotAvailable => Ok(Port::NotHere),
            io::ErrorKind::PermissionDenied => Ok(Port::Privileged),
            _ => Err(error.into()),
        },
    }
}

fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// A process that listens on the port; nothing where it belongs to somebody else and this is not root.
fn holder(port: u16) -> Option<Process> {
    let sockets: Vec<_> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
            inodes(&table, port)
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut processes = processes.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        Some((id, entry.path()))
    });
    let (id, folder) = processes.find(|(_, folder): &(u32, _)| holds(folder, &sockets))?;
    let name = fs::read_to_string(folder.join("comm")).unwrap_or_default().trim().to_owned();
    Some(Process { id, name })
}

fn holds(process: &Path, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.filter_map(Result::ok).any(|file| {
        fs::read_link(file.path())
            .is_ok_and(|target| sockets.iter().any(|socket| target == Path::new(socket)))
    })
}

/// The sockets that listen on a port: of the columns, the second is the local address, the fourth the state,
/// the tenth the inode.
fn inodes(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    let listening = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let ours = columns.get(1)?.ends_with(&port) && *columns.get(3)? == LISTENING;
        ours.then(|| columns.get(9).map(|inode| (*inode).to_owned())).flatten()
    });
    listening.collect()
}
