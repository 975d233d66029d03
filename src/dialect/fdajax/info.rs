//! The page that shows the operator who is there.

use super::users::{Account, User};
use super::windows::State;
use super::{Fdajax, answers};
use crate::config::SETTINGS;
use crate::dialect::Context;
use crate::time::http_date;
use crate::wire::response::Response;
use std::fmt::Write;

const STYLE: &str = "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}\
    td,th{padding:2px 12px;text-align:left;border-bottom:1px solid #ccc}";

/// Options, users and windows.
pub fn page(fdajax: &Fdajax, context: &Context) -> Response {
    let mut html = format!(
        "<!DOCTYPE html><html><head><title>FDAjax</title><style>{STYLE}</style></head><body><h1>FDAjax</h1>\n"
    );
    write_options(&mut html, context);
    let guests = fdajax.users.guests();
    let users = fdajax.users.logged_in();
    let windows = fdajax.windows.len();
    let _ = writeln!(html, "<p>{} users, {guests} guests, {windows} windows</p>", users.len());
    for key in users {
        let user = fdajax.users.get(key);
        if let Some(account) = &user.account {
            write_user(&mut html, fdajax, user, account);
        }
    }
    html.push_str("</body></html>\n");
    answers::page(html)
}

fn write_options(html: &mut String, context: &Context) {
    html.push_str("<table><tr><th>option</th><th>value</th></tr>\n");
    let ours = |name: &str| name.starts_with("fdajax.") || name.starts_with("limits.fdajax");
    for setting in SETTINGS.iter().filter(|setting| ours(setting.name)) {
        let value = escape(&setting.show(context.config));
        let _ = writeln!(html, "<tr><td>{}</td><td>{value}</td></tr>", setting.name);
    }
    html.push_str("</table>\n");
}

fn write_user(html: &mut String, fdajax: &Fdajax, user: &User, account: &Account) {
    let since = http_date(account.since);
    let since = String::from_utf8_lossy(&since);
    let peers: Vec<String> = account.peers.iter().map(u32::to_string).collect();
    let _ = writeln!(
        html,
        "<h2>user {}</h2><p>address {}, login {since}, peers [{}], {} messages undelivered, {} alerts</p>",
        account.id,
        user.address,
        peers.join(", "),
        account.post.stored().count(),
        account.post.alerts_after(0).count()
    );
    html.push_str(
        "<table><tr><th>win_id</th><th>mode</th><th>state</th><th>slot</th><th>types</th><th>deliveries</th>\
         <th>last alert</th></tr>\n",
    );
    for key in user.windows() {
        let window = &fdajax.windows[key];
        let mode = if window.stream { "stream" } else { "chunked" };
        let state = match window.state {
            State::Open(_) => "open",
            State::Idle => "idle",
            State::Gone => "gone",
        };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{mode}</td><td>{state}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            window.id,
            window.slot,
            window.types.print(),
            window.deliveries,
            window.last_alert
        );
    }
    html.push_str("</table>\n");
}

/// Text as HTML shows it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
