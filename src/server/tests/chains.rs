//! Chains through many connections, in every dialect: each connection is held, and behind what holds it stands what lets go
//! the next one. Nobody is served inside somebody else's request, so the stack is as deep for the last as for the first.

use super::bench::{Bench, post};
use super::budgets::{connect, request};
use crate::config::Config;
use crate::conn::ConnId;
use serde_json::json;

/// Each would take some kilobytes of the stack.
const LINKS: usize = 300;

/// Holds each connection by what `link` says of its number, lets the first go by `trigger`, and looks at the answers.
fn runs_through(bench: &mut Bench, links: &[String], trigger: &str, begins: &str) {
    let ids: Vec<ConnId> = links
        .iter()
        .map(|link| {
            let id = bench.connect();
            bench.send(id, link);
            id
        })
        .collect();
    bench.turn();
    assert!(ids.iter().all(|&id| bench.world.read(id, usize::MAX).is_empty()), "all are held");
    // So that a poll with a rate has waited for long enough.
    bench.world.advance(1000);
    let (_, answer) = bench.client(trigger);
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    bench.server.check(bench.world.now);
    for id in ids {
        let answer = bench.read_text(id);
        assert!(answer.starts_with(begins), "each was let go: {answer:?}");
    }
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

fn delete(channel: usize) -> String {
    format!("DELETE /pub/d{channel} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn polls_that_publish() {
    for query in ["", "&as=jsonp&callback=f", "&latest&rate=50"] {
        let mut bench = Bench::new(Config::default());
        let link =
            |n: usize| get(&format!("/sub/c{n}?timeout=60{query}"), "") + &post(&format!("c{}", n + 1), "x");
        let links: Vec<String> = (0..LINKS).map(link).collect();
        runs_through(&mut bench, &links, &post("c0", "x"), "HTTP/1.1 200 ");
    }
}

#[test]
fn polls_that_delete() {
    let mut bench = Bench::new(Config::default());
    (0..=LINKS).for_each(|n| bench.publish(&format!("d{n}"), "x", None));
    let links: Vec<String> =
        (0..LINKS).map(|n| get(&format!("/sub/d{n}?timeout=60"), "") + &delete(n + 1)).collect();
    runs_through(&mut bench, &links, &delete(0), "HTTP/1.1 410 ");
}

#[test]
fn windows_of_fdajax() {
    // What each sends behind its waiting: to the next user, whom it sends a message, or who is logged out.
    for command in ["cmd=push&types=mes&mes=1&peer_id=", "cmd=logout&user_id="] {
        let mut config = Config::default();
        config.fdajax.enabled = true;
        (config.fdajax.mes_live_max, config.fdajax.win_timeout) = (60_000, 60_000);
        let mut bench = Bench::new(config);
        let (application, _) = bench.client("");
        for user in 1..=LINKS {
            let login = format!("/live.fdajax?cmd=login&user_id={user}&ip_addr=127.0.0.1&sess_id=s{user}");
            bench.send(application, &get(&login, ""));
            bench.turn();
            assert!(bench.read(application).ends_with("LOGIN_OK"));
        }
        let ask = |user: usize| get(&format!("/live.fdajax?{command}{user}"), "");
        let link = |user: usize| {
            let wait = format!("/live.fdajax?cmd=wait&user_id={user}&win_id=1&types=mes");
            get(&wait, &format!("Cookie: _session_id=s{user}\r\n")) + &ask(user + 1)
        };
        let links: Vec<String> = (1..=LINKS).map(link).collect();
        runs_through(&mut bench, &links, &ask(1), "HTTP/1.1 200 ");
    }
}

#[test]
fn sessions_of_bayeux_that_end_each_other() {
    let mut config = Config::default();
    config.bayeux.handshakes_per_second = 1_000_000;
    let mut bench = Bench::new(config);
    let sessions: Vec<(ConnId, String)> = (0..LINKS).map(|_| bench.session(&json!({}))).collect();
    let end = |session: &str| request(&json!([{"channel": "/meta/disconnect", "clientId": session}]));
    let next = |n: usize| sessions.get(n + 1).map_or("nobody", |(_, session)| session);
    for (n, (id, session)) in sessions.iter().enumerate() {
        bench.bayeux(*id, &json!([connect(session, &json!({}))]));
        bench.send(*id, &request(&json!([connect(session, &json!({}))])));
        bench.send(*id, &end(next(n)));
    }
    bench.turn();
    bench.client(&end(&sessions[0].1));
    bench.server.check(bench.world.now);
    for (id, _) in sessions {
        assert!(bench.read(id).starts_with("HTTP/1.1 200 "), "each was let go");
    }
}
