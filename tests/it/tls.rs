//! TLS, with clients of several makes: curl and openssl, and rustls in a tunnel for all the others of these tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Encke, PATIENCE, data, free_address, until};
use crate::tunnel;

/// A directory with certificates of its own.
pub struct Files(PathBuf);

impl Files {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("encke-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a name in UTF-8").into()
    }

    /// Makes a certificate for `host`, `NAME.pem` and `NAME.key`.
    fn make(&self, name: &str, host: &str, key: &[&str], days: u32) {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-newkey"])
            .args(key)
            .args(["-subj", &format!("/CN={host}"), "-days", &days.to_string()])
            .args(["-addext", &format!("subjectAltName=DNS:{host},IP:127.0.0.1")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &self.text(&format!("{name}.key")), "-out", &self.text(&format!("{name}.pem"))])
            .output()
            .expect("openssl is missing: `make test` installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const EC: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: [&str; 1] = ["rsa:2048"];

/// A server with a certificate for localhost, and where it speaks TLS.
pub fn start(files: &Files, options: &[&str]) -> (Encke, SocketAddr) {
    if !files.path("a.pem").exists() {
        files.make("a", "localhost", &EC, 90);
    }
    let (certificate, key) = (files.text("a.pem"), files.text("a.key"));
    let own = ["--tls-listen", "127.0.0.1:0", "--tls-certificate", &certificate, "--tls-key", &key];
    let server = Encke::start(&[&own, options].concat());
    let address = server.tls().expect("it says where it speaks TLS");
    (server, address)
}

fn curl(files: &Files, address: SocketAddr, target: &str, options: &[&str]) -> (i32, String) {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--cacert", &files.text("a.pem")])
        .args(options)
        .arg(format!("https://localhost:{}{target}", address.port()))
        .output()
        .expect("curl is missing: `make test` installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), text + &String::from_utf8_lossy(&output.stderr))
}

/// What `openssl s_client` says of a handshake.
fn s_client(address: SocketAddr, options: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is missing: `make test` installs it");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn stat(server: &Encke, name: &str) -> u64 {
    server.json("/stats")[name].as_u64().expect("a count")
}

#[test]
fn curl_speaks_both_versions() {
    let files = Files::new("curl");
    let (server, address) = start(&files, &[]);
    for options in [&["--tlsv1.3"][..], &["--tls-max", "1.2"], &["--http1.1"], &["--http2"]] {
        assert_eq!(curl(&files, address, "/healthz", options), (0, "ok\n".into()), "{options:?}");
    }
    let (code, said) =
        curl(&files, address, "/healthz", &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]);
    assert_eq!(code, 35, "older versions are refused: {said}");
    let body = "x".repeat(700_000);
    server.publish("big", &body);
    let (code, text) = curl(&files, address, "/sub/big?after=oldest&as=interval", &[]);
    assert_eq!((code, text.len()), (0, body.len()));
    assert!(stat(&server, "tls_handshakes") >= 5);
    assert_eq!(stat(&server, "tls_failed"), 1);
}

#[test]
fn sessions_are_resumed_by_tickets_and_alpn_is_http() {
    let files = Files::new("tickets");
    let (server, address) = start(&files, &[]);
    let session = files.text("session");
    // In TLS 1.3 the ticket comes after the handshake, so something has to be read first.
    let ask = format!(
        "(printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) | \
         openssl s_client -ign_eof -connect {address} -alpn http/1.1"
    );
    for version in ["-tls1_3", "-tls1_2"] {
        let run = |more: &str| {
            let output =
                Command::new("sh").args(["-c", &format!("{ask} {version} {more}")]).output().expect("sh");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let first = run(&format!("-sess_out {session}"));
        assert!(first.contains("\nNew, TLS") && first.contains("ALPN protocol: http/1.1"), "{first}");
        assert!(first.contains("\r\n\r\nok\n"), "{first}");
        let second = run(&format!("-sess_in {session}"));
        assert!(second.contains("\nReused, TLS"), "{version}: {second}");
    }
    assert_eq!((stat(&server, "tls_handshakes"), stat(&server, "tls_resumed")), (4, 2));
    s_client(address, &["-alpn", "h2"]);
    assert_eq!(stat(&server, "tls_failed"), 1, "nothing else is spoken");
}

#[test]
fn the_certificate_is_chosen_by_name_and_by_what_the_client_can_check() {
    let files = Files::new("sni");
    files.make("a", "localhost", &EC, 90);
    files.make("b", "b.example", &RSA, 90);
    files.make("c", "*.c.example", &EC, 90);
    let list = |ending: &str| ["a", "b", "c"].map(|name| files.text(&format!("{name}.{ending}"))).join(",");
    let options =
        ["--tls-listen", "127.0.0.1:0", "--tls-certificate", &list("pem"), "--tls-key", &list("key")];
    let server = Encke::start(&options);
    let address = server.tls().expect("TLS");
    for (name, subject) in [
        ("localhost", "localhost"),
        ("b.example", "b.example"),
        ("x.c.example", "*.c.example"),
        ("elsewhere.example", "localhost"),
    ] {
        let said = s_client(address, &["-servername", name]);
        assert!(said.contains(&format!("subject=CN = {subject}\n")), "{name}: {said}");
    }
    let said = s_client(address, &["-noservername"]);
    assert!(said.contains("subject=CN = localhost\n"), "{said}");
    let said = s_client(address, &["-noservername", "-tls1_2", "-sigalgs", "RSA+SHA256:RSA-PSS+SHA256"]);
    assert!(said.contains("subject=CN = b.example\n"), "only RSA: {said}");
}

#[test]
fn every_technique_works_through_it() {
    let files = Files::new("techniques");
    let (server, address) = start(&files, &[]);
    for piece in [1, 7, 64 << 10] {
        let address = tunnel::start(address, &files.path("a.pem"), piece);
        let channel = format!("x/{piece}");
        let open = |technique: &str| {
            let mut client = Client::connect(address);
            client.request("GET", &format!("/sub/{channel}?as={technique}"), &[], b"");
            assert_eq!(client.head().status, 200);
            client
        };
        let (mut stream, mut sse) = (open("stream"), open("sse"));
        let mut poll = Client::connect(address);
        poll.request("GET", &format!("/sub/{channel}"), &["Accept: application/json"], b"");
        server.listeners(&channel, 3);
        let id = Client::connect(address).publish(&channel, &[], b"hello");
        assert_eq!(data(&poll.answer().json()), ["hello"]);
        let message = loop {
            let line = stream.line();
            if line != "\n" {
                break serde_json::from_str::<Value>(&line).expect("JSON");
            }
        };
        assert_eq!(message["id"], json!(id));
        until("the event comes", || sse.block().filter(|block| block.contains("data: hello")));
        // Pipelined requests, in one record and in pieces.
        let mut client = Client::connect(address);
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50));
        (0..50).for_each(|_| assert_eq!(client.answer().text(), "ok\n"));
    }
}

#[test]
fn large_bodies_and_slow_readers_lose_nothing() {
    let files = Files::new("large");
    let (server, address) = start(&files, &["--history-bytes", "64MiB"]);
    let address = tunnel::start(address, &files.path("a.pem"), 64 << 10);
    let mut slow = Client::connect(address);
    slow.fix_window();
    slow.request("GET", "/sub/x?as=stream", &[], b"");
    assert_eq!(slow.head().status, 200);
    server.listeners("x", 1);
    let mut publisher = Client::connect(address);
    let body = |n: usize| vec![b'a' + (n % 26) as u8; 300_000 + n];
    for n in 0..60 {
        publisher.publish("x", &[], &body(n));
    }
    for n in 0..60 {
        let line = loop {
            let chunk = slow.chunk().expect("the stream goes on");
            if chunk != b"\n" {
                break serde_json::from_slice::<Value>(&chunk).expect("an envelope");
            }
        };
        let text = line["data"].as_str().expect("text");
        assert!(text.as_bytes() == body(n), "message {n} arrives as it was sent");
    }
}

#[test]
fn a_handshake_that_does_not_come_to_an_end_is_cut_off() {
    let files = Files::new("late");
    let (server, address) = start(&files, &["--limits-handshake-seconds", "1"]);
    let begin = Instant::now();
    let mut silent = TcpStream::connect(address).expect("it listens");
    let mut half = TcpStream::connect(address).expect("it listens");
    // The head of a record that never comes.
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).expect("it reads");
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let read = stream.read(&mut [0; 16]);
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    // The server's clock has whole milliseconds.
    assert!(begin.elapsed() > Duration::from_millis(990));
    until("both are counted", || (stat(&server, "tls_failed") == 2).then_some(()));
}

