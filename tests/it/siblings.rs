//! What holds for the native API holds for what came after it: Mercure, keys, presence, revocation, the operators' API.
//! Whatever could be overlooked, or taken in two ways, is refused there as well.

use crate::access::{KEY, settings};
use crate::client::Answer;
use crate::harness::Encke;
use crate::mercure::{FORM, HUB, bearer, form, hub, publisher, subscriber};

/// A hub that tells who subscribes, and somebody who may publish there.
fn open() -> (Encke, String) {
    (hub(&["--mercure-anonymous", "--mercure-subscriptions"]), bearer(&publisher(&["*"])))
}

#[test]
fn coded_bodies_are_refused_by_mercure_and_revocation() {
    let (server, token) = open();
    let coded = "Content-Encoding: gzip";
    let update = form(&[("topic", "a"), ("data", "x")]);
    let is_refused = |answer: &Answer| {
        assert_eq!(answer.status, 415, "{}", answer.text());
        assert_eq!(answer.get("accept-encoding"), Some("identity"));
    };
    is_refused(&server.ask("POST", HUB, &[FORM, &token, coded], update.as_bytes()));
    assert_eq!(server.get("/sub/a?as=interval&after=oldest", &[]).status, 304, "nothing was published");
    let identity = "Content-Encoding: identity";
    assert_eq!(server.ask("POST", HUB, &[FORM, &token, identity], update.as_bytes()).status, 200);
}

/// An update that was to be private would be for everybody.
#[test]
fn parameters_of_mercure_that_look_like_a_slip_are_refused() {
    let (server, token) = open();
    for slip in ["privat=on", "Private=on", "dta=x", "tpye=t", "rety=5"] {
        let body = format!("topic=a&data=x&{slip}");
        let answer = server.ask("POST", HUB, &[FORM, &token], body.as_bytes());
        assert_eq!(answer.status, 400, "{slip}: {}", answer.text());
        assert!(answer.text().contains(slip.split('=').next().unwrap()), "{slip}: {}", answer.text());
    }
    assert_eq!(server.get("/sub/a?as=interval&after=oldest", &[]).status, 304, "nothing was published");
    for slip in ["lasteventid=x", "last-event-id=x", "lastEventIds=x", "authorisation=x"] {
        assert_eq!(server.get(&format!("{HUB}?topic=a&{slip}"), &[]).status, 400, "{slip}");
    }
    // What nobody can mistake is somebody else's, and all ways to say where one was are one.
    let mut lost = server.connect();
    lost.request("GET", &format!("{HUB}?topic=a&utm_source=x&last_event_id=unknown"), &[], b"");
    assert_eq!(lost.head().get("last-event-id"), Some("earliest"));
}

#[test]
fn to_http_1_0_no_body_is_lost() {
    let (server, token) = open();
    for line in [format!("QUERY {HUB}?match=a"), "PATCH /pub/a?key=k".into(), format!("POST {HUB}")] {
        let mut client = server.connect();
        client.send(format!("{line} HTTP/1.0\r\n{FORM}\r\n{token}\r\n\r\nmatch=b"));
        assert_eq!(client.answer().status, 411, "{line}");
    }
}

/// `parse` takes a sign; what one reader takes for five, another refuses.
#[test]
fn numbers_are_digits() {
    let server = Encke::start(&[]);
    for target in
        ["/sub/a?as=interval&max=%2B5", "/sub/a?as=interval&timeout=%2B5", "/admin/connections?from=%2B1"]
    {
        assert_eq!(server.get(target, &[]).status, 400, "{target}");
    }
    assert_eq!(server.get("/admin/connections/%2B1.%2B1", &[]).status, 400);
    assert_eq!(server.ask("POST", "/pub/a?ttl=%2B5", &[], b"x").status, 400);
    assert_eq!(server.ask("POST", "/pub/a", &["Encke-TTL: +5"], b"x").status, 400);
    let patch = ["Content-Type: application/merge-patch+json", "Encke-TTL: +5"];
    assert_eq!(server.ask("PATCH", "/pub/a?key=k", &patch, b"{}").status, 400);
}

