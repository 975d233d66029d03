//! What a service manager hears, and what it gives.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::client::Client;
use crate::harness::{Encke, PATIENCE, free_address, until};

/// The socket on which a service manager listens.
pub struct Manager(UnixDatagram, pub PathBuf);

impl Manager {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("encke-notify-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a directory for temporary files");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(socket, path)
    }

    pub fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.0.recv(&mut bytes).expect("the server says something in time");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.1);
    }
}

#[test]
fn it_hears_of_starting_reloading_and_leaving() {
    let manager = Manager::new("moments");
    let path = manager.1.to_str().expect("a name in UTF-8");
    let mut server = Encke::start_with_environment(&[("NOTIFY_SOCKET", path)], &[]);
    assert_eq!(manager.hears(), "READY=1\n");
    assert_eq!(server.get("/healthz", &[]).status, 200);
    server.signal(Signal::HUP);
    let reloading = manager.hears();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("as systemd wants it");
    assert!(time.trim().parse::<u64>().is_ok(), "{reloading}");
    assert_eq!(manager.hears(), "READY=1\n");
    server.signal(Signal::TERM);
    assert_eq!(manager.hears(), "STOPPING=1\n");
    server.exit();
}

#[test]
fn it_hears_that_the_server_lives() {
    let manager = Manager::new("watchdog");
    let path = manager.1.to_str().expect("a name in UTF-8");
    let server = Encke::start_with_environment(&[("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "200000")], &[]);
    assert_eq!(manager.hears(), "READY=1\n");
    (0..5).for_each(|_| assert_eq!(manager.hears(), "WATCHDOG=1\n", "although nobody asks anything"));
    server.signal(Signal::STOP);
    until("it is stopped", || server.is_stopped().then_some(()));
    manager.0.set_nonblocking(true).expect("a socket");
    // What was said before it was stopped.
    while manager.0.recv(&mut [0; 64]).is_ok() {}
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(manager.0.recv(&mut [0; 64]).is_err(), "who is stuck is silent");
    server.signal(Signal::CONT);
    manager.0.set_nonblocking(false).expect("a socket");
    assert_eq!(manager.hears(), "WATCHDOG=1\n");
}

/// Processes that end with the test.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // It fails if they have ended already.
        let _ = kill_process_group(self.0, Signal::TERM);
    }
}

#[test]
fn it_may_open_the_sockets() {
    let (clients, admin) = (free_address(), free_address());
    let mut child = Command::new("systemd-socket-activate")
        .args(["-l", &clients.to_string(), "-l", &admin.to_string(), "--fdname=encke:admin"])
        .args([env!("CARGO_BIN_EXE_encke"), "serve", "--listen", "192.0.2.1:9"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // The server is a child of its own.
        .process_group(0)
        .spawn()
        .expect("systemd-socket-activate is missing: `make test` installs it");
    let group = Group(Pid::from_child(&child));
    // It starts with the first connection, which waits in the socket.
    until("it listens", || std::net::TcpStream::connect(clients).ok());
    assert_eq!(Client::connect(clients).get("/healthz", &[]).status, 200);
    assert_eq!(
        Client::connect(clients).ask("POST", "/pub/x", &[], b"x").status,
        404,
        "publishing is for the other one"
    );
    assert_eq!(Client::connect(admin).ask("POST", "/pub/x", &[], b"x").status, 202);
    drop(group);
    assert!(child.wait().is_ok());
}