#[test]
fn rubbish_is_refused_with_an_alert() {
    let files = Files::new("rubbish");
    let (server, address) = start(&files, &[]);
    let refused = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(bytes).expect("it reads");
        let mut answer = Vec::new();
        // It may be reset behind the alert.
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    // 21 = alert, 2 = fatal.
    let answer = refused(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.is_empty() || (answer[0], answer[5]) == (21, 2), "{answer:?}");
    // A handshake message that says it is very long, in records that are each complete.
    let mut long = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0];
    long.resize(5 + 0x4000, 0);
    refused(&long.repeat(8));
    until("both are counted", || (stat(&server, "tls_failed") >= 2).then_some(()));
    assert_eq!(curl(&files, address, "/healthz", &[]), (0, "ok\n".into()));
}

#[test]
fn who_shakes_hands_too_often_waits_for_the_next_second() {
    let files = Files::new("rate");
    let (server, address) = start(&files, &["--limits-handshakes-per-second", "3", "--limits-exempt="]);
    let tunnel = tunnel::start(address, &files.path("a.pem"), 64 << 10);
    let begin = Instant::now();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(tunnel)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/healthz", &[]).status, 200, "nobody is refused");
    }
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    // How many depends on where in a second they began.
    assert!(stat(&server, "tls_delayed") > 0);
}

