//! Settings of a shared history: where it is, and what it is called.

use super::kind::Word;

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The servers.
    pub servers: Servers,
    /// By TLS.
    pub tls: bool,
    /// The number of the database.
    pub database: i64,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// The engine itself: host and port.
    One(String, u16),
    /// Sentinels, which know where the primary of a service is.
    Sentinels {
        /// Host and port of each.
        sentinels: Vec<(String, u16)>,
        /// What they call it.
        service: String,
    },
}

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

impl Place {
    /// Reads a URL. Passwords do not belong there.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (tls, by_sentinels) = match scheme {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return None,
        };
        let mut parts = rest.trim_end_matches('/').split('/');
        let hosts = parts.next()?;
        let servers = match by_sentinels {
            false => {
                let (host, port) = host(hosts, PORT)?;
                Servers::One(host, port)
            }
            true => {
                let sentinels =
                    hosts.split(',').map(|one| host(one, SENTINEL_PORT)).collect::<Option<_>>()?;
                let service = parts.next().filter(|name| !name.is_empty())?.to_owned();
                Servers::Sentinels { sentinels, service }
            }
        };
        let database = parts.next().map_or(Some(0), |number| number.parse().ok())?;
        (parts.next().is_none() && (0..1 << 20).contains(&database)).then_some(Self {
            servers,
            tls,
            database,
        })
    }
}

/// A host and its port: `name:port`, `[address]:port`.
fn host(text: &str, default: u16) -> Option<(String, u16)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_sound) {
        return None;
    }
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port > 0))?;
    Some((name.to_owned(), port))
}

/// The URL of an engine.
pub struct EngineUrl;

impl Word for EngineUrl {
    type Value = String;
    const ALLOWED: &'static str = "a URL such as redis://host:6379, rediss://host:6379/1 or \
                                   redis+sentinel://host:26379,host:26379/service, without user and password \
                                   (engine.user, engine.password_file)";
    const PLACEHOLDER: &'static str = "URL";
    const SINGLE: bool = true;

    fn parse(text: &str) -> Option<String> {
        Place::parse(text).map(|_| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The name of a history: part of keys, where braces mean something.
pub struct EngineName;

impl Word for EngineName {
    type Value = String;
    const ALLOWED: &'static str = "a name of 1 to 64 letters, digits, `-`, `_`, `.` and `:`";
    const PLACEHOLDER: &'static str = "NAME";

    fn parse(text: &str) -> Option<String> {
        let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(is_sound)).then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_an_engine_is() {
        let one = |host: &str, port| Servers::One(host.into(), port);
        for (url, servers, tls, database) in [
            ("redis://127.0.0.1:6380", one("127.0.0.1", 6380), false, 0),
            ("redis://cache/", one("cache", 6379), false, 0),
            ("rediss://cache.example/3", one("cache.example", 6379), true, 3),
            ("valkey://[::1]:7000/0", one("::1", 7000), false, 0),
            (
                "redis+sentinel://a,b:7/main/2",
                Servers::Sentinels {
                    sentinels: vec![("a".into(), 26379), ("b".into(), 7)],
                    service: "main".into(),
                },
                false,
                2,
            ),
        ] {
            assert_eq!(Place::parse(url), Some(Place { servers, tls, database }), "{url}");
        }
        for url in [
            "redis://",
            "cache:6379",
            "http://cache",
            "redis://user:secret@cache",
            "redis://cache:0",
            "redis://cache:port",
            "redis://cache/x",
            "redis://cache/0/1",
            "redis://cache/-1",
            "redis+sentinel://a,b",
            "redis+sentinel://a,/main",
            "redis://[::1",
        ] {
            assert_eq!(Place::parse(url), None, "{url}");
        }
    }
}
