//! FDAjax: what reaches which window, and what becomes of the rest.

use crate::fdajax::{Page, Site};
use std::time::{SystemTime, UNIX_EPOCH};

/// A window of user 1 that waits.
fn wait(site: &Site, win_id: u32, types: &str) -> Page {
    let mut page = site.page(1).at(&format!("www{}.example.com", win_id % 10));
    page.send(&format!("cmd=wait&user_id=1&win_id={win_id}&types={types}"));
    site.window(win_id, "open");
    page
}

fn push(site: &Site, types: &str, text: &str) {
    assert_eq!(site.admin(&format!("cmd=push&peer_id=1&types={types}&mes={text}")), "CMD_OK");
}

/// What a window says that wants all that is there, however long ago it came. Without that, a new window begins one second
/// ago, and how much of a test lies in a second is a matter of luck.
fn since_long() -> String {
    format!("sec={}", unix().0 - 60)
}

/// Seconds and microseconds since 1970.
fn unix() -> (u64, u32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (since.as_secs(), since.subsec_micros())
}

#[test]
fn every_group_reaches_its_windows() {
    let site = Site::start(&[]);
    let groups = [
        "main", "gchat", "ques", "answ", "ofrs", "pric", "opin", "users", "ords", "geic", "feed", "mese",
        "netk", "task", "frid", "info",
    ];
    let (mut one, mut two) = (site.page("g"), site.page("h"));
    for group in groups {
        for page in [&mut one, &mut two] {
            page.send(&format!("cmd=wait&win_id=1&types={group}"));
        }
        site.server.listeners(&format!("fdajax/groups/{group}"), 2);
        site.admin(&format!("cmd=push&types={group}&mes={group}()"));
        assert_eq!((one.text(), two.text()), (format!("{group}()"), format!("{group}()")));
    }
}

#[test]
fn groups_are_channels_both_ways() {
    let site = Site::start(&[]);
    let mut page = site.page("g");
    page.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    site.server.publish("fdajax/groups/feed", "from()");
    assert_eq!(page.text(), "from()");
    let mut poll = site.server.park("/sub/fdajax/groups/feed", &[], "fdajax/groups/feed", 2);
    site.admin("cmd=push&types=feed&mes=to()");
    assert_eq!(poll.answer().text(), "to()");
    page.send("cmd=wait&win_id=1&types=feed");
    assert_eq!(page.text(), "to()");
    // A deleted channel is empty; who listens to the group goes on doing so.
    page.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    assert_eq!(site.server.ask("DELETE", "/pub/fdajax/groups/feed", &[], b"").status, 204);
    site.admin("cmd=push&types=feed&mes=after");
    assert_eq!(page.text(), "after");
}

#[test]
fn a_key_that_is_gone_is_no_message_for_windows() {
    let site = Site::start(&[]);
    let mut page = site.page("g");
    page.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    let mut client = site.server.admin();
    client.publish("fdajax/groups/feed", &["Encke-Key: k"], b"value()");
    assert_eq!(page.text(), "value()");
    page.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    assert_eq!(client.ask("DELETE", "/pub/fdajax/groups/feed?key=k", &[], b"").status, 200);
    client.publish("fdajax/groups/feed", &[], b"after()");
    assert_eq!(page.text(), "after()", "the removal is passed over");
}

#[test]
fn users_are_channels_both_ways() {
    let site = Site::start(&[]);
    site.login(1);
    let mut page = wait(&site, 10, "chat,5|mes");
    let mut client = site.server.admin();
    client.publish("fdajax/users/1", &["Encke-Event: chat,5"], b"five()");
    assert_eq!(page.text(), "five()");
    let mut page = wait(&site, 10, "chat,5|mes");
    client.publish("fdajax/users/1", &[], b"plain()");
    assert_eq!(page.text(), "plain()", "without an event it is of type mes");
    let mut poll = site.server.connect();
    poll.request("GET", "/sub/fdajax/users/1", &["Accept: application/json"], b"");
    site.server.listeners("fdajax/users/1", 3);
    push(&site, "chat,6", "six()");
    let batch = poll.answer().json();
    assert_eq!(
        (&batch["messages"][0]["data"], &batch["messages"][0]["event"]),
        (&"six()".into(), &"chat,6".into())
    );
    // Nobody wanted it, so it is an alert; so is one that came by another way.
    client.publish("fdajax/users/1", &["Encke-Event: ord"], b"ord()");
    let told = site.page(1).at("www1.example.com").get("cmd=wait&user_id=1&win_id=11&types=unw");
    assert_eq!(told, "js_alert_id_func(1);\nunw.six()\njs_alert_id_func(2);\nunw.ord()");
}

