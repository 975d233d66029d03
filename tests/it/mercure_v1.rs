//! Mercure by draft 08: what selects, access tokens, `QUERY`, metadata, subscriptions; and both drafts at once.

use crate::client::{Answer, Client};
use crate::harness::Encke;
use crate::mercure::{
    self, Event, FORM, HUB, PUBLISHER_KEY, SUBSCRIBER_KEY, bearer, data, encoded, event, form, head, signed,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://hub.example/.well-known/mercure";
const METADATA: &str = "/.well-known/oauth-protected-resource/.well-known/mercure";
/// In the year 2100.
const LATER: u64 = 4_102_444_800;

fn hub(protocol: &str, options: &[&str]) -> Encke {
    let own = [
        "--mercure-protocol",
        protocol,
        "--mercure-issuer",
        ISSUER,
        "--mercure-audience",
        AUDIENCE,
        "--mercure-anonymous",
    ];
    mercure::hub(&[&own, options].concat())
}

fn access(claims: &Value, key: &str) -> String {
    let mut all = json!({"iss": ISSUER, "aud": AUDIENCE, "exp": LATER});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    signed(&json!({"alg": "HS256", "typ": "at+jwt"}), &all, key)
}

fn detail(action: &str, topics: &Value) -> Value {
    json!({"type": "https://mercure.rocks/authorization-detail", "actions": [action], "topics": topics})
}

fn publisher(topics: &Value) -> String {
    access(&json!({"authorization_details": [detail("publish", topics)]}), PUBLISHER_KEY)
}

fn subscriber(topics: &Value) -> String {
    access(&json!({"authorization_details": [detail("subscribe", topics)]}), SUBSCRIBER_KEY)
}

fn post_by(server: &Encke, token: &str, fields: &[(&str, &str)]) -> Answer {
    server.ask("POST", HUB, &[FORM, &bearer(token)], form(fields).as_bytes())
}

fn post(server: &Encke, fields: &[(&str, &str)]) -> Answer {
    post_by(server, &publisher(&json!([{"match": "*"}])), fields)
}

fn publish(server: &Encke, fields: &[(&str, &str)]) -> String {
    let answer = post(server, fields);
    assert_eq!(answer.status, 200, "{fields:?}: {}", answer.text());
    answer.text()
}

fn target(selectors: &[(&str, &str)], more: &str) -> String {
    format!("{HUB}?{}{more}", form(selectors))
}

/// The status of a subscription, which does not begin.
fn status(server: &Encke, target: &str, headers: &[&str]) -> u16 {
    head(server, target, headers).status
}

#[test]
fn what_matches_is_exact_or_a_url_pattern() {
    let server = hub("v1", &[]);
    let open = |selectors: &[(&str, &str)]| server.open(&target(selectors, ""), &[]).1;
    let mut exact = open(&[("match", "/books/1")]);
    let mut spelled = open(&[("match_exact", "/books/{id}")]);
    let mut pattern = open(&[("match_urlpattern", "/books/:id")]);
    let mut absolute = open(&[("match_urlpattern", "https://HUB.example/books/*")]);
    let mut all = open(&[("match", "*")]);
    let mut all_urls = open(&[("match_urlpattern", "*")]);
    publish(&server, &[("topic", "/books/1"), ("data", "relative")]);
    publish(&server, &[("topic", "https://hub.example/books/2"), ("data", "absolute")]);
    publish(&server, &[("topic", "/books/{id}"), ("data", "braces")]);
    publish(&server, &[("topic", "https://other.example/books/3"), ("data", "elsewhere")]);
    publish(&server, &[("topic", "x"), ("topic", "/books/1"), ("data", "end")]);
    let read = |client: &mut Client, expected: &[&str]| {
        for expected in expected {
            assert_eq!(data(client), *expected);
        }
    };
    read(&mut exact, &["relative", "end"]);
    read(&mut spelled, &["braces"]);
    // An alternate in braces is a URL, too: the braces are escaped there.
    read(&mut pattern, &["relative", "absolute", "braces", "end"]);
    read(&mut absolute, &["relative", "absolute", "braces", "end"]);
    read(&mut all, &["relative", "absolute", "braces", "elsewhere", "end"]);
    read(&mut all_urls, &["relative", "absolute", "braces", "elsewhere", "end"]);
}

#[test]
fn selectors_that_are_none() {
    let server = hub("v1", &[]);
    let check = |selectors: &[(&str, &str)], expected: u16| {
        assert_eq!(status(&server, &target(selectors, ""), &[]), expected, "{selectors:?}");
    };
    check(&[("match", "a"), ("match_exact", "b"), ("match_urlpattern", "/:x(a|b)")], 200);
    check(&[("match", "a"), ("topic", "b")], 200);
    check(&[("topic", "a")], 400);
    check(&[], 400);
    for name in ["Match", "matches", "match_Exact", "MATCH_EXACT", "match_template", "match "] {
        check(&[(name, "a"), ("match", "b")], 400);
    }
    for text in ["", "a\nb", "a\u{7f}", "a\u{85}", "a\u{200b}b", "\u{feff}"] {
        check(&[("match", text)], 400);
    }
    for text in ["/:", "/(", "/{", "https://[x/", "/:a/:a"] {
        check(&[("match_urlpattern", text)], 400);
    }
    assert_eq!(status(&server, &format!("{HUB}?match=%ff"), &[]), 400);
    let long = "a".repeat(4097);
    check(&[("match", &long[1..])], 200);
    check(&[("match", &long)], 400);
    let names: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| ("match", name.as_str())).collect();
    check(&many[..100], 200);
    check(&many, 400);
    let answer = server.get(&target(&[("match_urlpattern", "/(")], ""), &[]);
    assert!(answer.text().contains("match_urlpattern"), "{}", answer.text());
}

