//! Pages of other origins: what the answers allow them to read.

use crate::client::Head;
use crate::harness::Encke;

const ORIGIN: &str = "Origin: https://app.example";

fn allow_origin(head: &Head) -> Option<&str> {
    head.get("access-control-allow-origin")
}

#[test]
fn by_default_everybody_may_read_without_credentials() {
    let server = Encke::start(&[]);
    server.publish("x", "1");
    let check = |head: &Head, what: &str| {
        assert_eq!(allow_origin(head), Some("*"), "{what}");
        assert_eq!(head.get("access-control-allow-credentials"), None, "{what}");
        for header in ["ETag", "Encke-Next", "Encke-Gap", "Retry-After", "WWW-Authenticate"] {
            assert!(head.lists("access-control-expose-headers", header), "{what}: {header}: {head:?}");
        }
    };
    for (target, status) in [
        ("/sub/x?after=oldest", 200),
        ("/sub/x?as=interval", 304),
        ("/sub/x?timeout=1", 204),
        ("/sub/x?after=banana", 400),
    ] {
        let answer = server.get(target, &[ORIGIN]);
        assert_eq!(answer.status, status, "{target}");
        check(&answer, target);
    }
    for technique in ["sse", "stream", "raw"] {
        let (head, _) = server.open(&format!("/sub/x?as={technique}"), &[ORIGIN]);
        check(&head, technique);
    }
    let mut poll = server.park("/sub/x", &[ORIGIN], "x", 1);
    assert_eq!(server.ask("DELETE", "/pub/x", &[], b"").status, 204);
    let answer = poll.answer();
    assert_eq!(answer.status, 410);
    check(&answer, "a deleted channel");
}

#[test]
fn a_listed_origin_gets_credentials_and_others_nothing() {
    let server = Encke::start(&["--cors-origins", "https://app.example"]);
    for target in ["/sub/x?as=interval", "/sub/x?as=sse", "/sub/x?after=banana"] {
        let mut client = server.connect();
        client.request("GET", target, &[ORIGIN], b"");
        let head = client.head();
        assert_eq!(allow_origin(&head), Some("https://app.example"), "{target}");
        assert_eq!(head.get("access-control-allow-credentials"), Some("true"), "{target}");
        assert!(head.lists("vary", "Origin"), "a cache must not mix origins: {head:?}");
        for other in [
            "Origin: https://app.example.evil.example",
            "Origin: http://app.example",
            "Origin: https://app.example:8443",
            "Origin: null",
        ] {
            let mut client = server.connect();
            client.request("GET", target, &[other], b"");
            let head = client.head();
            assert_eq!(allow_origin(&head), None, "{target} {other}");
            assert_eq!(head.get("access-control-allow-credentials"), None, "{target} {other}");
        }
    }
}

#[test]
fn a_preflight_is_answered() {
    for (option, allowed, credentials) in
        [("*", "*", None), ("https://app.example", "https://app.example", Some("true"))]
    {
        let server = Encke::start(&["--cors-origins", option]);
        let headers = [
            ORIGIN,
            "Access-Control-Request-Method: GET",
            "Access-Control-Request-Headers: last-event-id, if-none-match",
        ];
        let answer = server.ask("OPTIONS", "/sub/x", &headers, b"");
        assert_eq!(answer.status, 204);
        assert_eq!(allow_origin(&answer), Some(allowed));
        assert_eq!(answer.get("access-control-allow-credentials"), credentials);
        assert!(answer.lists("access-control-allow-methods", "GET"), "{answer:?}");
        for header in ["Last-Event-ID", "If-None-Match"] {
            // `*` means every header, but only where there are no credentials.
            let all = credentials.is_none() && answer.lists("access-control-allow-headers", "*");
            assert!(all || answer.lists("access-control-allow-headers", header), "{answer:?}");
        }
    }
}

