//! Clients that vanish without a word: cable pulled, tunnel entered, host moved. No packet says so, hence the test runs
//! in a network of its own, whose cable it can pull.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::Encke;

const NETWORK: &str = "ip link set lo up && ip link add near type veth peer name far && \
    ip addr add 10.99.0.1/24 dev near && ip link set near up";

/// How long idle connections may take to be found: 60 s of silence, then the first probe after TCP_USER_TIMEOUT.
const FOUND_WITHIN: Duration = Duration::from_secs(80);

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().expect("there is a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Another host, until it is dropped.
struct Host(Child);

impl Host {
    fn start() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo up; exec sleep 1000"]).stdout(Stdio::piped());
        let mut host = Self(command.spawn().expect("unshare is there"));
        let out = host.0.stdout.take().expect("it is a pipe");
        assert_eq!(BufReader::new(out).lines().next().and_then(Result::ok).as_deref(), Some("up"));
        sh(&format!("ip link set far netns {}", host.0.id()));
        host.run("ip addr add 10.99.0.2/24 dev far && ip link set far up");
        host
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "-t", &self.0.id().to_string()]);
        command
    }

    fn run(&self, script: &str) {
        assert!(self.command().args(["sh", "-ec", script]).status().expect("nsenter is there").success());
    }

    /// Begins a request that is answered for ever, or not for a long time.
    fn ask(&self, target: &str) -> Self {
        let mut command = self.command();
        command.args(["curl", "-sN", &format!("http://10.99.0.1:8080{target}")]).stdout(Stdio::null());
        Self(command.spawn().expect("curl is there"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As user root of a namespace, which anybody may have, unless the system forbids it to all but the real one.
#[test]
fn clients_that_vanish_are_found() {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]).arg(std::env::current_exe().expect("it runs"));
    command.args(["--exact", "vanished::in_a_network_of_its_own", "--ignored", "--nocapture"]);
    let output = command.output().expect("unshare is there");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if text.contains("Operation not permitted") && !text.contains("1 test") {
        return eprintln!("not tested: this system gives no network of one's own: {text}");
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "runs in a network of its own: clients_that_vanish_are_found"]
fn in_a_network_of_its_own() {
    sh(NETWORK);
    let host = Host::start();
    let listen = "0.0.0.0:8080".parse().expect("an address");
    // What is sent and not acknowledged within stalled_seconds + 5 ends a connection.
    let server =
        Encke::start_at(listen, Stdio::null(), &["--heartbeat", "1", "--limits-stalled-seconds", "1"]);
    let _streams =
        ["sse", "stream", "iframe", "multipart"].map(|name| host.ask(&format!("/sub/loud?as={name}")));
    let _quiet = ["/sub/quiet?as=raw", "/sub/quiet?timeout=300"].map(|target| host.ask(target));
    server.listeners("loud", 4);
    server.listeners("quiet", 2);
    let timers = sh("ss -Htno 'sport = :8080 and dst 10.99.0.2'");
    assert_eq!(timers.matches("timer:(keepalive").count(), 6, "the kernel will ask the silent: {timers}");

    host.run("ip link set far down");
    let start = Instant::now();
    server.listeners("loud", 0);
    // A message finds whoever never hears a heartbeat.
    server.publish("quiet", "news");
    server.listeners("quiet", 0);
    println!("found after {:?}", start.elapsed());
    if std::env::var_os("ENCKE_SLOW_TESTS").is_some() {
        host.run("ip link set far up");
        let _quiet = ["/sub/quiet?as=raw", "/sub/quiet?timeout=300"].map(|target| host.ask(target));
        server.listeners("quiet", 2);
        host.run("ip link set far down");
        let start = Instant::now();
        while server.json("/pub/quiet")["subscribers"] != 0 {
            assert!(start.elapsed() < FOUND_WITHIN, "the kernel did not find them");
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("found by the kernel after {:?}", start.elapsed());
    }
}
