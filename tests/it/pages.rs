//! The pages and scripts that the server carries.

use crate::harness::Encke;

#[test]
fn pages_and_scripts_are_served_and_nothing_else_may_be_loaded() {
    let server = Encke::start(&[]);
    let check = |path: &str, media: &str| {
        let answer = server.get(path, &[]);
        assert_eq!((answer.status, answer.get("x-content-type-options")), (200, Some("nosniff")), "{path}");
        assert_eq!(answer.get("content-type"), Some(&*format!("{media}; charset=utf-8")), "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        let policy = answer.get("content-security-policy").unwrap_or_default();
        assert_eq!(policy.contains("default-src 'self'"), media == "text/html", "{path}: {policy}");
        let refused = server.ask("POST", path, &[], b"");
        assert_eq!((refused.status, refused.get("allow")), (405, Some("GET, HEAD, OPTIONS")), "{path}");
    };
    for page in ["/", "/demo/ticker", "/demo/chat", "/demo/techniques"] {
        check(page, "text/html");
    }
    for script in ["/encke.js", "/encke.global.js", "/encke.more.js", "/demo/demo.js", "/demo/market.js"] {
        check(script, "text/javascript");
    }
    check("/style.css", "text/css");
    check("/encke.d.ts", "text/plain");
    assert_eq!(server.get("/demo/", &[]).status, 404);
}

#[test]
fn pages_of_other_origins_may_import_the_client() {
    let answer = Encke::start(&[]).get("/encke.js", &["Origin: http://elsewhere.example"]);
    assert_eq!(answer.get("access-control-allow-origin"), Some("*"));
}

#[test]
fn scripts_come_compressed_and_only_once() {
    let server = Encke::start(&[]);
    let whole = server.get("/encke.js", &[]);
    assert_eq!((whole.get("content-encoding"), whole.get("vary")), (None, Some("Accept-Encoding")));
    let packed = server.get("/encke.js", &["Accept-Encoding: br, gzip;q=0.8"]);
    assert_eq!((packed.status, packed.get("content-encoding")), (200, Some("gzip")));
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() <= 4608 && whole.body.len() > 8000);
    for refused in ["Accept-Encoding: gzip;q=0", "Accept-Encoding: gzip; q=0.000", "Accept-Encoding: br"] {
        assert_eq!(server.get("/encke.js", &[refused]).body, whole.body, "{refused}");
    }
    let tags = [whole, packed].map(|answer| answer.get("etag").unwrap().to_owned());
    assert_ne!(tags[0], tags[1], "other bytes, another tag");
    for (fields, status) in [
        (vec![format!("If-None-Match: {}", tags[0])], 304),
        (vec![format!("If-None-Match: W/\"x\", W/{}", tags[1]), "Accept-Encoding: gzip".into()], 304),
        (vec![format!("If-None-Match: {}", tags[0]), "Accept-Encoding: gzip".into()], 200),
        (vec!["If-None-Match: \"x\"".into()], 200),
    ] {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let answer = server.get("/encke.js", &fields);
        assert_eq!((answer.status, answer.body.is_empty()), (status, status == 304), "{fields:?}");
        assert!(answer.get("etag").is_some());
    }
}