#[test]
fn certificates_are_read_anew() {
    let files = Files::new("reload");
    let (server, address) = start(&files, &[]);
    let subject = || s_client(address, &["-servername", "localhost"]);
    assert!(subject().contains("CN = localhost\n"));
    let mut old = Client::connect(tunnel::start(address, &files.path("a.pem"), 64 << 10));
    assert_eq!(old.get("/healthz", &[]).status, 200);

    std::fs::write(files.path("a.pem"), "rubbish").expect("a file");
    server.signal(Signal::HUP);
    server.logged("stay as they are");
    assert!(subject().contains("CN = localhost\n"), "a bad file changes nothing");

    files.make("a", "second.example", &EC, 5);
    server.signal(Signal::HUP);
    server.logged("read anew");
    server.logged("a.pem expires in ");
    assert!(subject().contains("CN = second.example\n"));
    assert_eq!(old.get("/healthz", &[]).status, 200, "who is connected stays");
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let files = Files::new("wrong");
    files.make("a", "localhost", &EC, 90);
    files.make("b", "localhost", &EC, 90);
    let listen = free_address().to_string();
    let refused = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
        command.args(["--listen", &listen, "--tls-listen", "127.0.0.1:0"]).args(options);
        let output = command.output().expect("the binary can be started");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let (a, b, key, missing) =
        (files.text("a.pem"), files.text("b.pem"), files.text("a.key"), files.text("no.pem"));
    assert!(refused(&[]).contains("--tls-listen: tls.listen: needs tls.certificate and tls.key"));
    let said = refused(&["--tls-certificate", &a]);
    assert!(said.contains("tls.key: 0 keys for 1 certificates"), "{said}");
    let said = refused(&["--tls-certificate", &b, "--tls-key", &key]);
    assert!(said.contains(&format!("tls.key: {key}: it does not belong to {b}")), "{said}");
    let said = refused(&["--tls-certificate", &missing, "--tls-key", &key]);
    assert!(said.contains(&format!("tls.certificate: {missing}: No such file")), "{said}");
    let said = refused(&["--tls-certificate", &key, "--tls-key", &key]);
    assert!(said.contains("there is no certificate in it"), "{said}");
    let said = refused(&["--tls-certificate", &a, "--tls-key", &a]);
    assert!(said.contains("tls.key: "), "{said}");
}

#[test]
fn a_signal_ends_streams_in_order() {
    let files = Files::new("drain");
    let (mut server, address) = start(&files, &[]);
    let mut stream = Client::connect(tunnel::start(address, &files.path("a.pem"), 64 << 10));
    stream.request("GET", "/sub/x?as=stream", &[], b"");
    assert_eq!(stream.head().status, 200);
    server.listeners("x", 1);
    server.signal(Signal::TERM);
    while let Some(chunk) = stream.chunk() {
        assert_eq!(chunk, b"\n");
    }
    stream.closed();
    assert_eq!(server.exit().code(), Some(0));
}