#[test]
fn types_and_ids() {
    let site = Site::start(&[]);
    site.login(1);
    let mut five = wait(&site, 10, "chat,5%2C6|ord");
    let mut all = wait(&site, 11, "chat");
    push(&site, "chat,7", "seven");
    assert_eq!(all.text(), "seven");
    let mut all = wait(&site, 11, "chat");
    push(&site, "chat,6,9", "six");
    assert_eq!((five.text(), all.text()), ("six".into(), "six".into()));
    let (mut five, mut all) = (wait(&site, 10, "chat,5"), wait(&site, 11, "chat"));
    push(&site, "chat", "any");
    assert_eq!((five.text(), all.text()), ("any".into(), "any".into()));
}

#[test]
fn between_two_polls_nothing_is_lost_and_nothing_comes_twice() {
    let site = Site::start(&[]);
    site.login(1);
    let mut page = wait(&site, 10, "chat|feed");
    push(&site, "chat", "a");
    assert_eq!(page.text(), "a");
    site.admin("cmd=push&types=feed&mes=group");
    push(&site, "chat", "b%0A");
    push(&site, "chat", "c");
    assert_eq!(page.get("cmd=wait&user_id=1&win_id=10&types=chat|feed"), "b\nc\ngroup", "groups come last");
    let mut page = wait(&site, 10, "chat|feed");
    push(&site, "chat", "d");
    assert_eq!(page.text(), "d");
    // Another window has a cursor of its own.
    let mut other = site.page(1).at("www1.example.com");
    let query = format!("cmd=wait&user_id=1&win_id=11&types=chat&{}", since_long());
    assert_eq!(other.get(&query), "a\nb\nc\nd");
}

#[test]
fn without_merging_one_message_at_a_time() {
    let site = Site::start(&["--fdajax-merge-messages=false"]);
    site.login(1);
    let mut page = wait(&site, 10, "chat|feed|unw");
    push(&site, "chat", "a");
    assert_eq!(page.text(), "a");
    site.admin("cmd=push&types=feed&mes=group");
    push(&site, "chat", "b");
    push(&site, "chat", "c");
    site.admin("cmd=alert&peer_id=1&mes=alert");
    for text in ["b", "c", "js_alert_id_func(1);\nalert", "group"] {
        assert_eq!(page.get("cmd=wait&user_id=1&win_id=10&types=chat|feed|unw"), text);
    }
    let mut page = wait(&site, 10, "chat|feed|unw");
    push(&site, "chat", "d");
    assert_eq!(page.text(), "d");
}

#[test]
fn other_types_on_the_next_poll() {
    let site = Site::start(&[]);
    site.login(1);
    let mut page = wait(&site, 10, "chat");
    push(&site, "ord&amode=1", "early");
    push(&site, "chat", "a");
    assert_eq!(page.text(), "a");
    assert_eq!(page.get("cmd=wait&user_id=1&win_id=10&types=ord"), "early", "each type has its own cursor");
    let mut page = wait(&site, 10, "gchat");
    site.admin("cmd=push&types=gchat&mes=g");
    assert_eq!(page.text(), "g");
    let mut page = wait(&site, 10, "feed");
    site.admin("cmd=push&types=gchat&mes=nobody");
    site.admin("cmd=push&types=feed&mes=f");
    assert_eq!(page.text(), "f", "membership follows the types");
}

#[test]
fn messages_expire() {
    let site = Site::start(&["--fdajax-mes-live-max=300"]);
    site.login(1);
    let mut page = wait(&site, 10, "chat|feed");
    push(&site, "chat", "a");
    assert_eq!(page.text(), "a");
    push(&site, "chat", "b");
    let kept = || site.server.json("/pub/fdajax/users/1")["messages"].as_u64();
    crate::harness::until("the messages expire", || (kept() == Some(0)).then_some(()));
    let mut page = wait(&site, 10, "chat|feed");
    push(&site, "chat", "c");
    assert_eq!(page.text(), "c");
}

#[test]
fn replay_by_time() {
    let site = Site::start(&[]);
    site.login(1);
    let mut page = wait(&site, 10, "chat|feed");
    push(&site, "chat", "before");
    assert_eq!(page.text(), "before");
    // Not in the same millisecond as that.
    let (sec, usec) = unix();
    let (from, usec) = (sec + u64::from(usec / 990_000), (usec + 10_000) % 1_000_000);
    crate::harness::until("that time has come", || (unix() > (from, usec + 1000)).then_some(()));
    push(&site, "chat&amode=1", "after");
    site.admin("cmd=push&types=feed&mes=group");
    let query = format!("cmd=wait&user_id=1&win_id=11&types=chat|feed&sec={from}&usec={usec}");
    assert_eq!(site.page(1).at("www1.example.com").get(&query), "after\ngroup");
    // A time to come is now, so that the window is not deaf until then. Of a type of its own: now is the whole
    // millisecond, and "after" may have come in it.
    let mut future = site.page(1).at("www2.example.com");
    future.send("cmd=wait&user_id=1&win_id=12&types=ord&sec=4294967295");
    site.window(12, "open");
    push(&site, "ord", "now");
    assert_eq!(future.text(), "now");
}

