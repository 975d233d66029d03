//! URI templates (RFC 6570) as selectors: which texts a template may have been expanded to.
//!
//! Names and values are forgotten: an expression is a set of characters, repeated, and separators. What is between the
//! literals at both ends becomes a machine; most texts are told apart by these literals before it runs.

use super::machine::{Class, Machine, Set, Step};
use std::fmt;

/// A compiled template.
pub struct Template {
    text: Box<str>,
    /// How many bytes of the text stand before its first expression.
    prefix: usize,
    /// What stands behind the last one.
    suffix: usize,
    machine: Machine,
}

/// An expression: `{…}`.
#[derive(Debug, PartialEq, Eq)]
struct Expression {
    /// What it begins with if it is there.
    first: Option<u8>,
    separator: u8,
    /// Characters of the first value, and of those behind it.
    classes: (Class, Class),
    /// Values behind the first; none = any number of them.
    more: Option<usize>,
}

/// A part of a template.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Literal(&'a str),
    Expression(Expression),
}

impl Template {
    /// The template that `text` is; `None` if it is none: it has no braces, or wrong ones.
    pub fn compile(text: &str) -> Option<Self> {
        if !text.contains('{') {
            return None;
        }
        let parts = parse(text)?;
        let literal = |part: Option<&Part>| match part {
            Some(Part::Literal(literal)) => literal.len(),
            _ => 0,
        };
        let (prefix, suffix) = (literal(parts.first()), literal(parts.last()));
        let mut steps = Vec::new();
        for part in &parts[usize::from(prefix > 0)..parts.len() - usize::from(suffix > 0)] {
            match part {
                Part::Literal(literal) => steps.extend(literal.bytes().map(Step::Byte)),
                Part::Expression(expression) => write(&mut steps, expression),
            }
        }
        Some(Self { text: text.into(), prefix, suffix, machine: Machine::new(&steps) })
    }

    /// How it is written.
    pub const fn as_str(&self) -> &str {
        &self.text
    }

    /// What every text begins with that it matches.
    pub fn prefix(&self) -> &str {
        &self.text[..self.prefix]
    }

    /// Whether it matches all of `topic`. A topic that is spelled like the template matches, too.
    pub fn matches(&self, topic: &str) -> bool {
        let (text, bytes) = (self.text.as_bytes(), topic.as_bytes());
        let (head, tail) = (&text[..self.prefix], &text[text.len() - self.suffix..]);
        let is_framed =
            bytes.len() >= head.len() + tail.len() && bytes.starts_with(head) && bytes.ends_with(tail);
        *topic == *self.text
            || is_framed && self.machine.matches(&bytes[self.prefix..bytes.len() - self.suffix])
    }

    /// What matching costs, in looks at a channel.
    pub const fn weight(&self) -> usize {
        1 + self.machine.words()
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.machine.bytes()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Appends what an expression takes: it may be absent, else `first value (separator value)…`.
fn write(steps: &mut Vec<Step>, expression: &Expression) {
    let Expression { first, separator, classes: (one, other), more } = *expression;
    let other_set = Set::of(other).with(separator);
    steps.push(Step::Begin);
    steps.extend(first.map(Step::Byte));
    match more {
        // Values of the same class with separators between them are one value of both.
        None if one == other => steps.push(Step::Value(other_set)),
        None => steps.extend([Step::Value(Set::of(one)), Step::Separator(separator), Step::Value(other_set)]),
        Some(_) if one == other && one.has(separator) => steps.push(Step::Value(Set::of(one))),
        Some(count) => {
            steps.push(Step::Value(Set::of(one)));
            let others = [Step::Separator(separator), Step::Value(Set::of(other))];
            (0..count).for_each(|_| steps.extend(others));
        }
    }
    steps.push(Step::End);
}

/// The parts of a template, if it is a valid one.
fn parse(text: &str) -> Option<Vec<Part<'_>>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.find('{').unwrap_or(rest.len());
        let (literal, behind) = rest.split_at(end);
        if !is_literal(literal) {
            return None;
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let Some(inner) = behind.strip_prefix('{') else { break };
        let (inner, behind) = inner.split_once('}')?;
        parts.push(Part::Expression(parse_expression(inner)?));
        rest = behind;
    }
    Some(parts)
}

/// Whether a text may stand between expressions.
fn is_literal(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !" \"<>\\^`|}".contains(c);
    text.chars().all(is_plain) && is_escaped(text)
}

/// Whether each `%` is followed by two digits.
fn is_escaped(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    })
}