#[test]
fn query_has_parameters_in_its_body() {
    let server = hub("v1", &[]);
    let mut client = server.connect();
    let body = form(&[("match", "b"), ("last_event_id", "body")]);
    client.request("QUERY", &format!("{HUB}?match=a&last_event_id=url"), &[FORM], body.as_bytes());
    let head = client.head();
    assert_eq!((head.status, head.get("mercure-last-event-id")), (200, Some("earliest")));
    for topic in ["a", "b"] {
        publish(&server, &[("topic", topic), ("data", topic)]);
    }
    assert_eq!(event(&mut client).event, "encke.gap");
    assert_eq!((data(&mut client), data(&mut client)), ("a".into(), "b".into()));
    assert_eq!(server.ask("QUERY", HUB, &["Content-Type: text/plain"], b"match=a").status, 400);
    assert_eq!(server.ask("QUERY", HUB, &[FORM], b"x=a").status, 400);
    let options = server.ask("OPTIONS", HUB, &[], b"");
    assert!(options.get("allow").unwrap().contains("QUERY"), "{:?}", options.get("allow"));
    let refused = server.ask("PUT", HUB, &[FORM], b"");
    assert_eq!(refused.status, 405);
    // Nobody else knows it, nor does the other draft.
    assert_eq!(server.ask("QUERY", "/sub/a", &[], b"").status, 405);
    let classic = mercure::hub(&["--mercure-anonymous"]);
    assert_eq!(classic.ask("QUERY", HUB, &[FORM], b"match=a").status, 405);
}

#[test]
fn private_updates_are_for_who_is_granted_them() {
    let server = hub("v1", &[]);
    let books = target(&[("match_urlpattern", "/books/:id")], "");
    let listen = |grants: &Value| server.open(&books, &[&bearer(&subscriber(grants))]).1;
    let mut anonymous = server.open(&books, &[]).1;
    let mut by_pattern = listen(&json!([{"match": "/books/*", "match_type": "urlpattern"}]));
    let mut exact = listen(&json!([{"match": "/books/1"}]));
    let mut other = listen(&json!([{"match": "/books/*"}]));
    publish(&server, &[("topic", "/books/1"), ("data", "private"), ("private", "on")]);
    publish(&server, &[("topic", "/books/1"), ("data", "public")]);
    for client in [&mut by_pattern, &mut exact] {
        assert_eq!((data(client), data(client)), ("private".into(), "public".into()));
    }
    for client in [&mut anonymous, &mut other] {
        assert_eq!(data(client), "public");
    }
}