#[test]
fn unwanted_messages() {
    let site = Site::start(&[]);
    site.login(1);
    // 0: an alert, and no message any more.
    push(&site, "chat", "zero");
    push(&site, "chat&amode=2", "two");
    let mut page = site.page(1);
    page.send("cmd=wait&user_id=1&win_id=10&types=chat|unw");
    assert_eq!(page.text(), "js_alert_id_func(1);\nunw.zero");
    // 1: to the window that asks for unwanted ones, and to one that wants it.
    let mut unw = wait(&site, 10, "unw");
    push(&site, "ord&amode=1", "one");
    assert_eq!(unw.text(), "unw.one");
    let mut ord = site.page(1).at("www1.example.com");
    assert_eq!(ord.get(&format!("cmd=wait&user_id=1&win_id=11&types=ord&{}", since_long())), "one");
    // Without such a window it is kept.
    assert_eq!(ord.get("cmd=cancel&user_id=1&win_id=11"), "NOT_FOUND");
    push(&site, "ord,7&amode=1", "kept");
    assert_eq!(unw.get("cmd=wait&user_id=1&win_id=10&types=unw"), "unw.kept");
    // An ordinary event of that type, too.
    let mut unw = wait(&site, 10, "unw");
    push(&site, "unw", "plain");
    assert_eq!(unw.text(), "plain");
}

#[test]
fn what_a_window_takes_by_its_own_types_comes_once() {
    for options in [&[][..], &["--fdajax-merge-messages=false"]] {
        let site = Site::start(options);
        site.login(1);
        push(&site, "ord&amode=1", "one");
        push(&site, "chat&amode=1", "two");
        push(&site, "ord,7&amode=1", "three");
        let mut page = site.page(1);
        let mut told = Vec::new();
        while told.len() < 3 {
            let query = format!("cmd=wait&user_id=1&win_id=10&types=ord|unw&{}", since_long());
            told.extend(page.get(&query).lines().map(str::to_owned));
        }
        assert_eq!(told, ["one", "three", "unw.two"], "{options:?}");
        page.send("cmd=wait&user_id=1&win_id=10&types=ord|unw");
        site.window(10, "open");
        push(&site, "ord", "end");
        assert_eq!(page.text(), "end", "nothing is left of them");
    }
}

#[test]
fn a_remembered_window_wants_its_messages_until_it_is_forgotten() {
    let site = Site::start(&["--fdajax-win-timeout=300"]);
    site.login(1);
    let mut page = wait(&site, 10, "chat");
    push(&site, "chat", "a");
    assert_eq!(page.text(), "a");
    site.server.listeners("fdajax/users/1", 1);
    push(&site, "chat", "b");
    let mut unw = site.page(1);
    assert_eq!(unw.get("cmd=wait&user_id=1&win_id=11&types=unw"), "js_alert_id_func(1);\nunw.b");
}

#[test]
fn alerts() {
    let site = Site::start(&["--fdajax-js-alert-id-func=unw.set_alert_id"]);
    let alert = |id: u32, text: &str| site.admin(&format!("cmd=alert&peer_id={id}&mes={text}"));
    assert_eq!(alert(1, "x"), "USER_NOT_LOGGED");
    assert_eq!(site.admin("cmd=push&peer_id=1&types=chat&mes=x"), "USER_NOT_LOGGED");
    site.login(1);
    (1..=11).for_each(|n| assert_eq!(alert(1, &format!("a{n}")), "CMD_OK"));
    let all: Vec<String> = (2..=11).map(|n| format!("unw.set_alert_id({n});\na{n}")).collect();
    let mut page = site.page(1);
    page.send("cmd=wait&user_id=1&win_id=10&types=unw");
    assert_eq!(page.text(), all.join("\n"), "the lowest number went");
    let mut page = wait(&site, 10, "unw");
    alert(1, "new");
    assert_eq!(page.text(), "unw.set_alert_id(12);\nnew", "the old ones are not told again");
    for n in 2..=11 {
        let verdict = if n == 2 { "NOT_FOUND" } else { "CLOSED" };
        assert_eq!(page.get(&format!("cmd=cancel&user_id=1&alert_id={n}")), verdict);
    }
    let mut new = site.page(1).at("www1.example.com");
    assert_eq!(new.get("cmd=wait&user_id=1&win_id=11&types=unw"), "unw.set_alert_id(12);\nnew");
}

