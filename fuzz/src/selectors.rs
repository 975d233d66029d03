//! Selectors of topics, whatever they are made of: what they match agrees with what they say they begin with and are spelled
//! like, and what is no template or pattern is text.

use encke::hub::Selector;
use std::rc::Rc;

/// Checks a selector, the first line, against topics, the others.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let Some(written) = lines.next() else { return };
    let topics: Vec<&str> = lines.take(16).chain([written, "", "https://example.com/books/1"]).collect();
    let base: Rc<str> = "https://hub.example/.well-known/mercure".into();
    let all = [
        Some(Selector::templated(written)),
        Some(Selector::exact(written)),
        Selector::url_pattern(written, &base),
    ];
    for selector in all.into_iter().flatten() {
        assert_eq!(selector.as_str(), written);
        for topic in &topics {
            let matches = selector.matches(topic);
            assert_eq!(matches, selector.matches(topic), "twice the same");
            let begins = topic.starts_with(selector.prefix());
            assert!(
                !matches || begins || *topic == written,
                "{written:?} matches {topic:?}, which begins otherwise"
            );
            match &selector {
                Selector::All => assert!(matches && written == "*"),
                Selector::Exact(_) => assert_eq!(matches, *topic == written),
                Selector::Template(_) => {
                    assert!(matches || *topic != written, "{written:?} is spelled like itself")
                }
                Selector::Url(_) => {}
            }
        }
    }
    if !written.contains(['{', '}']) && written != "*" {
        let plain = Selector::templated(written);
        assert!(
            topics.iter().all(|topic| plain.matches(topic) == (*topic == written)),
            "{written:?} is plain text"
        );
    }
}
