//! One door for all who publish and search: what is counted, and how repeats are recognised, whatever a client speaks.

use super::bench::Bench;
use super::budgets::frame;
use crate::config::Config;
use crate::conn::ConnId;

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

/// Whoever publishes shows this; it is not what is counted.
const TOKEN: &str = "Authorization: Bearer t\r\n";

fn config() -> Config {
    let mut config = Config::default();
    config.publish.token = vec!["t".into()];
    config.bayeux.publish = vec!["chat/**".into()];
    config
}

/// A client of one address, with a connection for each thing that it speaks.
struct Client {
    fields: String,
    http: ConnId,
    socket: ConnId,
    bayeux: ConnId,
    numbers: u32,
}

impl Client {
    fn new(bench: &mut Bench, peer: [u8; 4], fields: &str) -> Self {
        let [http, socket, bayeux] = [0; 3].map(|_| bench.connect_from(peer).unwrap());
        bench.send(socket, &format!("GET /sub/s HTTP/1.1\r\nHost: x\r\n{TOKEN}{fields}{UPGRADE}\r\n"));
        bench.turn();
        bench.world.read(socket, usize::MAX);
        Self { fields: fields.into(), http, socket, bayeux, numbers: 0 }
    }

    fn post(&self, bench: &mut Bench, path: &str, more: &str, body: &str) -> String {
        let fields = &self.fields;
        bench.send(
            self.http,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\n{TOKEN}{fields}{more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        bench.turn();
        bench.read(self.http)
    }

    fn by_socket(&self, bench: &mut Bench, command: &str) -> String {
        bench.send_bytes(self.socket, &frame(command));
        bench.turn();
        String::from_utf8_lossy(&bench.world.read(self.socket, usize::MAX)).into_owned()
    }

    fn by_bayeux(&mut self, bench: &mut Bench) -> String {
        self.numbers += 1;
        let body = format!("[{{\"channel\":\"/chat/a\",\"data\":1,\"id\":\"{}\"}}]", self.numbers);
        let fields = &self.fields;
        bench.send(
            self.bayeux,
            &format!(
                "POST /bayeux HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        bench.turn();
        bench.read(self.bayeux)
    }

    /// Publishes once in each language. Returns how often that was accepted.
    fn publish_by_all(&mut self, bench: &mut Bench) -> usize {
        let http = self.post(bench, "/pub/a", "", "x").starts_with("HTTP/1.1 20");
        let socket =
            self.by_socket(bench, r#"{"ref":1,"publish":{"channel":"a","data":1}}"#).contains("\"ok\"");
        let bayeux = self.by_bayeux(bench).contains("\"successful\":true");
        usize::from(http) + usize::from(socket) + usize::from(bayeux)
    }
}

#[test]
fn one_budget_whatever_a_client_speaks() {
    let mut config = config();
    config.limits.publishes_per_second = 5;
    let mut bench = Bench::new(config);
    let mut client = Client::new(&mut bench, [192, 0, 2, 1], "");
    let accepted: usize = (0..5).map(|_| client.publish_by_all(&mut bench)).sum();
    assert_eq!(accepted, 5, "not five in each language");
    let mut other = Client::new(&mut bench, [192, 0, 2, 2], "");
    assert_eq!(other.publish_by_all(&mut bench), 3, "another address has a budget of its own");
    assert_eq!(bench.server.stats().publications_refused, 10);
    bench.world.advance(1000);
    assert_eq!(client.publish_by_all(&mut bench), 3, "another second");
}

#[test]
fn behind_a_proxy_it_is_the_clients_budget() {
    let mut config = config();
    config.limits.publishes_per_second = 5;
    config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let mut bench = Bench::new(config);
    for number in 1..4 {
        let fields = format!("X-Forwarded-For: 192.0.2.{number}\r\n");
        let mut client = Client::new(&mut bench, [127, 0, 0, 1], &fields);
        let accepted: usize = (0..5).map(|_| client.publish_by_all(&mut bench)).sum();
        assert_eq!(accepted, 5, "client {number}");
    }
}

#[test]
fn one_budget_of_searches() {
    let mut bench = Bench::new(config());
    (0..10_000).for_each(|number| bench.publish(&format!("c/{number}"), "x", None));
    let client = Client::new(&mut bench, [192, 0, 2, 1], "");
    let search = r#"{"ref":1,"subscribe":["c/*/never"]}"#;
    assert!(client.by_socket(&mut bench, search).contains("\"ok\""));
    client.by_socket(&mut bench, r#"{"unsubscribe":["c/*/never"]}"#);
    let mut by_http = || {
        bench.send(client.http, "GET /sub/c/*/never?as=interval HTTP/1.1\r\nHost: x\r\n\r\n");
        bench.turn();
        bench.read(client.http).starts_with("HTTP/1.1 304")
    };
    assert!((0..1000).any(|_| !by_http()), "it ends");
    let refused = client.by_socket(&mut bench, search);
    assert!(refused.contains("too many channels would be looked at"), "HTTP has used it up: {refused}");
    bench.world.advance(1000);
    assert!(client.by_socket(&mut bench, search).contains("\"ok\""), "another second");
}

#[test]
fn a_key_belongs_to_the_whole_request() {
    let mut bench = Bench::new(config());
    let client = Client::new(&mut bench, [192, 0, 2, 1], "");
    let key = "Idempotency-Key: k\r\n";
    let batch = |channel: &str| format!("{{\"channel\":\"{channel}\",\"data\":1}}\n");
    let ndjson = format!("{key}Content-Type: application/x-ndjson\r\n");
    let first = client.post(&mut bench, "/pub", &ndjson, &batch("a"));
    assert!(first.starts_with("HTTP/1.1 202"), "{first}");
    assert_eq!(client.post(&mut bench, "/pub", &ndjson, &batch("a")), first, "a repeat");
    let second = client.post(&mut bench, "/pub", &ndjson, &batch("b"));
    assert!(second.starts_with("HTTP/1.1 422 Unprocessable Content"), "never swallowed: {second}");
    assert_eq!(bench.server.stats().messages_published, 1);
    let fresh = client.post(&mut bench, "/pub", &ndjson.replace(": k", ": l"), &batch("b"));
    assert!(fresh.starts_with("HTTP/1.1 202"));
}

#[test]
fn a_websocket_has_keys_as_well() {
    let mut bench = Bench::new(config());
    let client = Client::new(&mut bench, [192, 0, 2, 1], "");
    let command =
        |data: u32| format!(r#"{{"ref":1,"publish":{{"channel":"a","data":{data},"idempotency_key":"k"}}}}"#);
    let first = client.by_socket(&mut bench, &command(1));
    assert!(first.contains("\"ok\""), "{first}");
    assert_eq!(client.by_socket(&mut bench, &command(1)), first);
    assert!(client.by_socket(&mut bench, &command(2)).contains("\"error\""));
    // Whose socket breaks goes on by HTTP, and it is the same request.
    let key = "Content-Type: application/json\r\nIdempotency-Key: k\r\n";
    let repeated = client.post(&mut bench, "/pub/a", key, "1");
    let id = first.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(repeated.contains(id), "{repeated} does not tell of {first}");
    assert_eq!(bench.server.stats().messages_published, 1);
    let long = command(1).replace("\"k\"", &format!("\"{}\"", "k".repeat(256)));
    assert!(client.by_socket(&mut bench, &long).contains("idempotency_key has 1 to 255 bytes"));
}