#[test]
fn reserved_topics_are_resolved() {
    let server = hub("v1", &[]);
    for topic in [
        "",
        "mercure",
        "mercure/x",
        "?x",
        "#x",
        "\\.well-known\\mercure",
        "/a/../.well-known/mercure",
        "/.well-known/%6dercure",
        "//other.host/.well-known/mercure",
        "https://e/.well-known/mercure/subscriptions",
        "*",
        "a\u{200b}",
        "a\u{1}",
    ] {
        let answer = post(&server, &[("topic", topic)]);
        assert_eq!(answer.status, 400, "{topic:?}: {}", answer.text());
    }
    for topic in [
        "https://e/x?u=/.well-known/mercure/",
        "https://e/a/.well-known/mercure/x",
        "/.well-known/mercurexyz",
        "http://[bad",
        "urn:mercure",
    ] {
        publish(&server, &[("topic", topic)]);
    }
    assert_eq!(server.ask("POST", "/pub/a/.well-known/mercure/x", &[], b"x").status, 403);
}

#[test]
fn ids_and_types_have_no_controls() {
    let server = hub("v1", &[]);
    for (name, value, status) in [
        ("id", "a\tb", 400),
        ("id", "a\u{200d}b", 400),
        ("id", "#a", 400),
        ("id", "earliest", 400),
        ("id", "\u{e9} \"[", 200),
        ("type", "mercure", 400),
        ("type", "a\u{7f}", 400),
        ("type", "book", 200),
    ] {
        assert_eq!(post(&server, &[("topic", "a"), (name, value)]).status, status, "{name}={value:?}");
    }
}

#[test]
fn tokens_are_access_tokens() {
    let server = hub("v1", &["--mercure-subscriptions"]);
    let grants = json!([detail("publish", &json!([{"match": "/a"}]))]);
    let good = json!({"authorization_details": grants});
    let check = |token: &str, expected: (u16, &str)| {
        let answer = post_by(&server, token, &[("topic", "/a")]);
        let challenge = answer.get("www-authenticate").unwrap_or_default();
        assert_eq!(answer.status, expected.0, "{}", answer.text());
        assert!(challenge.contains(expected.1), "{challenge}");
        let named = format!("resource_metadata=\"https://hub.example{METADATA}\"");
        assert!(challenge.is_empty() || challenge.contains(&named), "{challenge}");
    };
    check(&access(&good, PUBLISHER_KEY), (200, ""));
    for kind in ["AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        let claims =
            json!({"iss": ISSUER, "aud": ["x", AUDIENCE], "exp": LATER, "authorization_details": grants});
        check(&signed(&json!({"alg": "HS256", "typ": kind}), &claims, PUBLISHER_KEY), (200, ""));
    }
    let invalid = (401, "error=\"invalid_token\"");
    for (name, value) in [
        ("iss", json!("https://other.example")),
        ("aud", json!("https://other.example")),
        ("aud", json!(["x"])),
        ("exp", json!(1)),
        ("exp", json!("later")),
        ("authorization_details", json!("x")),
        ("authorization_details", json!([1])),
        ("authorization_details", json!([{"actions": ["publish"], "topics": [{"match": "/a"}]}])),
        ("authorization_details", json!([detail("publish", &json!([]))])),
        ("authorization_details", json!([detail("publish", &json!(["/a"]))])),
        ("authorization_details", json!([detail("publish", &json!([{"match_type": "exact"}]))])),
        (
            "authorization_details",
            json!([detail("publish", &json!([{"match": "/a", "match_type": "Exact"}]))]),
        ),
        ("authorization_details", json!([detail("publish", &json!([{"match": "/a", "match_type": "x"}]))])),
        (
            "authorization_details",
            json!([detail("publish", &json!([{"match": "/(", "match_type": "urlpattern"}]))]),
        ),
        ("authorization_details", json!([detail("publish", &json!([{"match": "a\u{200b}"}]))])),
        (
            "authorization_details",
            json!([{
                "type": "https://mercure.rocks/authorization-detail", "actions": [], "topics": [{"match": "/a"}],
            }]),
        ),
        (
            "authorization_details",
            json!([{
                "type": "https://mercure.rocks/authorization-detail", "actions": ["publish"],
                "topics": [{"match": "/a"}], "payload": "text",
            }]),
        ),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        check(&access(&claims, PUBLISHER_KEY), invalid);
    }
    let many: Vec<Value> = (0..101).map(|number| json!({"match": number.to_string()})).collect();
    check(&publisher(&json!(many)), invalid);
    // Without what must be there.
    for missing in ["iss", "aud", "exp"] {
        let mut claims =
            json!({"iss": ISSUER, "aud": AUDIENCE, "exp": LATER, "authorization_details": grants});
        claims.as_object_mut().unwrap().remove(missing);
        check(&signed(&json!({"alg": "HS256", "typ": "at+jwt"}), &claims, PUBLISHER_KEY), invalid);
    }
    let plain = json!({"iss": ISSUER, "aud": AUDIENCE, "exp": LATER, "authorization_details": grants});
    check(&signed(&json!({"alg": "HS256", "typ": "JWT"}), &plain, PUBLISHER_KEY), invalid);
    check(&mercure::publisher(&["*"]), invalid);
    // Others' details and unknown actions grant nothing; right is missing then.
    let scope = (403, "error=\"insufficient_scope\"");
    let foreign = json!({"authorization_details": [{"type": "x", "actions": 1}]});
    check(&access(&foreign, PUBLISHER_KEY), scope);
    check(&access(&json!({}), PUBLISHER_KEY), scope);
    check(
        &access(&json!({"authorization_details": [detail("read", &json!([{"match": "*"}]))]}), PUBLISHER_KEY),
        scope,
    );
    check(&publisher(&json!([{"match": "/b"}])), scope);
    // Where there is none, none is wrong.
    let answer = server.ask("POST", HUB, &[FORM], b"topic=a");
    let challenge = answer.get("www-authenticate").unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(challenge, format!("Bearer resource_metadata=\"https://hub.example{METADATA}\""));
    for malformed in ["Authorization: Basic x", "Authorization: Bearer", "Authorization: Bearer a, Bearer b"]
    {
        let answer = server.ask("POST", HUB, &[FORM, malformed], b"topic=a");
        assert!(matches!(answer.status, 400 | 401), "{malformed}: {}", answer.status);
    }
    // Never in a URL.
    let token = encoded(&subscriber(&json!([{"match": "*"}])));
    let url = format!("{HUB}/subscriptions?authorization={token}&access_token={token}");
    assert_eq!(server.get(&url, &[]).status, 401);
}