#[test]
fn signals_to_a_peer() {
    let site = Site::start(&["--fdajax-js-peer-func=fdajax.peer_call"]);
    [1, 2, 3].into_iter().for_each(|id| site.login(id));
    let mut sender = site.page(2);
    let mut signal = |rest: &str| sender.get(&format!("cmd=chat_sig&user_id=2&{rest}"));
    assert_eq!(signal("peer_id=1&types=chat,5&mes=1"), "NOT_IN_CHAT");
    site.admin("cmd=add_chat&user_id=1&peer_id=2");
    site.admin("cmd=add_chat&user_id=3&peer_id=2");
    site.admin("cmd=logout&user_id=3");
    assert_eq!(signal("peer_id=3&types=chat,5&mes=1"), "USER_NOT_LOGGED");
    for bad in ["types=ord,5&mes=1", "types=chat&mes=1", "types=chat,5,6&mes=1", "types=chat,5&mes=f()"] {
        assert_eq!(signal(&format!("peer_id=1&{bad}")), "WRONG_SYNTAX", "{bad}");
    }
    let mut page = wait(&site, 10, "chat,5");
    assert_eq!(signal("peer_id=1&types=chat,5&mes=%22hi%22+,+-1.5"), "CMD_OK");
    assert_eq!(page.text(), "fdajax.peer_call(2,\"chat\",5,\"hi\" , -1.5);");
    let mut page = wait(&site, 10, "chat,5");
    assert_eq!(signal("peer_id=1&types=chat,5&mes=%22</script>%E2%80%A8%22"), "CMD_OK");
    assert_eq!(page.text(), "fdajax.peer_call(2,\"chat\",5,\"\\u003C/script>\\u2028\");");
    // Nobody wants it: an alert, told at once.
    let mut page = wait(&site, 10, "unw");
    assert_eq!(signal("peer_id=1&types=chat,9&mes=1&amode=0&win_st=0"), "CMD_OK");
    assert_eq!(page.text(), "js_alert_id_func(1);\nunw.fdajax.peer_call(2,\"chat\",9,1);");
    assert_eq!(site.page(2).ask("cmd=chat_sig&user_id=2&types=chat,5&mes=1").status, 403, "to whom?");
    assert_eq!(site.page("guest").ask("cmd=chat_sig&peer_id=1&types=chat,5&mes=1").status, 403);
}

#[test]
fn signals_to_a_group() {
    let site = Site::start(&[]);
    site.login(2);
    let (mut guest, mut user) = (site.page("guest"), site.page(2));
    let waiting = |page: &mut Page, id| {
        page.send(&format!("cmd=wait&user_id={id}&win_id=1&types=gchat"));
    };
    waiting(&mut guest, 0);
    waiting(&mut user, 2);
    site.server.listeners("fdajax/groups/gchat", 2);
    let mut other = site.page("guest");
    assert_eq!(other.get("cmd=chat_sig&types=feed&mes=1"), "WRONG_SYNTAX");
    assert_eq!(other.get("cmd=chat_sig&types=gchat&mes='a'"), "WRONG_SYNTAX");
    assert_eq!(other.get("cmd=chat_sig&types=gchat&mes=%22nick%22%2C%22te(xt%22"), "CMD_OK");
    for page in [&mut guest, &mut user] {
        assert_eq!(page.text(), "js_grp_peer_func(0,\"gchat\",\"nick\",\"te(xt\");");
    }
    waiting(&mut guest, 0);
    site.server.listeners("fdajax/groups/gchat", 2);
    assert_eq!(site.page(2).get("cmd=chat_sig&user_id=2&types=gchat&mes=1"), "CMD_OK");
    assert_eq!(guest.text(), "js_grp_peer_func(2,\"gchat\",1);");
}

#[test]
fn the_order_within_an_answer() {
    let site = Site::start(&[]);
    site.login(1);
    let mut page = wait(&site, 10, "chat|unw|feed|gchat");
    push(&site, "chat", "first");
    assert_eq!(page.text(), "first");
    site.admin("cmd=push&types=feed&mes=feed");
    site.admin("cmd=push&types=gchat&mes=gchat");
    site.admin("cmd=alert&peer_id=1&mes=alert");
    push(&site, "ord&amode=1", "unwanted");
    push(&site, "chat", "user");
    assert_eq!(
        page.get("cmd=wait&user_id=1&win_id=10&types=chat|unw|feed|gchat"),
        "user\nunw.unwanted\njs_alert_id_func(1);\nalert\ngchat\nfeed"
    );
}

#[test]
fn any_byte_is_a_message() {
    let site = Site::start(&[]);
    let mut page = site.page("g");
    page.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    site.admin("cmd=push&types=feed&mes=%ff%01%3c/script%3e\"'`|{}#?+x");
    assert_eq!(page.answer().body, b"\xff\x01</script>\"'`|{}#? x");
}
