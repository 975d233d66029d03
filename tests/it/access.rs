//! Who may publish, and what moves to the admin listener.

use crate::harness::Encke;

const FORWARDED: &str = "X-Forwarded-For: 203.0.113.9";

#[test]
fn what_came_through_a_proxy_may_not_publish() {
    let server = Encke::start(&[]);
    server.publish("x", "kept");
    for header in [FORWARDED, "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1"] {
        for (method, target) in
            [("POST", "/pub/x"), ("PUT", "/pub/x"), ("POST", "/pub"), ("DELETE", "/pub/x")]
        {
            let answer = server.ask(method, target, &[header, "Content-Type: application/x-ndjson"], b"");
            assert_eq!(answer.status, 403, "{method} {target} {header}");
            assert!(answer.text().contains("publish"), "names the option that opens it: {}", answer.text());
        }
        let answer = server.get("/sub/x?after=oldest", &[header]);
        assert_eq!(answer.status, 200, "subscribing is open");
    }
    assert_eq!(server.history("x"), ["kept"]);
}

#[test]
fn a_trusted_proxy_is_believed() {
    let server = Encke::start(&["--trusted-proxies", "127.0.0.1"]);
    for (header, status) in [(FORWARDED, 403), ("X-Forwarded-For: 127.0.0.1", 202)] {
        assert_eq!(server.ask("POST", "/pub/x", &[header], b"x").status, status, "{header}");
    }
}

#[test]
fn a_token_allows_publishing_from_anywhere() {
    let file = std::env::temp_dir().join(format!("encke-token-{}", std::process::id()));
    std::fs::write(&file, "sesame\n").unwrap();
    let server = Encke::start(&["--publish-token-file", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    let post = |headers: &[&str]| server.ask("POST", "/pub/x", headers, b"x").status;
    assert_eq!(post(&[FORWARDED, "Authorization: Bearer sesame"]), 202);
    for wrong in ["Bearer sesam", "Bearer sesame2", "Bearer", "Basic sesame", "sesame"] {
        let status = post(&[FORWARDED, &format!("Authorization: {wrong}")]);
        assert!(matches!(status, 401 | 403), "{wrong}: {status}");
    }
    assert!(matches!(post(&[FORWARDED]), 401 | 403));
}

#[test]
fn a_page_of_another_origin_may_not_publish() {
    let server = Encke::start(&[]);
    for (origin, status) in [
        ("http://localhost", 202),
        ("http://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
    ] {
        let header = format!("Origin: {origin}");
        assert_eq!(server.ask("POST", "/pub/x", &[&header], b"x").status, status, "{origin}");
    }
    assert_eq!(server.history("x").len(), 1);
}

#[test]
fn publishing_moves_to_the_admin_listener() {
    let server = Encke::start(&["--admin-listen", "127.0.0.1:0"]);
    server.publish("x", "news");
    for (method, target) in [
        ("POST", "/pub/x"),
        ("PUT", "/pub/x"),
        ("DELETE", "/pub/x"),
        ("GET", "/pub/x"),
        ("GET", "/pub/"),
        ("POST", "/pub"),
        ("GET", "/metrics"),
        ("GET", "/stats"),
    ] {
        assert_eq!(server.ask(method, target, &[], b"").status, 404, "{method} {target}");
    }
    assert_eq!(server.get("/sub/x?after=oldest", &[]).text(), "news");
    assert_eq!(server.get("/healthz", &[]).status, 200);
    for target in ["/metrics", "/stats", "/pub/x", "/pub/"] {
        assert_eq!(server.admin().get(target, &[]).status, 200, "{target}");
    }
    let mut poll = server.park("/sub/x", &[], "x", 1);
    server.publish("x", "across listeners");
    assert_eq!(poll.answer().text(), "across listeners");
    assert_eq!(server.admin().ask("DELETE", "/pub/x", &[], b"").status, 204);
}