#[test]
fn cookies_have_a_name_of_their_own() {
    let server = hub("v1", &["--mercure-publish-origins", "https://app.example"]);
    let token = publisher(&json!([{"match": "*"}]));
    let by = |name: &str, origin: &str| {
        let cookie = format!("Cookie: {name}={token}");
        server.ask("POST", HUB, &[FORM, &cookie, origin], b"topic=a").status
    };
    assert_eq!(by("__Secure-mercure_access_token", "Origin: https://app.example"), 200);
    assert_eq!(by("__Secure-mercure_access_token", "Origin: https://other.example"), 400);
    assert_eq!(by("__Secure-mercure_access_token", "X: y"), 400);
    assert_eq!(by("mercureAuthorization", "Origin: https://app.example"), 401);
}

#[test]
fn where_one_goes_on() {
    let server = hub("v1", &[]);
    let first = publish(&server, &[("topic", "a"), ("data", "1")]);
    publish(&server, &[("topic", "a"), ("data", "2"), ("id", "second")]);
    let url = target(&[("match", "a")], "");
    let answered = |target: &str, fields: &[&str]| {
        let head = head(&server, target, fields);
        assert_eq!(head.get("last-event-id"), None);
        head.get("mercure-last-event-id").map(str::to_owned)
    };
    assert_eq!(answered(&url, &[]), None);
    assert_eq!(answered(&url, &["Last-Event-ID: second"]).as_deref(), Some("second"));
    assert_eq!(answered(&format!("{url}&last_event_id={}", encoded(&first)), &[]), Some(first.clone()));
    // Empty asks, and nobody has it.
    assert_eq!(answered(&url, &["Last-Event-ID:"]).as_deref(), Some("earliest"));
    assert_eq!(answered(&format!("{url}&last_event_id="), &[]).as_deref(), Some("earliest"));
    assert_eq!(answered(&format!("{url}&last_event_id=unknown"), &[]).as_deref(), Some("earliest"));
    let (_, mut client) = server.open(&format!("{url}&last_event_id={}", encoded(&first)), &[]);
    assert_eq!(event(&mut client), Event { id: "second".into(), event: String::new(), data: "2".into() });
    let (_, mut client) = server.open(&format!("{url}&last_event_id=earliest"), &[]);
    assert_eq!((data(&mut client), data(&mut client)), ("1".into(), "2".into()));
}

