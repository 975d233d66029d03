//! `encke token`: makes tokens, and says what one grants and why it would be refused.

pub mod sign;
#[cfg(test)]
mod tests;

use super::settings::{self, Options};
use crate::broker::access::{Grant, Tokens, tokens::TOKEN_BYTES_MAX};
use crate::config::{Algorithm, Config};
use crate::time::http_date;
use crate::wire::shown::Shown;
use clap::Args;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Map, Value, json};
use sign::Signer;
use std::fmt::Write;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `encke token`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Issuer, audience, claim, algorithm and the key's id come from the settings where no option says \
                        otherwise, so that the server with these settings takes the token."
)]
pub struct TokenArgs {
    /// File that holds the secret, or the private key as PEM
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    key: Option<PathBuf>,
    /// Channel or pattern that its bearer may subscribe to; may be given several times
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// Channel or pattern that its bearer may publish to; may be given several times
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// Who its bearer is
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// How long it counts, such as 90s, 15m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = seconds)]
    expires: u64,
    /// What others are told about its bearer, as JSON
    #[arg(long, value_name = "JSON", value_parser = json_text)]
    info: Option<Value>,
    /// Who issues it
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// Whom it is for
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// The id of the key (kid)
    #[arg(long, value_name = "ID")]
    kid: Option<String>,
    /// How it is signed
    #[arg(long, value_name = "NAME", value_parser = algorithm)]
    algorithm: Option<Algorithm>,
    /// Read settings from this TOML file; ENCKE_CONFIG names it too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what this token grants and why it would be refused; - reads it from standard input
    #[arg(
        long,
        value_name = "TOKEN",
        conflicts_with_all = ["key", "subscribe", "publish", "subject", "info", "issuer", "audience", "kid", "algorithm"]
    )]
    check: Option<String>,
}

/// Runs it.
pub fn run(args: &TokenArgs) -> ExitCode {
    let config = match Options::of_file(args.config.clone()).load() {
        Ok(loaded) => loaded.config,
        Err(problems) => return settings::report(&problems),
    };
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match &args.check {
        Some(token) => check(token, &config, unix),
        None => match make(args, &config, unix) {
            Ok(token) => super::print(&format!("{token}\n")),
            Err(text) => {
                eprintln!("encke: {text}");
                ExitCode::FAILURE
            }
        },
    }
}

/// A token as the arguments and the settings have it.
fn make(args: &TokenArgs, config: &Config, unix: u64) -> Result<String, String> {
    let file = args.key.clone().unwrap_or_default();
    let text = std::fs::read(&file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let signer = Signer::read(&text).map_err(|text| format!("{} {text}", file.display()))?;
    let known = known_key(&signer, config);
    let named = args.algorithm.or_else(|| known.as_ref().map(|(algorithm, _)| *algorithm));
    let algorithm = named.or_else(|| signer.algorithms().first().copied()).ok_or("the key signs nothing")?;
    let kid = args.kid.clone().or_else(|| known.filter(|known| known.0 == algorithm)?.1);
    let token = signer.token(algorithm, kid.as_deref(), &claims(args, config, unix)?)?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(format!(
            "the token has {} bytes, and the server takes at most {TOKEN_BYTES_MAX}",
            token.len()
        ));
    }
    // Whoever has keys in the settings wants a token that the server takes.
    match config.token_keys.is_empty() {
        true => Ok(token),
        false => match tokens(config)?.verify(&token, unix) {
            Ok(_) => Ok(token),
            Err(bad) => Err(format!("a server with these settings would refuse it: {bad}")),
        },
    }
}

