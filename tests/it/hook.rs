//! The application that is asked, as a small HTTP server: what goes to it, and what happens when it sleeps, starts anew,
//! sends us elsewhere or says too much.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, request};
use crate::harness::{Crowd, Encke, free_address, until};
use crate::upgrade::Line;

/// An application. What it is asked is noted; answers are what a test has set.
struct Application {
    addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    news: Condvar,
}

#[derive(Default)]
struct Inner {
    connections: usize,
    asked: Vec<(String, Value)>,
    answer: Option<String>,
}

impl Application {
    fn start(answer: Option<&str>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), answer)
    }

    /// It listens there; without an answer it sleeps.
    fn start_at(addr: SocketAddr, answer: Option<&str>) -> Self {
        let listener = until("the address is free", || TcpListener::bind(addr).ok());
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        state.inner.lock().unwrap().answer = answer.map(ToOwned::to_owned);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                shared.inner.lock().unwrap().connections += 1;
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { addr, state }
    }

    fn settings(&self, more: &str) -> Settings {
        Settings::new(&format!(
            "[hook]\nurl = \"http://{}/encke\"\n{more}\n[[channels]]\nmatch = \"room/**\"\nsubscribe = \"hook\"\n\
             publish = \"hook\"\n[[channels]]\nmatch = \"**\"\n",
            self.addr
        ))
    }

    /// What it answers from now on, to those who wait, too.
    fn set(&self, answer: &str) {
        self.state.inner.lock().unwrap().answer = Some(answer.to_owned());
        self.state.news.notify_all();
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.state.inner.lock().unwrap().asked.clone()
    }

    fn connections(&self) -> usize {
        self.state.inner.lock().unwrap().connections
    }
}

