//! Channels as Bayeux names them: `/a/b` is our channel `a/b`, `/a/*` and `/a/**` are patterns.

use crate::hub::{Pattern, channel_name};

/// What a Bayeux channel means here.
#[derive(Debug, PartialEq, Eq)]
pub enum Channel<'a> {
    /// A channel of ours, by its name.
    Name(&'a str),
    /// A pattern of them.
    Pattern(Pattern),
    /// `/meta` and below: the protocol itself.
    Meta,
    /// `/service` and below: between one client and the server.
    Service,
}

impl<'a> Channel<'a> {
    /// Reads a channel; `None` if it is none. What is accepted is what CometD accepts (letters, digits, space
    /// and ``!#$()*+-./@_{}~``), without empty, `.` or `..` segments, and wildcards only at the end.
    pub fn read(text: &'a str) -> Option<Self> {
        let name = text.strip_prefix('/')?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" !#$()*+-./@_{}~".contains(&byte);
        if !name.bytes().all(allowed) {
            return None;
        }
        let (parents, last) = name.rsplit_once('/').unwrap_or(("", name));
        if parents.split('/').any(|segment| matches!(segment, "*" | "**")) {
            return None;
        }
        let read = match last {
            "*" | "**" => Self::Pattern(Pattern::parse(name.as_bytes()).ok()??),
            _ => Self::Name(channel_name(name.as_bytes()).ok()?),
        };
        Some(match name.split('/').next() {
            Some("meta") => Self::Meta,
            Some("service") => Self::Service,
            _ => read,
        })
    }
}

/// Which channels something is allowed on: names and patterns from the settings.
#[derive(Debug, Default)]
pub struct Allow {
    names: Vec<Box<str>>,
    patterns: Vec<Pattern>,
}

impl Allow {
    /// What `listed` allows. Entries that are neither name nor pattern allow nothing; the settings have
    /// refused them.
    pub fn of<'a>(listed: impl IntoIterator<Item = &'a str>) -> Self {
        let mut allow = Self::default();
        for text in listed {
            match Pattern::parse(text.trim_start_matches('/').as_bytes()) {
                Ok(Some(pattern)) => allow.patterns.push(pattern),
                Ok(None) => allow.names.push(text.trim_start_matches('/').into()),
                Err(_) => {}
            }
        }
        allow
    }

    /// Whether it is allowed on channel `name`.
    pub fn name(&self, name: &str) -> bool {
        self.names.iter().any(|known| &**known == name)
            || self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether it is allowed on every channel that `wanted` matches.
    pub fn pattern(&self, wanted: &Pattern) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels() {
        for good in ["/a", "/a/b.c", "/a b/c", "/a/!#$()+-@_{}~", "/...", "/a*/b"] {
            assert_eq!(Channel::read(good), Some(Channel::Name(&good[1..])), "{good}");
        }
        for bad in ["", "/", "foo", "//x", "/a//b", "/a/", "/a/*/b", "/**/b", "/foo<>", "/a/..", "/é", "/a,b"]
        {
            assert_eq!(Channel::read(bad), None, "{bad}");
        }
        for pattern in ["/*", "/**", "/a/*", "/a/**"] {
            assert!(matches!(Channel::read(pattern), Some(Channel::Pattern(_))), "{pattern}");
        }
        assert_eq!(Channel::read("/meta/x"), Some(Channel::Meta));
        assert_eq!(Channel::read("/service/**"), Some(Channel::Service));
        assert_eq!(Channel::read("/servicex/y"), Some(Channel::Name("servicex/y")));
    }

    #[test]
    fn what_is_allowed() {
        let allow = Allow::of(["chat/**", "/news", "a/*"]);
        let check = |channel, allowed| {
            let is = match Channel::read(channel) {
                Some(Channel::Name(name)) => allow.name(name),
                Some(Channel::Pattern(pattern)) => allow.pattern(&pattern),
                _ => false,
            };
            assert_eq!(is, allowed, "{channel}");
        };
        check("/chat/a", true);
        check("/chat/a/b", true);
        check("/chat/*", true);
        check("/chat/a/**", true);
        check("/chat/**", true);
        check("/chat", false);
        check("/news", true);
        check("/news/a", false);
        check("/a/b", true);
        check("/a/*", true);
        check("/a/**", false);
        check("/**", false);
    }
}
