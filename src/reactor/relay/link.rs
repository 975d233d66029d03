//! Connections to Redis: straight, or to the primary that a Sentinel names; and whether it can be relied on.

use super::Settings;
use super::scripts::{Found, Scripts, strange};
use crate::config::EngineServers;
use crate::id::{Seed, Seq};
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    RedisResult, TlsCertificates, io::tcp::TcpSettings,
};
use std::time::Duration;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long Redis may take to answer while it is being found.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection on which the history was found.
pub struct Link {
    /// The connection.
    pub connection: Connection,
    /// The run of the server that it leads to.
    pub run: String,
}

/// Connects to the primary. An answer that takes longer than `timeout` breaks the connection.
pub fn connect(settings: &Settings, timeout: Duration) -> RedisResult<Connection> {
    let (host, port) = match &settings.place.servers {
        EngineServers::One(host, port) => (host.clone(), *port),
        EngineServers::Sentinels { sentinels, service } => find(settings, sentinels, service)?,
    };
    let login = login(settings).set_db(settings.place.database);
    open(settings, host, port, login, timeout)
}

fn login(settings: &Settings) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(user) = &settings.user {
        login = login.set_username(user);
    }
    match &settings.password {
        Some(password) => login.set_password(password),
        None => login,
    }
}

fn open(
    settings: &Settings,
    host: String,
    port: u16,
    login: RedisConnectionInfo,
    timeout: Duration,
) -> RedisResult<Connection> {
    let address = match settings.place.tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    };
    let tcp = TcpSettings::default().set_nodelay(true);
    let info: ConnectionInfo =
        address.into_connection_info()?.set_redis_settings(login).set_tcp_settings(tcp);
    let client = match (&settings.ca, settings.place.tls) {
        (Some(ca), true) => {
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) })?
        }
        _ => Client::open(info)?,
    };
    let connection = client.get_connection_with_timeout(CONNECT)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    Ok(connection)
}

/// Asks the Sentinels, one after the other, where the primary is.
fn find(settings: &Settings, sentinels: &[(String, u16)], service: &str) -> RedisResult<(String, u16)> {
    let mut last = strange("no Sentinel is named");
    for (host, port) in sentinels {
        let login = RedisConnectionInfo::default().set_skip_set_lib_name();
        let asked = open(settings, host.clone(), *port, login, CONNECT).and_then(|mut sentinel| {
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("get-master-addr-by-name").arg(service).query::<Option<(String, u16)>>(&mut sentinel)
        });
        match asked {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => last = strange("the Sentinels do not know the service"),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects and finds the history; see [`Scripts::attach`].
pub fn attach(
    settings: &Settings,
    scripts: &Scripts,
    mine: Seed,
    known: Seq,
    fence: u64,
) -> RedisResult<(Link, Found)> {
    let mut connection = connect(settings, ANSWER)?;
    let info: String = redis::cmd("INFO").query(&mut connection)?;
    let run = fitness(&info)?.to_owned();
    let found = scripts.attach(&mut connection, &run, settings, mine, known, fence)?;
    Ok((Link { connection, run }, found))
}

/// Whether what `INFO` says can be relied on. Returns the run of the server.
fn fitness(info: &str) -> RedisResult<&str> {
    let value = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    };
    if value("role").is_some_and(|role| role != "master") {
        return Err(strange("the server is a replica and takes no writes"));
    }
    if value("loading") == Some("1") {
        return Err(strange("the server is loading its data"));
    }
    let is_bounded = value("maxmemory").is_some_and(|bytes| bytes != "0");
    if is_bounded && value("maxmemory_policy").is_some_and(|policy| policy != "noeviction") {
        return Err(strange("maxmemory-policy evicts keys, history among them; it must be noeviction"));
    }
    value("run_id").ok_or_else(|| strange("INFO says no run_id, by which a loss of data is noticed"))
}

/// What went wrong, in few words.
pub fn why(error: &RedisError) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    match error.detail() {
        Some(detail) if !error.is_io_error() => match error.code() {
            Some(code) => format!("{code} {detail}"),
            None => detail.to_owned(),
        },
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_relied_on_is_refused() {
        let info = |role: &str, memory: &str, policy: &str| {
            format!(
                "# Server\r\nrun_id:abc\r\nrole:{role}\r\nloading:0\r\nmaxmemory:{memory}\r\nmaxmemory_policy:{policy}\r\n"
            )
        };
        assert_eq!(fitness(&info("master", "0", "noeviction")).unwrap(), "abc");
        assert_eq!(
            fitness(&info("master", "0", "allkeys-lru")).unwrap(),
            "abc",
            "there is nothing to evict for"
        );
        assert_eq!(fitness(&info("master", "100", "noeviction")).unwrap(), "abc");
        for (wrong, why) in [
            (info("slave", "0", "noeviction"), "replica"),
            (info("master", "100", "volatile-lru"), "noeviction"),
            (info("master", "100", "allkeys-lfu"), "noeviction"),
            ("loading:1\r\n".to_owned(), "loading"),
            ("role:master\r\n".to_owned(), "run_id"),
        ] {
            let said = fitness(&wrong).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
