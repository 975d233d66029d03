//! `encke why`: everything that a server knows of one live connection.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{Server, check, encode_channel, env, printable};

/// Nothing comes for so long: the server is not well.
const SILENCE: Duration = Duration::from_secs(10);

/// Show everything a running server knows of one live connection
///
/// It is named by its other end, ADDRESS:PORT, as `ss` and the logs of proxies do, or by the id in the list of /admin.
/// With admin_listen, the URL is that of the admin listener.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// ADDRESS:PORT of its other end, or its id
    #[arg(value_name = "ADDRESS:PORT|ID")]
    which: String,
    /// Address of the server [default: http://127.0.0.1:8080, or the environment's ENCKE_URL]
    #[arg(long)]
    url: Option<String>,
}

/// Runs it.
pub fn run(args: &WhyArgs) -> ExitCode {
    match why(args) {
        Ok(text) => super::print(&text),
        Err(reason) => {
            eprintln!("encke why: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn why(args: &WhyArgs) -> Result<String, String> {
    let server = Server::find(args.url.as_deref(), SILENCE)?;
    let url = server.url(&format!("/admin/connections/{}", encode_channel(&args.which)), &[]);
    let mut request = server.agent.get(&url).header("Accept", "application/json");
    if let Some(token) = env("ENCKE_PUBLISH_TOKEN")? {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response =
        check(request.call()).map_err(|trouble| format!("{}: {}", server.base(), trouble.reason))?;
    let body = response.body_mut().read_to_vec().map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|_| format!("{url} answered with something else: is an Encke server there?"))?;
    let mut text = String::new();
    write_lines(&mut text, &value, "");
    Ok(text)
}

/// The members of an object, a line each; what is not known is left out.
fn write_lines(text: &mut String, value: &Value, indent: &str) {
    for (name, item) in value.as_object().into_iter().flatten() {
        let label = name.replace('_', " ");
        let _ = match item {
            Value::Null => Ok(()),
            Value::Array(items) if items.is_empty() => Ok(()),
            Value::Object(_) => {
                let _ = writeln!(text, "{indent}{label}:");
                write_lines(text, item, &format!("{indent}  "));
                Ok(())
            }
            Value::Array(items) => {
                writeln!(text, "{indent}{label}: {}", items.iter().map(plain).collect::<Vec<_>>().join(", "))
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                writeln!(text, "{indent}{label}: {}", plain(item))
            }
        };
    }
}

/// A value as a person reads it; what a peer has made up cannot steer the terminal.
fn plain(value: &Value) -> String {
    printable(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_known_is_a_line_each() {
        let mut text = String::new();
        let value = json!({
            "does": "sse", "for_ms": 7, "channels": ["a", "b\u{1b}[2J"], "subject": null, "tcp": { "unsent_bytes": 3 }, "none": [],
        });
        write_lines(&mut text, &value, "");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        for line in ["does: sse\n", "for ms: 7\n", "channels: a, b", "tcp:\n  unsent bytes: 3\n"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("subject") && !text.contains("none"), "{text}");
    }
}