#[test]
fn the_operators_api_overlooks_nothing() {
    let server = Encke::start(&[]);
    for target in ["/admin/channels?serach=x", "/admin/connections?fron=1", "/admin/channels/%ff"] {
        assert_eq!(server.get(target, &[]).status, 400, "{target}");
    }
}

#[test]
fn a_revocation_is_an_object() {
    let server = Encke::start(&["--demo"]);
    let revoke = |body: &str| server.ask("POST", "/revoke", &[], body.as_bytes()).status;
    assert_eq!(revoke(r#"["alice",null,null,null]"#), 400);
    assert_eq!(revoke(r#" {"subject":"alice"}"#), 200);
    assert_eq!(server.ask("POST", "/revoke", &["Content-Encoding: gzip"], b"{}").status, 415);
}

/// A value is what its publisher made of it: opened as a page, it does nothing at the server's origin.
#[test]
fn the_value_of_a_key_is_no_page() {
    let server = Encke::start(&[]);
    server.ask("PUT", "/pub/q?key=k", &["Content-Type: text/html"], b"<script>alert(1)</script>");
    let answer = server.get("/pub/q?key=k", &[]);
    assert_eq!(answer.media_type(), "text/html");
    assert_eq!(answer.get("content-security-policy"), Some("sandbox"));
    assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
}

/// Who subscribes is for whoever may know: with `must-revalidate` alone, a cache may keep what a token was needed for.
#[test]
fn who_subscribes_is_kept_by_no_shared_cache_and_known_by_any_tag() {
    let (server, _) = open();
    let watcher = bearer(&subscriber(&["*"]));
    let target = format!("{HUB}/subscriptions");
    let all = server.get(&target, &[&watcher]);
    assert_eq!(all.get("cache-control"), Some("private, must-revalidate"));
    let tag = all.get("etag").expect("a tag").trim_matches('"');
    for field in [format!("\"{tag}\""), format!("W/\"{tag}-gzip\""), format!("\"x\", \"{tag}\""), "*".into()]
    {
        let again = server.get(&target, &[&watcher, &format!("If-None-Match: {field}")]);
        assert_eq!(again.status, 304, "{field}");
    }
    assert_eq!(server.get(&target, &[&watcher, "If-None-Match: \"x\""]).status, 200);
}

/// The page's file is the same, whoever compressed it on the way.
#[test]
fn files_are_known_by_tags_that_proxies_changed() {
    let server = Encke::start(&[]);
    let tag = server.get("/encke.js", &[]).get("etag").expect("a tag").trim_matches('"').to_owned();
    for field in [format!("\"{tag}\""), format!("W/\"{tag}\""), format!("\"{tag}-gzip\""), "*".into()] {
        let again = server.get("/encke.js", &[&format!("If-None-Match: {field}")]);
        assert_eq!(again.status, 304, "{field}");
    }
    assert_eq!(server.get("/encke.js", &["If-None-Match: \"x\""]).status, 200);
}

/// Scripts of other origins can read what an answer tells of its message.
#[test]
fn scripts_may_read_the_event_of_a_message() {
    let server = Encke::start(&[]);
    server.admin().publish("a", &["Encke-Event: news"], b"x");
    let answer = server.get("/sub/a?after=oldest", &["Origin: https://app.example"]);
    assert_eq!(answer.get("encke-event"), Some("news"));
    assert!(answer.lists("access-control-expose-headers", "Encke-Event"));
}

#[test]
fn parameters_of_bayeux_that_look_like_a_slip_are_refused() {
    let server = Encke::start(&["--bayeux-publish", "**"]);
    let publication = "%5B%7B%22channel%22%3A%22%2Fa%22%2C%22data%22%3A1%7D%5D";
    for slip in
        ["jsnop=f", "Jsonp=f", "mesage=%5B%5D", "message[]=%5B%5D", "message=%ff", "jsonp=%ff", "%ff=1"]
    {
        let query = format!("message={publication}&{slip}");
        assert_eq!(server.get(&format!("/bayeux?{query}"), &[]).status, 400, "{slip}");
        assert_eq!(server.ask("POST", "/bayeux", &[FORM], query.as_bytes()).status, 400, "{slip}");
    }
    assert_eq!(server.get("/sub/a?as=interval&after=oldest", &[]).status, 304, "nothing was published");
    let fine = server.get(&format!("/bayeux?message={publication}&_=1&jsonp=f"), &[]);
    assert_eq!((fine.status, fine.text().starts_with("/**/f([")), (200, true), "{}", fine.text());
    let options = server.ask("OPTIONS", "/bayeux", &[], b"");
    assert!(options.status == 204 && options.lists("allow", "POST"), "{options:?}");
}

#[test]
fn a_channel_whose_name_ends_as_requests_of_fdajax_do_is_a_channel() {
    let folder = settings("fdajax-names", "[[channels]]\nmatch = \"**\"\npresence = \"public\"\n", KEY);
    let server = Encke::start(&["--fdajax", "--config", folder.join("encke.toml").to_str().unwrap()]);
    std::fs::remove_dir_all(folder).unwrap();
    server.publish("a.fdajax", "x");
    assert_eq!(server.get("/sub/a.fdajax?as=interval&after=oldest", &[]).text(), "x");
    assert_eq!(server.json("/presence/a.fdajax")["channel"], "a.fdajax");
    assert_eq!(server.json("/admin/channels/a.fdajax")["channel"], "a.fdajax");
}

#[test]
fn conditions_are_kept_or_refused() {
    let server = Encke::start(&[]);
    let put = |target: &str, conditions: &[&str], body: &str| {
        server.ask("PUT", target, conditions, body.as_bytes())
    };
    let value = || server.get("/pub/c?key=k", &[]);
    assert_eq!(put("/pub/c?key=k", &["If-None-Match: *"], "first").status, 202, "there is none yet");
    let tag = format!("If-None-Match: {}", value().get("etag").expect("an id"));
    for condition in ["If-None-Match: *", &tag, "If-None-Match: \"x\", *", "If-Match: \"x\""] {
        assert_eq!(put("/pub/c?key=k", &[condition], "second").status, 412, "{condition}");
    }
    let merge = ["Content-Type: application/merge-patch+json", "If-None-Match: *"];
    assert_eq!(put("/pub/c?key=j", &["Content-Type: application/json"], "{}").status, 202);
    assert_eq!(server.ask("PATCH", "/pub/c?key=j", &merge, b"{\"a\":1}").status, 412);
    assert_eq!(server.ask("DELETE", "/pub/c?key=k", &[&tag], b"").status, 412);
    assert_eq!(value().text(), "first");
    assert_eq!(put("/pub/c?key=k", &["If-None-Match: \"x\""], "third").status, 202, "it is another one");
    // Where there is no value that it could be for, it would be dropped in silence.
    let batch = ["Content-Type: application/x-ndjson", "If-Match: *"];
    let line = b"{\"channel\":\"c\",\"key\":\"k\",\"data\":1}";
    for condition in ["If-Match: *", "If-Match: \"x\"", "If-None-Match: *", &tag] {
        assert_eq!(put("/pub/c", &[condition], "fourth").status, 400, "{condition}");
        assert_eq!(server.ask("DELETE", "/pub/c", &[condition], b"").status, 400, "{condition}");
    }
    assert_eq!(server.ask("POST", "/pub", &batch, line).status, 400);
    assert_eq!(put("/pub/c?key=k", &["If-Match: *", "If-None-Match: *"], "fifth").status, 400);
    assert_eq!(value().text(), "third");
}

#[test]
fn options_of_one_connection_are_told() {
    let server = Encke::start(&[]);
    let options = server.ask("OPTIONS", "/admin/connections/1.1", &[], b"");
    assert!(options.status == 204 && options.lists("allow", "DELETE"), "{options:?}");
    let refused = server.ask("PUT", "/admin/connections/1.1", &[], b"");
    assert!(refused.status == 405 && refused.lists("allow", "OPTIONS"), "{refused:?}");
}