#[test]
fn metadata_tell_of_the_hub() {
    let server = hub("v1", &["--mercure-subscriptions"]);
    let answer = server.get(METADATA, &[]);
    assert_eq!((answer.status, answer.media_type()), (200, "application/json"));
    assert_eq!(
        answer.json(),
        json!({
            "resource": AUDIENCE,
            "authorization_details_types_supported": ["https://mercure.rocks/authorization-detail"],
            "bearer_methods_supported": ["header"],
            "mercure_cookie": "__Secure-mercure_access_token",
            "mercure_subscriptions": true,
        })
    );
    assert_eq!(server.ask("POST", METADATA, &[], b"").status, 405);
    assert_eq!(mercure::hub(&[]).get(METADATA, &[]).status, 404);
    let off = hub("both", &[]).get(METADATA, &[]).json();
    assert!(off.get("mercure_subscriptions").is_none(), "{off}");
}

#[test]
fn who_subscribes_is_told() {
    let server = hub("v1", &["--mercure-subscriptions"]);
    let watcher = bearer(&subscriber(&json!([
        {"match": "/.well-known/mercure/subscriptions*", "match_type": "urlpattern"},
    ])));
    let (_, mut watch) = server.open(
        &target(&[("match_urlpattern", "/.well-known/mercure/subscriptions/:type/:match/:subscriber")], ""),
        &[&watcher],
    );
    // It is told of itself.
    assert_eq!(event(&mut watch).event, "mercure");
    let grants = json!({"authorization_details": [
        {"type": "https://mercure.rocks/authorization-detail", "actions": ["subscribe"],
         "topics": [{"match": "/b"}], "payload": {"for": "b"}},
        {"type": "https://mercure.rocks/authorization-detail", "actions": ["subscribe"],
         "topics": [{"match": "/:x", "match_type": "urlpattern"}], "payload": {"for": "others"}},
    ]});
    let token = bearer(&access(&grants, SUBSCRIBER_KEY));
    let wanted = [("match", "/a b"), ("match_urlpattern", "/b"), ("match_exact", "*")];
    let (_, client) = server.open(&target(&wanted, ""), &[&token]);
    let mut documents: Vec<Value> = (0..3)
        .map(|_| {
            let event = event(&mut watch);
            assert_eq!(event.event, "mercure");
            serde_json::from_str(&event.data).unwrap()
        })
        .collect();
    documents.sort_by_key(|document| document["match"].to_string());
    let name = documents[0]["subscriber"].as_str().unwrap().to_owned();
    let escaped = name.replace(':', "%3A");
    assert!(name.starts_with("urn:uuid:"), "{name}");
    let document = |kind: &str, text: &str, payload: Option<&str>| {
        let encoded = encoded(text).replace("%2D", "-").replace("%2E", ".");
        let mut all = json!({
            "id": format!("{HUB}/subscriptions/{kind}/{encoded}/{escaped}"), "type": "subscription",
            "match_type": kind, "match": text, "subscriber": name, "active": true,
        });
        if let Some(payload) = payload {
            all["payload"] = json!({"for": payload});
        }
        all
    };
    assert_eq!(documents[0], document("exact", "*", None));
    assert_eq!(documents[1], document("exact", "/a b", Some("others")));
    assert_eq!(documents[2], document("urlpattern", "/b", Some("b")));
    // The API.
    let list = server.get(&format!("{HUB}/subscriptions?x=y"), &[&watcher]);
    assert_eq!((list.status, list.media_type()), (200, "application/json"));
    let cursor = list.get("etag").unwrap().trim_matches('"').to_owned();
    assert_eq!(
        list.get("link").unwrap(),
        format!(
            "<{HUB}>; rel=\"mercure\"; last-event-id=\"{cursor}\"; type=\"mercure\"; content-type=\"application/json\""
        )
    );
    let list = list.json();
    assert_eq!(
        (&list["type"], list["subscriptions"].as_array().unwrap().len()),
        (&json!("subscriptions"), 4)
    );
    assert!(list.get("@context").is_none() && list.get("lastEventID").is_none(), "{list}");
    let of = |rest: &str| server.get(&format!("{HUB}/subscriptions{rest}"), &[&watcher]);
    assert_eq!(of("/exact/%2Fa%20b").json()["subscriptions"].as_array().unwrap().len(), 1);
    assert_eq!(of("/urlpattern/%2Fa%20b").json()["subscriptions"], json!([]));
    assert_eq!(of(&format!("/urlpattern/%2Fb/{escaped}")).json(), documents[2]);
    assert_eq!(of("/exact/%2Fb/urn%3Auuid%3Ax").status, 404);
    assert_eq!((of("/exact").status, of("/Exact/a").status, of("/exact/%zz").status), (404, 400, 400));
    let unchanged =
        server.get(&format!("{HUB}/subscriptions"), &[&watcher, &format!("If-None-Match: \"{cursor}\"")]);
    assert_eq!(unchanged.status, 304);
    assert_eq!(server.get(&format!("{HUB}/subscriptions"), &[]).status, 401);
    assert_eq!(server.get(&format!("{HUB}/subscriptions"), &[&token]).status, 403);
    drop(client);
    for _ in 0..3 {
        let document: Value = serde_json::from_str(&event(&mut watch).data).unwrap();
        assert_eq!(document["active"], false);
    }
}

