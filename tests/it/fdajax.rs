//! FDAjax: the query, who may ask what, and the words that are answered.

use crate::client::{Answer, Client};
use crate::harness::{Encke, until};

/// A server with FDAjax, set up as the original's demo pages wanted it, but what is kept is kept for longer than any test
/// waits: where that matters, a test says for how long.
pub struct Site {
    pub server: Encke,
}

/// A browser's window: a session, a host name and a connection.
pub struct Page {
    client: Client,
    pub session: String,
    pub host: String,
}

impl Site {
    pub fn start(more: &[&str]) -> Self {
        let demo = [
            "--fdajax",
            "--fdajax-session-cookie=SID",
            "--fdajax-mes-live-max=60000",
            "--fdajax-win-timeout=60000",
            "--fdajax-allow-peer-call=chat,gchat",
        ];
        let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
        let is_replaced = |option: &&str| more.iter().any(|other| name(other) == name(option));
        let options: Vec<&str> =
            demo.into_iter().filter(|option| !is_replaced(option)).chain(more.iter().copied()).collect();
        Self { server: Encke::start(&options) }
    }

    /// What the application is answered.
    pub fn ask(&self, query: &str) -> Answer {
        self.server.get(&format!("/live.fdajax?{query}"), &[])
    }

    /// The word that an admin command is answered.
    pub fn admin(&self, query: &str) -> String {
        let answer = self.ask(query);
        assert_eq!((answer.status, answer.media_type()), (200, "text/plain"), "{query}: {}", answer.text());
        answer.text()
    }

    pub fn login(&self, id: u32) {
        let word = self.admin(&format!("cmd=login&user_id={id}&ip_addr=127.0.0.1&sess_id=s{id}"));
        assert_eq!(word, "LOGIN_OK");
    }

    /// A window of the session `s<id>`, which is that of user `id`.
    pub fn page(&self, id: impl std::fmt::Display) -> Page {
        Page { client: self.server.connect(), session: format!("s{id}"), host: "www.example.com".into() }
    }

    /// Waits until the info page shows that a user's window is in that state.
    pub fn window(&self, id: u32, state: &str) {
        let mut info = String::new();
        until(&format!("window {id} is {state}"), || {
            info = self.ask("cmd=info").text();
            let mode = |mode| info.contains(&format!("<td>{id}</td><td>{mode}</td><td>{state}</td>"));
            (mode("chunked") || mode("stream")).then_some(())
        });
    }
}

impl Page {
    pub fn at(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub fn send(&mut self, query: &str) {
        self.send_often(query, 1);
    }

    /// Sends the same so many times in one go.
    fn send_often(&mut self, query: &str, count: usize) {
        let (session, host) = (&self.session, &self.host);
        let request = format!(
            "GET /live.fdajax?{query} HTTP/1.1\r\nHost: {host}\r\nCookie: a=b; SID={session}\r\n\r\n"
        );
        self.client.send(request.repeat(count));
    }

    pub fn answer(&mut self) -> Answer {
        self.client.answer()
    }

    pub fn ask(&mut self, query: &str) -> Answer {
        self.send(query);
        self.answer()
    }

    /// The text of an answer to a page that evaluates it.
    pub fn text(&mut self) -> String {
        let answer = self.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.media_type(), "text/plain");
        assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
        answer.text()
    }

