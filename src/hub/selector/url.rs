//! URL patterns (WHATWG URL Pattern) as selectors.
//!
//! Patterns and topics that are relative are taken as below the URL of the hub. A group's expression is matched in linear
//! time, and has a bound: what is larger is no pattern. The expressions that a pattern is made of are kept without their
//! captures, as nobody asks what was captured.

use regex_lite::{Regex, RegexBuilder};
use std::fmt;
use std::rc::Rc;
use urlpattern::RegexSyntax;
use urlpattern::{UrlPatternInit, UrlPatternMatchInput, UrlPatternOptions};

/// Bytes of one expression, compiled.
const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// Bytes that a pattern takes beside what depends on its text, about.
const PATTERN_BYTES: usize = 6 << 10;
/// Bytes that it takes for each of its text: compiled expressions.
const BYTES_PER_BYTE: usize = 48;
/// What a comparison costs, in looks at a channel: the topic is taken apart.
const WEIGHT: usize = 8;

/// A compiled pattern.
pub struct UrlPattern {
    text: Box<str>,
    base: Rc<str>,
    /// The same, read.
    base_url: url::Url,
    compiled: urlpattern::UrlPattern<Expression>,
}

impl UrlPattern {
    /// The pattern that `text` is, relative to the URL `base`; `None` if it is none.
    pub fn compile(text: &str, base: &Rc<str>) -> Option<Self> {
        // The library counts them, and below zero it does not know where a host ends.
        if closes_too_much(text) {
            return None;
        }
        let base_url = url::Url::parse(base).ok()?;
        let init =
            UrlPatternInit::parse_constructor_string::<Expression>(text, Some(base_url.clone())).ok()?;
        let options = UrlPatternOptions { ignore_case: false, regex_syntax: RegexSyntax::Rust };
        let compiled = urlpattern::UrlPattern::parse(init, options).ok()?;
        Some(Self { text: text.into(), base: Rc::clone(base), base_url, compiled })
    }

    /// How it is written.
    pub const fn as_str(&self) -> &str {
        &self.text
    }

    /// What it is relative to.
    pub const fn base(&self) -> &Rc<str> {
        &self.base
    }

    /// Whether it matches a topic. What is no URL matches none.
    pub fn matches(&self, topic: &str) -> bool {
        let url = url::Url::options().base_url(Some(&self.base_url)).parse(topic);
        url.is_ok_and(|url| self.compiled.test(UrlPatternMatchInput::Url(url)).unwrap_or(false))
    }

    /// What matching costs, in looks at a channel.
    pub const fn weight(&self) -> usize {
        WEIGHT + self.text.len() / 64
    }

    /// Bytes that it takes, about.
    pub const fn bytes(&self) -> usize {
        PATTERN_BYTES + self.text.len() * BYTES_PER_BYTE
    }
}

impl fmt::Debug for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// An expression that a part of a URL has to match.
#[derive(Debug)]
struct Expression {
    text: String,
    regex: Regex,
}

impl urlpattern::regexp::RegExp for Expression {
    fn syntax() -> RegexSyntax {
        RegexSyntax::Rust
    }

    fn parse(pattern: &str, _flags: &str, _force_eval: bool) -> Result<Self, ()> {
        let text = without_captures(pattern);
        let regex = RegexBuilder::new(&text).size_limit(EXPRESSION_BYTES_MAX).build().map_err(|_| ())?;
        Ok(Self { text, regex })
    }

    fn matches<'a>(&self, text: &'a str) -> Option<Vec<Option<&'a str>>> {
        self.regex.is_match(text).then(Vec::new)
    }

    fn pattern_string(&self) -> &str {
        &self.text
    }
}

/// The same expression with groups that capture nothing: what is captured would take room at every place of it.
fn without_captures(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len() + 16);
    let (mut is_escaped, mut in_class) = (false, false);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        text.push(c);
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class && chars.peek() != Some(&'?') => text.push_str("?:"),
            _ => {}
        }
    }
    text
}

/// Whether a bracket closes that none has opened.
fn closes_too_much(text: &str) -> bool {
    let mut open = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' => open += 1,
            b']' if open == 0 => return true,
            b']' => open -= 1,
            _ => {}
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Option<UrlPattern> {
        UrlPattern::compile(text, &"https://example.com/.well-known/mercure".into())
    }

    #[test]
    fn a_bracket_that_closes_nothing_is_no_pattern() {
        assert!(pattern("https://e]xample.com/books/1").is_none());
        assert!(pattern("/books/([a-z]+)").is_some());
    }

    /// What Chromium says.
    #[test]
    fn what_the_standard_says() {
        for (text, topic, matches) in [
            ("/books/:id", "/books/1", true),
            ("/books/:id", "https://example.com/books/1", true),
            ("/books/:id", "https://EXAMPLE.com/books/1", true),
            ("/books/:id", "https://other.example/books/1", false),
            ("/books/:id", "/books/1?x=1", true),
            ("/books/:id", "/books/", false),
            ("/books/:id", "/books/1/2", false),
            ("/books/:id", "/Books/1", false),
            ("/books/*", "/books/", true),
            ("/books/*", "/books/1/2", true),
            ("/books{/:x}?", "/books", true),
            ("/books{/:x}?", "/books/1", true),
            ("/books{/:x}?", "/books/1/2", false),
            ("/books/:x+", "/books/1/2", true),
            ("/books/:x+", "/books", false),
            ("/books/:x(a|b)", "/books/a", true),
            ("/books/:x(a|b)", "/books/c", false),
            ("/a/:x(\\d+)/:y", "/a/12/z", true),
            ("/a/:x(\\d+)/:y", "/a/z/12", false),
            ("/b?q=:q", "/b?q=1", true),
            ("/b?q=:q", "/b", false),
            ("https://*.example.com/*", "https://a.example.com/x", true),
            ("https://*.example.com/*", "https://example.com/x", false),
            ("*", "anything", true),
            ("/*", "http://[bad", false),
        ] {
            let compiled = pattern(text).unwrap_or_else(|| panic!("{text} is one"));
            assert_eq!(compiled.matches(topic), matches, "{text} {topic}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in
            ["/a/:x(", "/a/(?<x>y)(", "/a/{b", "/a/:x([)", "/a/:x(a{1000}{1000})", "/:a/:a", "https://[x/"]
        {
            assert!(pattern(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_takes_long_elsewhere_takes_linear_time() {
        let compiled = pattern("/:x((?:a*)*b)").unwrap();
        assert!(!compiled.matches(&format!("/{}", "a".repeat(2000))));
        let many = pattern(&format!("/{}x", "*a".repeat(60))).unwrap();
        assert!(!many.matches(&format!("/{}", "a".repeat(2000))));
    }

    #[test]
    fn groups_capture_nothing() {
        assert_eq!(without_captures(r"^/([^/]+?)(?:\()[(](a|b)$"), r"^/(?:[^/]+?)(?:\()[(](?:a|b)$");
    }
}
