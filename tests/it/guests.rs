//! Guests of the demo's chat: they see each other come and leave, over restarts of a server whose history lasts, too.

use crate::client::Client;
use crate::cluster::{node, well};
use crate::harness::{Encke, until};
use crate::redis::Redis;
use serde_json::{Value, json};

/// The token of a guest as a field, and the guest's id.
fn guest(server: &Encke, secret: &str, name: &str) -> (String, String) {
    let body = json!({ "secret": secret, "name": name }).to_string();
    let answer = server.ask("POST", "/demo/guest", &["Content-Type: application/json"], body.as_bytes());
    assert_eq!((answer.status, answer.get("cache-control")), (200, Some("no-store")), "{}", answer.text());
    let body: Value = serde_json::from_str(&answer.text()).unwrap();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (format!("Authorization: Bearer {}", text("token")), text("id"))
}

/// The next thing that a watcher is told of somebody.
fn told(watcher: &mut Client) -> Value {
    loop {
        let told = watcher.envelope();
        if told["key"].is_string() {
            return told;
        }
    }
}

fn here(server: &Encke) -> Value {
    server.json("/presence/demo/chat/lobby")
}

#[test]
fn two_guests_see_each_other_come_and_leave() {
    let server = Encke::start(&["--demo", "--presence-seconds", "1"]);
    let (johann, his) = guest(&server, "what the page of Johann keeps", "Johann");
    let (caroline, hers) = guest(&server, "what the page of Caroline keeps", "Caroline");
    let watch = "/sub/encke/presence/demo/chat/lobby?as=stream&latest";
    let (_, mut he_sees) = server.open(watch, &[&johann]);
    let (_, he_listens) = server.open("/sub/demo/chat/lobby?as=stream", &[&johann]);
    assert_eq!(told(&mut he_sees)["data"], json!({ "id": his, "info": { "name": "Johann" } }));
    let (_, mut she_sees) = server.open(watch, &[&caroline]);
    let poll = server.park("/sub/demo/chat/lobby?timeout=300", &[&caroline], "demo/chat/lobby", 2);
    let came = told(&mut he_sees);
    assert_eq!((&came["key"], &came["data"]["info"]["name"]), (&json!(hers), &json!("Caroline")));
    let both = [told(&mut she_sees), told(&mut she_sees)].map(|told| told["key"].clone());
    assert_eq!(both, [json!(his), json!(hers)]);
    let members = |list: &Value| -> Vec<Value> {
        list["members"].as_array().unwrap().iter().map(|member| member["info"]["name"].clone()).collect()
    };
    let mut names = members(&here(&server));
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["Caroline", "Johann"]);
    drop(poll);
    assert_eq!(told(&mut he_sees)["removed"], true);
    until("one is left", || (here(&server)["count"] == 1).then_some(()));
    drop(he_listens);
    assert_eq!(told(&mut she_sees)["key"], json!(hers));
    assert_eq!((&told(&mut she_sees)["key"], here(&server)["count"].as_u64()), (&json!(his), Some(0)));
}

#[test]
fn whose_history_lasts_knows_its_guests_again() {
    let folder = std::env::temp_dir().join(format!("encke-guests-{}", std::process::id()));
    let options = ["--demo", "--store-dir", folder.to_str().unwrap()];
    let start = || {
        let server = Encke::start(&options);
        until("the history is loaded", || (server.get("/healthz", &[]).status == 200).then_some(()));
        server
    };
    let shown = |server: &Encke, token: &str| server.get("/sub/demo/chat/lobby?as=interval", &[token]).status;
    let server = start();
    let (token, id) = guest(&server, "what a page keeps for long", "Johann");
    assert_eq!(shown(&server, &token), 304);
    drop(server);
    let server = start();
    assert_eq!(guest(&server, "what a page keeps for long", "Johann").1, id);
    assert_eq!(shown(&server, &token), 304, "and the token is good still");
    drop(server);
    std::fs::remove_dir_all(folder).unwrap();
    // Whoever forgets everything knows nobody.
    let server = Encke::start(&["--demo"]);
    assert_eq!(shown(&server, &token), 401);
    assert_ne!(guest(&server, "what a page keeps for long", "Johann").1, id);
}

#[test]
fn the_page_has_what_it_needs_on_the_first_listener() {
    let server = Encke::start(&["--demo", "--admin-listen", "127.0.0.1:0"]);
    let (token, id) = guest(&server, "what a page keeps for long", "Johann");
    let _poll = server.park("/sub/demo/chat/lobby?timeout=300", &[&token], "demo/chat/lobby", 1);
    until("he is here", || (here(&server)["members"][0]["id"] == json!(id)).then_some(()));
    let server = Encke::start(&[]);
    assert_eq!(server.ask("POST", "/demo/guest", &[], b"{}").status, 404);
}

#[test]
fn servers_that_share_a_history_have_the_same_guests() {
    let redis = Redis::start(&[]);
    let nodes = [(); 2].map(|()| node(&redis.url(), &["--demo", "--presence-seconds", "0"]));
    nodes.iter().for_each(well);
    let [(token, id), (_, other)] =
        nodes.each_ref().map(|server| guest(server, "what a page keeps for long", "Johann"));
    assert_eq!(id, other);
    let (_, listens) = nodes[1].open("/sub/demo/chat/lobby?as=stream", &[&token]);
    for server in &nodes {
        until("he is here", || (here(server)["members"][0]["id"] == json!(id)).then_some(()));
    }
    drop(listens);
    for server in &nodes {
        until("he has gone", || (here(server)["count"] == 0).then_some(()));
    }
}