    pub fn get(&mut self, query: &str) -> String {
        self.send(query);
        self.text()
    }

    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

#[test]
fn it_is_off_unless_it_is_asked_for() {
    let server = Encke::start(&[]);
    assert_eq!(server.get("/live.fdajax?cmd=info", &[]).status, 404);
}

#[test]
fn any_path_with_the_ending_will_do() {
    let site = Site::start(&[]);
    let status = |path: &str| site.server.get(path, &[]).status;
    assert_eq!(status("/a/b.c.fdajax?cmd=info"), 200);
    assert_eq!(status("/live%2efd%61jax?cmd=info"), 200);
    assert_eq!(status("/live.FDAJAX?cmd=info"), 404);
    assert_eq!(status("/fdajax?cmd=info"), 404);
    assert_eq!(status("/live.fdajax/?cmd=info"), 404);
    site.server.publish("a.fdajax", "a channel is a channel");
    let other = Site::start(&["--fdajax-ext=comet"]);
    assert_eq!(other.server.get("/live.comet?cmd=info", &[]).status, 200);
}

#[test]
fn what_is_no_query_is_an_error_and_nothing_worse() {
    let site = Site::start(&[]);
    for target in ["/live.fdajax", "/live.fdajax?", "/live.fdajax?cmd=push&", "/live.fdajax?cmd=info&x=1"] {
        assert_eq!(site.server.get(target, &[]).status, 400, "{target}");
    }
    for query in [
        "user_id=1",
        "cmd=login&user_id=4294967297&ip_addr=1.2.3.4&sess_id=a",
        "cmd=login&user_id=1&ip_addr=255.255.255.255&sess_id=a",
        "cmd=push&types=gchat&mes=%zz",
        "cmd=push&types=gchat&mes=%00",
        "cmd=push&types=gchat",
        "cmd=push&mes=1",
        "cmd=push&types=gchat|feed&mes=1",
        "cmd=push&types=chat&mes=1",
        "cmd=alert&peer_id=1",
        "cmd=alert&mes=1",
        "cmd=login&user_id=1&sess_id=a",
        "cmd=login&user_id=1&ip_addr=1.2.3.4",
        "cmd=login&ip_addr=1.2.3.4&sess_id=a",
        "cmd=logout",
        "cmd=check",
        "cmd=add_chat&user_id=1",
        "cmd=rm_chat&peer_id=1",
    ] {
        let answer = site.ask(query);
        assert_eq!(answer.status, 400, "{query}");
        assert!(!answer.media_type().contains("script") && !answer.media_type().is_empty());
    }
    assert_eq!(site.admin("cmd=push&types=gchat&mes=1&_="), "CMD_OK", "the server is well");
}

#[test]
fn methods() {
    let site = Site::start(&[]);
    let ask = |method, body: &[u8], headers: &[&str], target| site.server.ask(method, target, headers, body);
    assert_eq!(ask("POST", b"ignored", &[], "/live.fdajax?cmd=push&types=gchat&mes=1").text(), "CMD_OK");
    let form = ["Content-Type: application/x-www-form-urlencoded; charset=UTF-8"];
    assert_eq!(ask("POST", b"cmd=push&types=gchat&mes=1", &form, "/live.fdajax").text(), "CMD_OK");
    let options = ask("OPTIONS", b"", &[], "/live.fdajax");
    assert_eq!((options.status, options.get("allow")), (204, Some("GET, HEAD, POST, OPTIONS")));
    assert_eq!(ask("PUT", b"", &[], "/live.fdajax?cmd=info").status, 405);

    let mut client = site.server.connect();
    client.request("HEAD", "/live.fdajax?cmd=login&user_id=5&ip_addr=127.0.0.1&sess_id=x", &[], b"");
    let head = client.head();
    assert_eq!((head.status, head.get("content-length")), (200, Some("8")));
    assert_eq!(site.admin("cmd=logout&user_id=5"), "LOGOUT_OK", "the HEAD was carried out");
}

#[test]
fn logins() {
    let site = Site::start(&[]);
    let login = |id: u32, session: &str| {
        site.admin(&format!("cmd=login&user_id={id}&ip_addr=127.0.0.1&sess_id={session}"))
    };
    assert_eq!(login(1, "a"), "LOGIN_OK");
    assert_eq!(login(1, "a"), "ALREADY_LOGGED");
    assert_eq!(login(1, "b"), "ALREADY_LOGGED");
    assert_eq!(login(2, "b"), "LOGIN_BAD_ID");
    assert_eq!(login(2, "a"), "LOGIN_OK", "the old session is nobody's");
    assert_eq!(login(1, "a"), "LOGIN_BAD_ID", "no session gets two owners");
    assert_eq!(site.admin("cmd=check&user_id=1"), "LOGOUT_OK", "no window");
    assert_eq!(site.admin("cmd=check&user_id=1"), "USER_NOT_FOUND");
    let users = || site.server.get("/stats", &[]).json()["fdajax_users"].as_u64().unwrap();
    let before = users();
    assert_eq!(site.admin("cmd=logout&user_id=2"), "LOGOUT_OK");
    assert_eq!(users(), before - 1);
    assert_eq!(site.admin("cmd=logout&user_id=2"), "USER_NOT_FOUND");
    assert_eq!(login(3, "with-dash%2Band_%2C"), "LOGIN_OK");
    let mut page = site.page("");
    page.session = "with-dash%2Band_,".into();
    assert_eq!(page.get("cmd=cancel&user_id=3&win_id=1"), "NOT_FOUND");
}

#[test]
fn who_is_not_known_is_told_so_in_javascript() {
    let site = Site::start(&["--fdajax-allow-guests=false"]);
    site.login(1);
    let (mut user, mut guest) = (site.page(1), site.page(9));
    for command in ["wait", "stream", "cancel", "chat_sig"] {
        let none = site.ask(&format!("cmd={command}&user_id=1"));
        assert_eq!((none.status, none.text().as_str()), (200, "js_nocookies_code();"));
        assert!(none.lists("cache-control", "no-store") && none.get("pragma") == Some("no-cache"));
        assert_eq!(guest.get(&format!("cmd={command}&user_id=1")), "js_notfound_code();");
        assert_eq!(guest.get(&format!("cmd={command}")), "js_no_guests();");
        assert_eq!(user.ask(&format!("cmd={command}&user_id=2")).status, 403);
        assert_eq!(user.ask(&format!("cmd={command}")).status, 403);
        assert_eq!(user.ask(&format!("cmd={command}&user_id=1")).status, 400, "now the parameters count");
    }
    let tagged = guest.ask("cmd=wait&win_st=2");
    assert_eq!(tagged.text(), "<script type=\"text/javascript\">\njs_no_guests();</script>\n");
    assert_eq!(tagged.get("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(site.admin("cmd=login&user_id=4&ip_addr=10.0.0.1&sess_id=s4"), "LOGIN_OK");
    assert_eq!(site.page(4).get("cmd=cancel&user_id=4&win_id=1"), "js_relogin_func('ipaddr');");
    let mut other = site.page(1);
    other.session = "s1; XSID=s4".into();
    assert_eq!(other.get("cmd=cancel&user_id=1&win_id=1"), "NOT_FOUND", "names match whole");
}

#[test]
fn admin_commands_from_elsewhere() {
    let push = "/live.fdajax?cmd=push&types=gchat&mes=1";
    let site = Site::start(&[]);
    let status = |headers: &[&str]| site.server.get(push, headers).status;
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&["X-Forwarded-For: 127.0.0.1"]), 403, "a proxy that is not trusted");
    assert_eq!(status(&["Forwarded: for=127.0.0.1"]), 403);
    assert_eq!(status(&["Origin: http://localhost"]), 403, "a page");
    assert_eq!(status(&["Sec-Fetch-Site: same-origin"]), 403);
    assert_eq!(status(&["Sec-Fetch-Site: none"]), 200, "somebody typed the address");

    let site = Site::start(&["--trusted-proxies=127.0.0.1", "--fdajax-admin-ips=10.0.0.1,10.0.0.2"]);
    let status = |headers: &[&str]| site.server.get(push, headers).status;
    assert_eq!(status(&[]), 403);
    assert_eq!(status(&["X-Forwarded-For: 10.0.0.2"]), 200);
    assert_eq!(status(&["X-Forwarded-For: 10.0.0.2, 192.0.2.1"]), 403);
    site.server.logged("is refused");

    let site = Site::start(&["--admin-listen", "127.0.0.1:0"]);
    assert_eq!(site.server.get(push, &[]).status, 403, "admins have a listener of their own");
    assert_eq!(site.server.admin().get(push, &[]).text(), "CMD_OK");
}

#[test]
fn the_admin_password() {
    let file = std::env::temp_dir().join(format!("encke-fdajax-{}.toml", std::process::id()));
    std::fs::write(&file, "[fdajax]\nadmin_password = \"hunter2\"\n").unwrap();
    let server = Encke::start(&["--config", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    let push = "/live.fdajax?cmd=push&types=gchat&mes=1";
    let status = |target: &str, headers: &[&str]| server.get(target, headers).status;
    assert_eq!(status(push, &[]), 403);
    assert_eq!(status(&format!("{push}&admin_passwd=hunter"), &[]), 403);
    assert_eq!(status(&format!("{push}&admin_passwd=hunter2"), &[]), 200);
    assert_eq!(status(push, &["Authorization: Bearer hunter2"]), 200);
    assert_eq!(status(push, &["Authorization: Bearer hunter2", "Sec-Fetch-Site: same-origin"]), 200);
    assert_eq!(status(&format!("{push}&admin_passwd=hunter2"), &["Authorization: Bearer wrong"]), 403);
    assert!(!server.get("/live.fdajax?cmd=info&admin_passwd=hunter2", &[]).text().contains("hunter2"));
    let without = Site::start(&[]);
    assert_eq!(without.admin("cmd=push&types=gchat&mes=1&admin_passwd=any"), "CMD_OK");
}

#[test]
fn with_a_publish_token_the_application_shows_it() {
    let start = |settings: &str| {
        let name = format!("encke-fdajax-token-{}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, settings).unwrap();
        let server = Encke::start(&["--fdajax", "--config", file.to_str().unwrap()]);
        std::fs::remove_file(&file).unwrap();
        server
    };
    let server = start("[publish]\ntoken = [\"sesame\", \"another\"]\n");
    let commands = [
        ("cmd=login&user_id=1&ip_addr=127.0.0.1&sess_id=s1", "LOGIN_OK"),
        ("cmd=push&types=gchat&mes=1", "CMD_OK"),
        ("cmd=push&peer_id=1&types=chat&mes=1", "CMD_OK"),
        ("cmd=alert&peer_id=1&mes=1", "CMD_OK"),
        ("cmd=add_chat&user_id=1&peer_id=9", "USER_NOT_FOUND"),
        ("cmd=rm_chat&user_id=1&peer_id=9", "CUSER_NOT_FOUND"),
        ("cmd=check&user_id=1", "LOGOUT_OK"),
        ("cmd=logout&user_id=1", "USER_NOT_FOUND"),
    ];
    for (command, word) in commands {
        let ask = |more: &str, fields: &[&str]| server.get(&format!("/live.fdajax?{command}{more}"), fields);
        for fields in [&[][..], &["Authorization: Bearer sesam"], &["Authorization: Basic sesame"]] {
            let refused = ask("", fields);
            assert_eq!(
                (refused.status, refused.get("www-authenticate")),
                (401, Some("Bearer")),
                "{command} {fields:?}"
            );
        }
        assert_eq!(ask("&admin_passwd=sesame", &[]).status, 401, "a token does not belong into a query");
        let forwarded = ["Authorization: Bearer sesame", "X-Forwarded-For: 192.0.2.1"];
        assert_eq!(ask("", &forwarded).status, 403, "the address counts as before");
        assert_eq!(ask("", &["Authorization: Bearer sesame"]).text(), word, "{command}");
    }
    assert_eq!(server.get("/live.fdajax?cmd=info", &[]).status, 401);
    let another = ["Authorization: Bearer another", "Sec-Fetch-Site: same-origin"];
    assert_eq!(server.get("/live.fdajax?cmd=push&types=gchat&mes=1", &another).status, 200);

    let server = start("[publish]\ntoken = \"sesame\"\n[fdajax]\nadmin_password = \"hunter2\"\n");
    let push = "/live.fdajax?cmd=push&types=gchat&mes=1";
    assert_eq!(server.get(push, &[]).status, 403);
    assert_eq!(
        server.get(push, &["Authorization: Bearer sesame"]).status,
        403,
        "its password is what counts"
    );
    assert_eq!(server.get(&format!("{push}&admin_passwd=hunter2"), &[]).text(), "CMD_OK");
}

#[test]
fn pages_of_other_sites() {
    let site = Site::start(&["--cors-origins=http://friend.example"]);
    let status = |fields: &str| {
        let mut client = site.server.connect();
        client.send(format!(
            "GET /live.fdajax?cmd=cancel&win_id=1 HTTP/1.1\r\nHost: www1.example.com\r\nCookie: SID=x\r\n{fields}\r\n"
        ));
        client.answer().status
    };
    assert_eq!(status(""), 200);
    assert_eq!(status("Sec-Fetch-Site: cross-site\r\n"), 403);
    assert_eq!(status("Origin: http://evil.example\r\n"), 403);
    assert_eq!(status("Origin: http://www.example.com\r\nSec-Fetch-Site: same-site\r\n"), 200);
    assert_eq!(status("Origin: http://friend.example\r\nSec-Fetch-Site: cross-site\r\n"), 200);
}

#[test]
fn what_is_for_one_user_is_nobody_elses_to_read() {
    let site = Site::start(&[]);
    let foreign = ["X-Forwarded-For: 192.0.2.1"];
    for channels in ["fdajax/users/7", "fdajax/users/*", "**", "x,fdajax/**"] {
        let target = format!("/sub/{channels}?as=interval");
        assert_eq!(site.server.get(&target, &foreign).status, 403, "{channels}");
        assert_eq!(site.server.get(&target, &[]).status, 304, "{channels}: the application may");
    }
    assert_eq!(site.server.get("/sub/fdajax/groups/feed?as=interval", &foreign).status, 304);
    let off = Encke::start(&[]);
    assert_eq!(off.get("/sub/fdajax/users/7?as=interval", &foreign).status, 304, "a channel like any other");
}

#[test]
fn chat_peers() {
    let site = Site::start(&[]);
    let chat = |command: &str, user: u32, peer: u32| {
        site.admin(&format!("cmd={command}&user_id={user}&peer_id={peer}"))
    };
    (1..=23).for_each(|id| site.login(id));
    assert_eq!(chat("add_chat", 1, 99), "USER_NOT_FOUND");
    assert_eq!(chat("add_chat", 99, 1), "USER_NOT_FOUND");
    assert_eq!(chat("rm_chat", 98, 99), "USER_NOT_FOUND");
    assert_eq!(chat("rm_chat", 1, 2), "CUSER_NOT_FOUND");
    for peer in 2..=21 {
        assert_eq!(chat("add_chat", 1, peer), "CHAT_PEER_ADD");
        assert_eq!(chat("add_chat", peer, 1), "CHAT_PEER_ADD", "again, from the other side");
    }
    assert_eq!(chat("add_chat", 1, 22), "CUSER_TOO_MANY");
    assert_eq!(chat("add_chat", 22, 1), "CUSER_TOO_MANY");
    assert_eq!(chat("rm_chat", 22, 1), "CUSER_NOT_FOUND", "nothing stayed");
    assert_eq!(chat("rm_chat", 2, 1), "CHAT_PEER_RM_2");
    assert_eq!(chat("rm_chat", 1, 2), "CUSER_NOT_FOUND");
    site.admin("cmd=logout&user_id=3");
    assert_eq!(chat("rm_chat", 1, 3), "CHAT_PEER_RM_1");
    site.admin("cmd=logout&user_id=4");
    assert_eq!(chat("rm_chat", 4, 1), "CHAT_PEER_RM_1");
}

#[test]
fn the_info_page() {
    let site = Site::start(&["--fdajax-unw-prefix=<b>&"]);
    site.login(7);
    let mut page = site.page(7);
    page.send("cmd=wait&user_id=7&win_id=31&types=chat,5|gchat");
    site.window(31, "open");
    let info = site.ask("cmd=info");
    assert_eq!((info.status, info.media_type()), (200, "text/html"));
    let text = info.text();
    assert!(text.contains("user 7") && text.contains("chat,5|gchat") && text.contains("127.0.0.1"), "{text}");
    assert!(text.contains("&lt;b&gt;&amp;") && !text.contains("<script"), "{text}");
}

#[test]
fn long_queries() {
    let site = Site::start(&["--fdajax-session-cookie=SID"]);
    let mut page = site.page("guest");
    page.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    let message = "x".repeat(70_000);
    assert_eq!(site.admin(&format!("cmd=push&types=feed&mes={message}")), "CMD_OK");
    assert_eq!(page.text(), message);
    assert_eq!(site.ask(&format!("cmd=push&types=feed&mes={}", "x".repeat(100_000))).status, 431);
    let small = Site::start(&["--limits-message-bytes=10"]);
    assert_eq!(small.ask("cmd=push&types=feed&mes=12345678901").status, 413);
}

#[test]
fn guests_are_limited() {
    let site = Site::start(&["--limits-fdajax-guests=10"]);
    for n in 0..200 {
        assert_eq!(site.page(n).get("cmd=cancel&win_id=1"), "NOT_FOUND");
    }
    assert!(site.ask("cmd=info").text().contains("10 guests"));
    let mut waiting: Vec<_> = (0..10).map(|n| site.page(format!("w{n}"))).collect();
    for (n, page) in (1..).zip(&mut waiting) {
        page.send("cmd=wait&win_id=1&types=feed");
        site.server.listeners("fdajax/groups/feed", n);
    }
    let refused = site.page("more").ask("cmd=wait&win_id=1&types=feed");
    assert_eq!(refused.status, 503);
    assert!(refused.get("retry-after").is_some());
}

#[test]
fn signals_are_limited() {
    let site = Site::start(&["--limits-fdajax-peer-calls=3"]);
    let mut page = site.page("guest");
    // All at once, so that they are of one second, or two.
    page.send_often("cmd=chat_sig&types=gchat&mes=1", 20);
    let statuses: Vec<u16> = (0..20).map(|_| page.answer().status).collect();
    assert_eq!(statuses[..3], [200; 3]);
    assert!(statuses.contains(&429), "{statuses:?}");
}
