//! `symfony/mercure`, as Debian has it, publishes to the hub. Where it is not installed, there is nothing to try.

use crate::harness::Encke;
use crate::mercure::{Event, HUB, bearer, event, hub, publisher, subscriber, target};
use std::path::Path;
use std::process::Command;

const LIBRARY: &str = "/usr/share/php/Symfony/Component/Mercure/Hub.php";

/// What the application prints: ids.
fn application(server: &Encke) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/mercure.php");
    let url = server.url(HUB);
    let output = Command::new("php")
        .args([script, &url, &publisher(&["*"]), &subscriber(&["*"])])
        .env("no_proxy", "*")
        .output()
        .expect("php can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{told}"))
}

#[test]
fn an_application_publishes() {
    if !Path::new(LIBRARY).exists() {
        eprintln!("{LIBRARY} is not there: php-symfony-mercure is not installed");
        return;
    }
    let server = hub(&["--mercure-anonymous"]);
    let all = target(&["https://example.com/books/{id}"], "");
    let (_, mut public) = server.open(&all, &[]);
    let (_, mut granted) = server.open(&all, &[&bearer(&subscriber(&["/alt/é"]))]);
    let (_, mut wire) = server.open(&target(&["https://example.com/books/3"], ""), &[]);
    let ids = application(&server);
    let expected = |at: usize, event: &str, data: &str| Event {
        id: ids[at].clone(),
        event: event.into(),
        data: data.into(),
    };
    let first = expected(0, "", "{\"title\":\"L'\\u00c9t\\u00e9\\r\\n& +%\"}");
    let rest = [expected(2, "book", "two\nlines"), expected(3, "", "")];
    let seen: Vec<Event> = (0..3).map(|_| event(&mut public)).collect();
    assert_eq!(seen, [std::slice::from_ref(&first), &rest[..]].concat());
    let private = expected(1, "", "private");
    let seen: Vec<Event> = (0..4).map(|_| event(&mut granted)).collect();
    assert_eq!(seen, [&[first, private], &rest[..]].concat());
    assert_eq!(ids[2], "urn:uuid:mine");
    assert!([0, 1, 3].iter().all(|&at| ids[at].starts_with('#')), "{ids:?}");
    assert!(wire.block().is_some_and(|block| block.contains("retry: 1500\n")));
    assert_eq!(ids[4], "Symfony\\Component\\HttpClient\\Exception\\ClientException");
}
