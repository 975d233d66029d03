//! nginx and haproxy in front of the server, as people run them: on loopback, with the configuration of SECURITY.md.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::client::Client;
use crate::harness::{Encke, free_address, until};

/// Which front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Haproxy,
    /// nginx with the block of SECURITY.md, as pasted.
    Pasted,
}

pub const FRONTS: [Kind; 2] = [Kind::Nginx, Kind::Haproxy];

/// A running front. It lets nobody publish: what comes in by it under `/pub` is answered with 403.
pub struct Front {
    child: Child,
    addr: SocketAddr,
    folder: PathBuf,
}

impl Front {
    pub fn start(kind: Kind, server: &Encke) -> Self {
        let addr = free_address();
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("front-{}", addr.port()));
        fs::create_dir_all(&folder).unwrap();
        let (template, program, arguments): (_, _, &[&str]) = match kind {
            Kind::Nginx => (include_str!("front/nginx.conf"), "nginx", &["-e", "stderr", "-p", ".", "-c"]),
            Kind::Haproxy => (include_str!("front/haproxy.cfg"), "haproxy", &["-db", "-f"]),
            Kind::Pasted => ("", "nginx", &["-e", "stderr", "-p", ".", "-c"]),
        };
        let pasted = pasted();
        let template = if kind == Kind::Pasted { &*pasted } else { template };
        let text = template.replace("LISTEN", &addr.to_string()).replace("ENCKE", &server.addr().to_string());
        let file = folder.join("front.conf");
        fs::write(&file, text).unwrap();
        // Debian keeps both where only root looks for programs.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).arg(&file).current_dir(&folder).env("PATH", path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; `make test-tools` installs it"));
        let front = Self { child, addr, folder };
        until("the front listens", || TcpStream::connect(addr).ok());
        front
    }

    /// A new connection through it.
    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// The settings of a whole nginx around the block that SECURITY.md shows.
fn pasted() -> String {
    let document = include_str!("../../SECURITY.md");
    let block = document.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let block = block.replace("listen 80;", "listen LISTEN;").replace("127.0.0.1:8080", "ENCKE");
    assert!(block.contains("listen LISTEN;") && block.contains("http://ENCKE;"));
    let around = include_str!("front/nginx.conf");
    let begin = around.split("    map ").next().unwrap();
    format!("{begin}\n{block}\n}}\n")
}

impl Drop for Front {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            eprintln!("--- the front's log\n{log}");
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
