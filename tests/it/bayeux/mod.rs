//! Bayeux on the raw wire, case by case. The unmodified clients are driven by `tests/bayeux`.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::client::{Answer, Client};
use crate::harness::{Encke, PATIENCE};

mod bad_input;
mod channels;
mod elsewhere;
mod extensions;
mod floods;
mod recorded;
mod session;
mod transports;

/// A server whose Bayeux clients may publish anywhere, with further options.
fn start(options: &[&str]) -> Encke {
    Encke::start(&[&["--bayeux-publish", "**"], options].concat())
}

/// Posts messages and gives the replies.
fn post(client: &mut Client, messages: &Value) -> Vec<Value> {
    replies(&client.ask(
        "POST",
        "/bayeux",
        &["Content-Type: application/json"],
        messages.to_string().as_bytes(),
    ))
}

/// The messages of an answer.
fn replies(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.get("content-type"), Some("application/json;charset=UTF-8"));
    answer.json().as_array().expect("an array").clone()
}

/// The data of the events among `messages`.
fn events(messages: &[Value]) -> Vec<Value> {
    messages
        .iter()
        .filter(|message| message.get("successful").is_none())
        .map(|event| event["data"].clone())
        .collect()
}

fn ok(reply: &Value) -> bool {
    reply["successful"].as_bool().expect("a reply says whether it succeeded")
}

fn error(reply: &Value) -> &str {
    assert!(!ok(reply), "{reply}");
    reply["error"].as_str().expect("a failure has a reason")
}

/// The server has a turn in which nothing is to be delivered.
fn turn(server: &Encke) {
    assert_eq!(server.get("/healthz", &[]).status, 200);
}

/// A client with a session, and a connection for all but its held connects.
struct Session<'s> {
    server: &'s Encke,
    client: Client,
    id: String,
}

fn handshake() -> Value {
    json!({"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["long-polling"], "id": "1"})
}

impl<'s> Session<'s> {
    /// A session that has connected once.
    fn begin(server: &'s Encke) -> Self {
        let mut session = Self::handshake(server, &handshake());
        assert!(ok(&session.connect(json!({}))[0]));
        session
    }

    /// A session that has only shaken hands.
    fn handshake(server: &'s Encke, handshake: &Value) -> Self {
        let mut client = server.connect();
        let replies = post(&mut client, handshake);
        let id = replies[0]["clientId"].as_str().unwrap_or_else(|| panic!("{}", replies[0])).to_owned();
        Self { server, client, id }
    }

    /// Completes a message: it is of this session.
    fn own(&self, mut message: Value) -> Value {
        message["clientId"] = self.id.clone().into();
        message
    }

    fn send(&mut self, messages: &[Value]) -> Vec<Value> {
        let messages: Vec<Value> = messages.iter().map(|message| self.own(message.clone())).collect();
        post(&mut self.client, &messages.into())
    }

    fn ask(&mut self, message: Value) -> Value {
        let mut replies = self.send(&[message]);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    fn subscribe(&mut self, subscription: impl Into<Value>) -> Value {
        self.ask(json!({"channel": "/meta/subscribe", "subscription": subscription.into(), "id": "s"}))
    }

    fn publish(&mut self, channel: &str, data: impl Into<Value>) -> Value {
        self.ask(json!({"channel": channel, "data": data.into(), "id": "p"}))
    }

    /// A connect that does not wait; what comes with it.
    fn connect(&mut self, ext: Value) -> Vec<Value> {
        let advice = json!({"timeout": 0});
        self.send(&[json!({"channel": "/meta/connect", "connectionType": "long-polling", "id": "c", "advice": advice, "ext": ext})])
    }

    /// The data of the events that wait.
    fn poll(&mut self) -> Vec<Value> {
        events(&self.connect(json!({})))
    }

    /// A connect that waits, on a connection of its own.
    fn hold(&self, message: &Value) -> Client {
        let client = self.begin_connect(message);
        self.server.does(client.addr(), Some("bayeux"));
        client
    }

    /// The same, which the server may not have seen yet.
    fn begin_connect(&self, message: &Value) -> Client {
        let mut message = self.own(message.clone());
        message["channel"] = "/meta/connect".into();
        message["connectionType"] = "long-polling".into();
        let mut client = self.server.connect();
        client.request("POST", "/bayeux/connect", &[], message.to_string().as_bytes());
        client
    }
}

/// A WebSocket.
struct Socket(WebSocket<TcpStream>);

impl Socket {
    fn open(server: &Encke) -> Self {
        let request = format!("ws://{}/bayeux", server.addr()).into_client_request().unwrap();
        let stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(tungstenite::client(request, stream).unwrap().0)
    }

    fn send(&mut self, messages: &Value) {
        self.0.send(Message::text(messages.to_string())).unwrap();
    }

    /// The next array of messages.
    fn read(&mut self) -> Vec<Value> {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, messages: &Value) -> Vec<Value> {
        self.send(messages);
        self.read()
    }

    /// What it was sent before has been taken, and nothing has come.
    fn settle(&mut self) {
        assert_eq!(self.ask(&json!([])), Vec::<Value>::new(), "nothing came before this");
    }

    fn addr(&self) -> SocketAddr {
        self.0.get_ref().local_addr().unwrap()
    }
}

/// A time in which what must not happen would have happened.
const MOMENT: Duration = Duration::from_millis(300);