fn claims(args: &TokenArgs, config: &Config, unix: u64) -> Result<Value, String> {
    let mut number = [0; 16];
    getrandom::fill(&mut number).map_err(|error| format!("the system has no random numbers: {error}"))?;
    let mut claims = Map::new();
    let mut put = |name: &str, value: Option<&String>| {
        value.map(|value| claims.insert(name.into(), value.as_str().into()));
    };
    put("iss", args.issuer.as_ref().or(config.tokens.issuer.as_ref()));
    put("aud", args.audience.as_ref().or(config.tokens.audience.as_ref()));
    put("sub", args.subject.as_ref());
    put("jti", Some(&HEXLOWER.encode(&number)));
    claims.insert("iat".into(), unix.into());
    claims.insert("exp".into(), unix.saturating_add(args.expires).into());
    let mut rights = json!({"subscribe": args.subscribe, "publish": args.publish});
    if let Some(info) = &args.info {
        rights["info"] = info.clone();
    }
    claims.insert(config.tokens.claim.clone(), rights);
    Ok(claims.into())
}

/// Algorithm and id of the key in the settings that verifies what `signer` signs.
fn known_key(signer: &Signer, config: &Config) -> Option<(Algorithm, Option<String>)> {
    let tokens = Tokens::new(config).ok()?;
    signer.algorithms().into_iter().find_map(|algorithm| {
        let signature = signer.sign(algorithm, b"probe").ok()?;
        tokens.key_of(algorithm, b"probe", &signature).map(|id| (algorithm, id.map(Into::into)))
    })
}

fn tokens(config: &Config) -> Result<Tokens, String> {
    Tokens::new(config)
        .map_err(|problems| problems.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; "))
}

/// Says what a token grants, or why it would be refused.
fn check(token: &str, config: &Config, unix: u64) -> ExitCode {
    let mut input = String::new();
    let token = match token {
        "-" => {
            let most = 16 * TOKEN_BYTES_MAX as u64;
            if let Err(error) = std::io::stdin().take(most).read_to_string(&mut input) {
                eprintln!("encke: standard input cannot be read: {error}");
                return ExitCode::FAILURE;
            }
            input.trim()
        }
        token => token,
    };
    if config.token_keys.is_empty() {
        eprintln!(
            "encke: the settings have no [[tokens.keys]] to verify it by; name their file with --config"
        );
        return ExitCode::FAILURE;
    }
    let verdict = tokens(config).and_then(|tokens| tokens.verify(token, unix).map_err(|bad| bad.to_string()));
    match verdict {
        Ok(grant) => super::print(&describe(&grant, config, unix)),
        Err(text) => {
            eprintln!("refused: {text}");
            if let Some(claims) = claimed(token) {
                eprintln!("it says, whoever wrote it: {}", Shown(&claims));
            }
            ExitCode::FAILURE
        }
    }
}

/// The claims of a token, good or not, if they can be read.
fn claimed(token: &str) -> Option<String> {
    let payload = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
    serde_json::from_slice::<Value>(&payload).ok().map(|claims| claims.to_string())
}

fn describe(grant: &Grant, config: &Config, unix: u64) -> String {
    let expires = grant.ends.saturating_sub(config.tokens.leeway_seconds);
    let mut text = format!("good until {}", String::from_utf8_lossy(&http_date(expires)));
    let _ = match expires.checked_sub(unix) {
        Some(left) => writeln!(text, ", {left} s from now"),
        None => writeln!(text, ": expired, and taken for the leeway only"),
    };
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:10} {value}");
    };
    line("subject", grant.subject.as_deref().unwrap_or("nobody"));
    line("subscribe", &list(&grant.subscribe));
    line("publish", &list(&grant.publish));
    if let Some(info) = &grant.info {
        line("info", info);
    }
    text
}

fn list(patterns: &[Box<str>]) -> String {
    match patterns.is_empty() {
        true => "nothing".into(),
        false => patterns.join(", "),
    }
}

/// A time such as `90s`, `15m`, `1h`, `7d`, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "s" | "" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let seconds = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
    seconds.filter(|seconds| *seconds > 0).ok_or_else(|| "must be a time such as 90s, 15m, 1h or 7d".into())
}

fn json_text(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let names: Vec<&str> = Algorithm::NAMES.iter().map(|(name, _)| *name).collect();
    Algorithm::by_name(text).ok_or_else(|| format!("must be one of {}", names.join(", ")))
}