/// Serves one connection after the other request.
fn serve(stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.to_ascii_lowercase();
        let length = length.split_once("content-length: ")?.1.split_once("\r\n")?.0.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut inner = state.inner.lock().unwrap();
        inner.asked.push((head, serde_json::from_slice(&body).ok()?));
        state.news.notify_all();
        while inner.answer.is_none() {
            inner = state.news.wait(inner).unwrap();
        }
        let answer = inner.answer.clone()?;
        drop(inner);
        let mut stream = stream;
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

fn ok(body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A settings file of its own.
struct Settings(PathBuf);

impl Settings {
    fn new(text: &str) -> Self {
        static COUNT: Mutex<usize> = Mutex::new(0);
        let mut count = COUNT.lock().unwrap();
        *count += 1;
        let path = std::env::temp_dir().join(format!("encke-hook-{}-{count}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_application_is_asked_on_kept_connections_and_its_word_counts() {
    let application =
        Application::start(Some(&ok(&json!({"allow": true, "subject": "alice", "cache_seconds": 0}))));
    let settings = application.settings("");
    let server = Encke::start(&["--config", settings.name()]);
    let ours = ["Cookie: session=abc", "Origin: http://localhost", "X-Other: no"];
    for _ in 0..3 {
        assert_eq!(server.ask("POST", "/pub/room/a", &ours, b"hello").status, 202);
    }
    let (_, mut stream) = server.open("/sub/room/a?as=stream&after=oldest", &ours);
    stream.read_until(b"hello");
    let asked = application.asked();
    assert_eq!((asked.len(), application.connections()), (4, 1));
    let (head, question) = &asked[3];
    assert!(head.starts_with("POST /encke HTTP/1.1\r\n"), "{head}");
    let client = json!({"address": "127.0.0.1", "origin": "http://localhost", "technique": "stream"});
    assert_eq!(
        question,
        &json!({"action": "subscribe", "channels": ["room/a"], "client": client, "headers": {"cookie": "session=abc"}})
    );
    application.set(&ok(&json!({"allow": false, "reason": "members only"})));
    let refused = server.get("/sub/room/a", &ours);
    assert_eq!((refused.status, refused.json()["detail"].as_str()), (403, Some("members only")));
    application.set("HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\nlog in");
    let refused = server.get("/sub/room/b", &ours);
    assert_eq!((refused.status, refused.get("www-authenticate")), (401, Some("Bearer")));
    let answer = server.get("/metrics", &[]);
    let metrics = answer.text();
    assert!(metrics.contains("encke_hook_seconds_count 6\n"), "{metrics}");
    assert!(metrics.contains("encke_questions_asked_total 6\n"), "{metrics}");
}

#[test]
fn whatever_else_it_answers_is_no_and_nobody_is_sent_elsewhere() {
    let elsewhere = Application::start(Some(&ok(&json!({"allow": true}))));
    let application = Application::start(Some(""));
    let settings = application.settings("timeout_ms = 5000");
    let server = Encke::start(&["--config", settings.name()]);
    let long = format!("{{\"allow\":true,\"reason\":\"{}\"}}", "x".repeat(70_000));
    for answer in [
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
            elsewhere.addr
        ),
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", elsewhere.addr),
        "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()),
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue".into(),
    ] {
        application.set(&answer);
        let refused = server.get("/sub/room/a", &[]);
        assert_eq!(refused.status, 503, "{}", &answer[..answer.len().min(80)]);
        assert!(refused.get("retry-after").is_some());
    }
    assert_eq!(elsewhere.asked().len(), 0);
    server.logged("hook: the application was asked, and it answered 307");
}

#[test]
fn an_application_that_starts_anew_is_tried_again_and_a_reload_asks_another() {
    let addr = free_address();
    let settings = Settings::new(&format!(
        "[hook]\nurl = \"http://{addr}/\"\ntimeout_ms = 30000\n[[channels]]\nmatch = \"room/**\"\nsubscribe = \"hook\"\n\
         [[channels]]\nmatch = \"**\"\n"
    ));
    let server = Encke::start(&["--config", settings.name()]);
    let mut client = server.connect();
    client.request("GET", "/sub/room/a?as=interval", &[], b"");
    until("it is asked", || (server.json("/stats")["questions_waiting"] == 1).then_some(()));
    let application = Application::start_at(addr, Some(&ok(&json!({"allow": true}))));
    assert_eq!(client.answer().status, 304);
    let other = Application::start(Some(&ok(&json!({"allow": false}))));
    let text = std::fs::read_to_string(&settings.0).unwrap();
    std::fs::write(&settings.0, text.replace(&addr.to_string(), &other.addr.to_string())).unwrap();
    server.signal(Signal::HUP);
    server.logged("count from now on: hook.url");
    assert_eq!(server.get("/sub/room/a?as=interval", &[]).status, 403);
    assert_eq!((application.asked().len(), other.asked().len()), (1, 1));
}

#[test]
fn while_the_application_sleeps_others_are_served_and_the_waiting_are_bounded() {
    let application = Application::start(None);
    let settings = application.settings("timeout_ms = 600000");
    let server = Encke::start(&["--config", settings.name(), "--limits-judged-waiting", "4000"]);
    let (_, mut listener) = server.open("/sub/open?as=stream", &[]);
    let crowd = Crowd::of(1000);
    let mut waiting: Vec<Client> = (0..crowd.count)
        .map(|number| {
            let mut client = server.connect();
            client.send(request("GET", &format!("/sub/room/{number}?as=interval"), &[], b""));
            client
        })
        .collect();
    let count = crowd.count as u64;
    until("all wait", || (server.json("/stats")["questions_waiting"] == count).then_some(()));
    assert!(server.threads() <= 16 + 3, "{} threads", server.threads());
    // A publication reaches its listeners, and its publisher is answered, while they wait.
    for number in 0..100 {
        assert_eq!(server.ask("POST", "/pub/open", &[], format!("message {number}").as_bytes()).status, 201);
        listener.read_until(format!("\"message {number}\"").as_bytes());
    }
    assert_eq!(server.json("/stats")["questions_waiting"], count);
    // Who leaves is not asked for.
    waiting.truncate(20);
    until("they have left", || (server.json("/stats")["questions_waiting"] == 20).then_some(()));
    application.set(&ok(&json!({"allow": true})));
    for mut client in waiting {
        assert_eq!(client.answer().status, 304);
    }
    assert!(application.asked().len() <= 16 + 20, "{} were asked about", application.asked().len());
}

/// While the application sleeps, another process takes over: what waits for its word goes on waiting there.
#[test]
fn an_upgrade_while_it_is_asked_asks_anew() {
    let application = Application::start(None);
    let settings = application.settings("timeout_ms = 60000");
    let mut line = Line::of(Encke::start(&["--config", settings.name()]));
    let ours = ["Cookie: session=abc", "Origin: http://localhost"];
    let mut listener = line.server.connect();
    listener.request("GET", "/sub/room/a?as=stream", &ours, b"");
    let mut publisher = line.server.connect();
    publisher.request("POST", "/pub/room/b", &ours, b"hello");
    until("both are asked about", || (application.asked().len() == 2).then_some(()));
    line.upgrade();
    until("both are asked about again", || (application.asked().len() == 4).then_some(()));
    application.set(&ok(&json!({"allow": true})));
    assert_eq!(listener.head().status, 200);
    assert_eq!(publisher.answer().status, 202);
    let questions: Vec<Value> = application.asked().into_iter().map(|(_, question)| question).collect();
    for question in &questions[..2] {
        assert!(questions[2..].contains(question), "the same: {questions:?}");
    }
    line.server.publish("room/a", "goes on");
    listener.read_until(b"goes on");
}