#[test]
fn both_take_each_request_as_it_comes() {
    let server = hub("both", &["--mercure-subscriptions"]);
    let (_, mut classic) = server.open(&mercure::target(&["/books/{id}"], ""), &[]);
    let (_, mut v1) = server.open(&target(&[("match_urlpattern", "/books/:id")], ""), &[]);
    publish(&server, &[("topic", "/books/1"), ("data", "v1")]);
    let answer = post_by(&server, &mercure::publisher(&["*"]), &[("topic", "/books/2"), ("data", "classic")]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    for client in [&mut classic, &mut v1] {
        assert_eq!((data(client), data(client)), ("v1".into(), "classic".into()));
    }
    let mixed = format!("{}&match=a", mercure::target(&["a"], ""));
    assert_eq!((status(&server, &mixed, &[]), status(&server, HUB, &[])), (400, 400));
    // What is reserved is so by the draft that a request comes by.
    assert_eq!(post(&server, &[("topic", "mercure")]).status, 400);
    assert_eq!(post_by(&server, &mercure::publisher(&["*"]), &[("topic", "mercure")]).status, 200);
    let all = |token: &str| server.get(&format!("{HUB}/subscriptions"), &[&bearer(token)]).json();
    let seen = all(&mercure::subscriber(&["*"]));
    let subscriptions = seen["subscriptions"].as_array().unwrap();
    assert_eq!((subscriptions.len(), &subscriptions[0]["topic"]), (1, &json!("/books/{id}")));
    let seen = all(&subscriber(&json!([{"match": "*"}])));
    let subscriptions = seen["subscriptions"].as_array().unwrap();
    assert_eq!((subscriptions.len(), &subscriptions[0]["match_type"]), (1, &json!("urlpattern")));
    // A challenge for both.
    for fields in [&[FORM][..], &[FORM, "Authorization: Bearer x"]] {
        let answer = server.ask("POST", HUB, fields, b"topic=a");
        let expected = format!("Bearer resource_metadata=\"https://hub.example{METADATA}\"");
        assert_eq!((answer.status, answer.get("www-authenticate")), (401, Some(&*expected)));
    }
}

#[test]
fn the_settings_are_needed() {
    for missing in ["mercure.issuer", "mercure.audience"] {
        let mut options = vec!["serve", "--listen", "127.0.0.1:0", "--mercure-protocol", "v1"];
        if missing != "mercure.issuer" {
            options.extend(["--mercure-issuer", ISSUER]);
        }
        if missing != "mercure.audience" {
            options.extend(["--mercure-audience", AUDIENCE]);
        }
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_encke"))
            .args(options)
            .env("ENCKE_MERCURE_PUBLISHER_KEY", PUBLISHER_KEY)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(missing), "{told}");
    }
}