#[test]
fn options_says_what_a_path_allows() {
    let server = Encke::start(&[]);
    for (target, methods) in [
        ("/sub/x", &["GET", "HEAD", "OPTIONS"][..]),
        ("/pub/x", &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]),
        ("/healthz", &["GET", "HEAD", "OPTIONS"]),
    ] {
        let answer = server.ask("OPTIONS", target, &[], b"");
        assert!(matches!(answer.status, 200 | 204), "OPTIONS {target}: {}", answer.status);
        for method in methods {
            assert!(answer.lists("allow", method), "OPTIONS {target}: {answer:?}");
        }
    }
    assert_eq!(server.get("/pub/x", &[]).status, 404, "asking made no channel");
}

#[test]
fn pages_whose_requests_are_traced_may_ask() {
    let server = Encke::start(&["--fdajax"]);
    for target in ["/sub/x", "/pub/x", "/bayeux", "/x.fdajax", "/healthz"] {
        let asked = "Access-Control-Request-Headers: traceparent,baggage, sentry-trace, last-event-id, bad name, x\"y";
        let headers = [ORIGIN, "Access-Control-Request-Method: POST", asked];
        let answer = server.ask("OPTIONS", target, &headers, b"");
        assert_eq!(answer.status, 204, "{target}");
        let allowed =
            answer.get("access-control-allow-headers").unwrap_or_else(|| panic!("{target}: {answer:?}"));
        for name in ["traceparent", "baggage", "sentry-trace", "Last-Event-ID", "Content-Type"] {
            assert!(answer.lists("access-control-allow-headers", name), "{target} {name}: {allowed}");
        }
        assert!(!allowed.contains("bad") && !allowed.contains('"'), "only names are echoed: {allowed}");
    }
}

#[test]
fn answers_that_depend_on_the_origin_say_so() {
    for (origins, varies) in [("*", false), ("https://app.example", true), ("*,https://app.example", true)] {
        let server = Encke::start(&["--cors-origins", origins]);
        server.publish("x", "1");
        for target in
            ["/sub/x?after=oldest", "/sub/x?as=sse", "/sub/x?as=interval", "/nowhere", "/healthz", "/bayeux"]
        {
            for headers in [&[][..], &[ORIGIN], &["Origin: https://other.example"]] {
                let mut client = server.connect();
                client.request("GET", target, headers, b"");
                let head = client.head();
                let is_named = allow_origin(&head).is_some_and(|origin| origin != "*");
                assert_eq!(
                    head.lists("vary", "Origin"),
                    // Bayeux names whatever origin asks, so all of its answers may differ.
                    varies || is_named || target == "/bayeux",
                    "{origins} {target} {headers:?}: {head:?}"
                );
            }
        }
    }
}

/// A page of another origin may ask for what the resource knows, and nothing else.
#[test]
fn a_preflight_names_the_methods_of_the_resource() {
    let server = Encke::start(&[]);
    let ask = "Access-Control-Request-Method: PATCH";
    for (target, methods, others) in [
        ("/pub/x", &["GET", "POST", "PUT", "PATCH", "DELETE"][..], &[][..]),
        ("/pub", &["POST"], &["PATCH", "DELETE"]),
        ("/sub/x", &["GET"], &["POST", "PATCH"]),
    ] {
        let answer = server.ask("OPTIONS", target, &[ORIGIN, ask], b"");
        assert_eq!(answer.status, 204, "{target}");
        let is_named = |method: &&&str| answer.lists("access-control-allow-methods", method);
        assert!(methods.iter().all(|method| is_named(&method)), "{target}: {answer:?}");
        assert!(!others.iter().any(|method| is_named(&method)), "{target}: {answer:?}");
    }
}

#[test]
fn all_fields_that_a_preflight_asks_for_are_allowed() {
    let server = Encke::start(&[]);
    let many: Vec<String> = (0..200).map(|number| format!("x-custom-{number}")).collect();
    let many = format!("Access-Control-Request-Headers: {}", many.join(","));
    let headers =
        [ORIGIN, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-first", &many];
    let answer = server.ask("OPTIONS", "/sub/x", &headers, b"");
    for name in ["x-first", "x-custom-0", "x-custom-199"] {
        assert!(answer.lists("access-control-allow-headers", name), "{name}: {answer:?}");
    }
}
