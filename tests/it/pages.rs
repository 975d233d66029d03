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
    for script in ["/encke.js", "/encke.global.js", "/demo/demo.js"] {
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
