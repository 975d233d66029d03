//! Who may publish, and what moves to the admin listener.

use crate::harness::Encke;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// A folder with a settings file, the key that it names, and rules for the chat.
pub fn settings(name: &str, rules: &str, key: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("encke-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("app.key"), key).unwrap();
    let text = format!(
        "[tokens]\nissuer = \"https://app.example\"\naudience = \"encke\"\n\
         [[tokens.keys]]\nid = \"app\"\nalgorithm = \"HS256\"\nfile = \"app.key\"\n{rules}"
    );
    std::fs::write(folder.join("encke.toml"), text).unwrap();
    folder
}

pub const CHAT: &str = "[[channels]]\nmatch = \"chat/**\"\nsubscribe = \"token\"\npublish = \"token\"\n\
                    [[channels]]\nmatch = \"**\"\n";
pub const KEY: &str = "0123456789abcdef0123456789abcdef\n";

pub fn encke(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
    command.current_dir(folder).args(arguments).env_remove("ENCKE_CONFIG").output().unwrap()
}

#[test]
fn what_encke_token_makes_a_server_with_the_same_settings_takes() {
    let folder = settings("token", CHAT, KEY);
    let file = folder.join("encke.toml");
    let make = [
        "token",
        "--config",
        "encke.toml",
        "--key",
        "app.key",
        "--subject",
        "alice",
        "--subscribe",
        "chat/*",
    ];
    let made = encke(&folder, &[&make[..], &["--publish", "chat/lobby", "--expires", "1h"]].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let checked = encke(&folder, &["token", "--config", "encke.toml", "--check", &token]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("subscribe  chat/*"), "{checked:?}");
    let refused = encke(&folder, &["token", "--config", "encke.toml", "--check", "x"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("refused: "));

    let server = Encke::start_logging("debug", &["--config", file.to_str().unwrap(), "--log-access"]);
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(server.get("/sub/chat/a?as=interval", &[]).status, 401);
    assert_eq!(server.get("/sub/chat/a?as=interval", &[&bearer]).status, 304);
    assert_eq!(server.ask("POST", "/pub/chat/lobby", &[&bearer], b"hello").status, 202);
    assert_eq!(server.ask("POST", "/pub/chat/a", &[&bearer], b"hello").status, 403);
    let answer = server.get(&format!("/sub/chat/lobby?after=oldest&access_token={token}"), &[]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(server.get(&format!("/sub/chat/a?access_token={token}x"), &[]).status, 401);
    server.logged("access_token=[redacted]");
    assert!(!server.log().contains(&token[..40]), "{}", server.log());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn settings_that_close_less_than_they_seem_to_do_not_start() {
    let open_end = "[[channels]]\nmatch = \"chat/**\"\nsubscribe = \"token\"\n";
    for (name, rules, key, expected) in [
        ("open", open_end, KEY, "encke.toml:8: channels: a rule restricts subscribing"),
        ("short", CHAT, "too short\n", "encke.toml:4: tokens.keys: app.key holds a secret of 9 bytes"),
        (
            "typo",
            "[[channels]]\nmach = \"**\"\n",
            KEY,
            "encke.toml:9: channels.mach: unknown setting, did you mean match?",
        ),
    ] {
        let folder = settings(name, rules, key);
        let checked = encke(&folder, &["config", "--check", "encke.toml"]);
        let told = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!checked.status.success() && told.contains(expected), "{told}");
        let started = encke(&folder, &["--config", "encke.toml", "--listen", "127.0.0.1:0"]);
        let told = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(!started.status.success() && told.contains(expected), "{told}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn over_a_restart_what_was_revoked_stays_so_and_who_was_there_is_not() {
    let rules = CHAT.replacen("publish = ", "presence = true\npublish = ", 1);
    let folder = settings("restart", &rules, KEY);
    let (file, store) = (folder.join("encke.toml"), folder.join("store"));
    let options = ["--config", file.to_str().unwrap(), "--store-dir", store.to_str().unwrap()];
    let token = |subject: &str| {
        let make =
            ["token", "--config", "encke.toml", "--key", "app.key", "--subscribe", "chat/*", "--subject"];
        let made = encke(&folder, &[&make[..], &[subject]].concat());
        format!("Authorization: Bearer {}", String::from_utf8(made.stdout).unwrap().trim())
    };
    let (alice, bob) = (token("alice"), token("bob"));
    let watch = "/sub/encke/presence/chat/lobby?as=stream&latest";
    // Where a snapshot ends, before or after somebody is told of, is a matter of moments.
    let told_to = |watcher: &mut crate::client::Client| loop {
        let told = watcher.envelope();
        if !told["next"].is_string() {
            return told;
        }
    };
    let server = Encke::start(&options);
    let _here = server.park("/sub/chat/lobby?timeout=300", &[&alice], "chat/lobby", 1);
    let (_, mut watcher) = server.open(watch, &[&bob]);
    let told = told_to(&mut watcher);
    assert_eq!((&told["key"], &told["data"]["id"]), (&"alice".into(), &"alice".into()));
    let here = server.get("/presence/chat/lobby", &[&bob]).text();
    let expected = "{\"channel\":\"chat/lobby\",\"count\":1,\"anonymous\":0,\
                    \"members\":[{\"id\":\"alice\",\"connections\":1}]}\n";
    assert_eq!(here, expected);
    let revoked = server.ask("POST", "/revoke", &[], b"{\"subject\":\"alice\"}").text();
    assert_eq!(revoked, "{\"ended\":1,\"durable\":true}\n");
    let told = told_to(&mut watcher);
    assert_eq!((&told["key"], &told["removed"]), (&"alice".into(), &true.into()), "{told}");
    let place = told["id"].as_str().unwrap().to_owned();
    let _here = server.park("/sub/chat/lobby?timeout=300", &[&bob], "chat/lobby", 1);
    told_to(&mut watcher);
    drop(server);

    let server = Encke::start(&options);
    assert_eq!(server.get("/sub/chat/lobby?as=interval", &[&alice]).status, 401);
    assert_eq!(server.get("/sub/chat/lobby?as=interval", &[&bob]).status, 304);
    assert!(server.get("/presence/chat/other", &[&bob]).text().contains("\"count\":0"));
    // Who resumes has a table of an earlier life.
    let (_, mut watcher) = server.open(&format!("{watch}&after={place}"), &[&bob]);
    let told = watcher.envelope();
    assert_eq!(told["gap"]["channel"], "encke/presence/chat/lobby", "{told}");
    std::fs::remove_dir_all(folder).unwrap();
}