fn parse_expression(inner: &str) -> Option<Expression> {
    let operator = inner.bytes().next()?;
    let (first, separator, named, reserved) = match operator {
        b'+' => (None, b',', false, true),
        b'#' => (Some(b'#'), b',', false, true),
        b'.' | b'/' => (Some(operator), operator, false, false),
        b';' => (Some(b';'), b';', true, false),
        b'?' => (Some(b'?'), b'&', true, false),
        b'&' => (Some(b'&'), b'&', true, false),
        _ => (None, b',', false, false),
    };
    let has_operator = first.is_some() || reserved;
    let exploded: Option<Vec<bool>> =
        inner[usize::from(has_operator)..].split(',').map(parse_variable).collect();
    let exploded = exploded?;
    let any_exploded = exploded.contains(&true);
    let class = |with_equals: bool| match with_equals {
        _ if reserved => Class::Reserved,
        true => Class::Named,
        false => Class::Plain,
    };
    Some(Expression {
        first,
        separator,
        classes: (class(named || exploded[0]), class(named || any_exploded)),
        more: (!any_exploded).then_some(exploded.len() - 1),
    })
}

/// Whether a variable is exploded; `None` if it is none.
fn parse_variable(text: &str) -> Option<bool> {
    let (name, exploded) = match (text.strip_suffix('*'), text.split_once(':')) {
        (Some(name), _) => (name, true),
        (None, Some((name, length))) => {
            let is_length = matches!(length.len(), 1..=4)
                && length.bytes().all(|byte| byte.is_ascii_digit())
                && !length.starts_with('0');
            (is_length.then_some(name)?, false)
        }
        (None, None) => (text, false),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'%';
    let sound = name.split('.').all(|part| !part.is_empty() && part.bytes().all(is_name));
    (sound && is_escaped(name)).then_some(exploded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Random;

    /// Goes back and tries again: slow, and plainly right.
    fn naive(parts: &[Part], text: &[u8]) -> bool {
        let Some((part, rest)) = parts.split_first() else { return text.is_empty() };
        match part {
            Part::Literal(literal) => {
                text.strip_prefix(literal.as_bytes()).is_some_and(|behind| naive(rest, behind))
            }
            Part::Expression(expression) => {
                (0..=text.len()).any(|end| may_be(expression, &text[..end]) && naive(rest, &text[end..]))
            }
        }
    }

    fn may_be(expression: &Expression, text: &[u8]) -> bool {
        let Expression { first, separator, classes, more } = expression;
        let text = match first {
            _ if text.is_empty() => return true,
            Some(first) => match text.strip_prefix(&[*first]) {
                Some(behind) => behind,
                None => return false,
            },
            None => text,
        };
        let most = more.unwrap_or(usize::MAX);
        let behind = |text: &[u8]| behind_separators(text, *separator, classes.1, most);
        (0..=text.len()).any(|end| is_value(&text[..end], classes.0) && behind(&text[end..]))
    }

    fn behind_separators(text: &[u8], separator: u8, class: Class, most: usize) -> bool {
        let Some((first, rest)) = text.split_first() else { return true };
        *first == separator
            && most > 0
            && (0..=rest.len()).any(|end| {
                is_value(&rest[..end], class)
                    && behind_separators(&rest[end..], separator, class, most.saturating_sub(1))
            })
    }

    fn is_value(text: &[u8], class: Class) -> bool {
        match text {
            [] => true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                is_value(rest, class)
            }
            [byte, rest @ ..] => class.has(*byte) && is_value(rest, class),
        }
    }

    /// As long as nearly a word of places, so that whatever comes is in the midst of two of them; of no class, as going back takes long.
    const LONG: &str = "éééééééééééééééééééééééééééééé";

    #[test]
    fn agrees_with_its_naive_twin() {
        let mut random = Random::new(11);
        let (pieces, bytes) = (
            [
                "a", "/", "b", "{a}", "{a,b}", "{a*}", "{+a}", "{#a}", "{/a}", "{/a,b}", "{?a,b}", "{&a}",
                "{.a*}", "{;a}", "{a,b*}", "{a:3}", "%C3", "é", LONG,
            ],
            ["a", "b", "/", ",", "=", "?", "&", "#", ".", ";", "%C3", "%", "é", ":", LONG],
        );
        let (mut matched, mut failed) = (0, 0);
        for _ in 0..20_000 {
            let mut draw = |from: &[&'static str], most: u64| -> String {
                (0..random.below(most)).map(|_| from[random.below(from.len() as u64) as usize]).collect()
            };
            let (template, topic) = (draw(&pieces, 6), draw(&bytes, 8));
            let Some(compiled) = Template::compile(&template) else { continue };
            let parts = parse(&template).unwrap();
            let expected = naive(&parts, topic.as_bytes());
            assert_eq!(compiled.matches(&topic), expected, "{template} {topic}");
            assert!(!expected || topic.starts_with(compiled.prefix()), "{template} {topic}");
            *if expected { &mut matched } else { &mut failed } += 1;
        }
        assert!(matched > 500 && failed > 500, "{matched} {failed}");
    }

    #[test]
    fn what_the_protocol_says() {
        let check = |template: &str, topic: &str, matches: bool| {
            let compiled = Template::compile(template).unwrap_or_else(|| panic!("{template} is one"));
            assert_eq!(compiled.matches(topic), matches, "{template} {topic}");
        };
        for (topic, matches) in [
            ("/b/", true),
            ("/b/1", true),
            ("/b/1,2", true),
            ("/b/%C3%A9", true),
            ("/b/é", false),
            ("/b/1/2", false),
            ("/b/a:b", false),
            ("/b/{id}", true),
            ("/b/%C", false),
            ("/b", false),
            ("x/b/1", false),
        ] {
            check("/b/{id}", topic, matches);
        }
        check("/b{/x}", "/b", true);
        check("/b{/x}", "/b/1", true);
        check("/b{/x}", "/b/1/2", false);
        check("/b{/x*}", "/b/1/2", true);
        check("/b{?q,l}", "/b", true);
        check("/b{?q,l}", "/b?q=1&l=2", true);
        check("/b{?q,l}", "/b?q=1&l=2&m=3", false);
        check("{?topic}", "?x=1", true);
        check("{+any}", "https://example.com/a?b=c#d", true);
        check("{+any}", "a b", false);
        check("{#f}", "#x", true);
        check("{#f}", "x", false);
        check("{#f}", "", true);
        check("{a:3}", "abcdef", true);
        check("https://example.com/{a}/{b}", "https://example.com/1/2", true);
    }

    #[test]
    fn what_is_no_template_is_text() {
        for text in [
            "",
            "a",
            "}",
            "{",
            "{a",
            "a}",
            "{a}}",
            "{{a}}",
            "{}",
            "{=a}",
            "{,a}",
            "{!a}",
            "{@a}",
            "{|a}",
            "{a,}",
            "{+}",
            "{a:0}",
            "{a:10000}",
            "{a:}",
            "{a:3*}",
            "{a.}",
            "{.}",
            "{a b}",
            "{a}b c",
            "{a}\"",
            "{a}<",
            "{a}>",
            "{a}\\",
            "{a}^",
            "{a}`",
            "{a}|",
            "{a}%",
            "{a}%2",
            "{a}%zz",
            "{%2}",
            "{é}",
        ] {
            assert!(Template::compile(text).is_none(), "{text}");
        }
        for text in ["{a.b}", "{%C3%A9}", "{a:9999}", "{a_1}", "{a}é", "{a}%2F", "{a}'"] {
            assert!(Template::compile(text).is_some(), "{text}");
        }
    }

    /// What takes a machine that goes back longer than the universe lasts.
    #[test]
    fn many_expressions_take_linear_time() {
        let template = Template::compile(&format!("{}x", "{a}".repeat(25))).unwrap();
        assert!(!template.matches(&"a".repeat(3000)) && template.matches(&format!("{}x", "a".repeat(3000))));
        let long = Template::compile(&"{+a}{?b*}{/c*}".repeat(100)).unwrap();
        assert!(!long.matches(&"a?b=1/c".repeat(290).replace('c', "\u{e9}")));
    }
}
