//! The pages and scripts that the binary carries.

use crate::wire::head::Head;
use crate::wire::response::Response;
use crate::wire::tags;
use sha1_smol::Sha1;
use std::sync::LazyLock;

/// What a page of ours may load: nothing from elsewhere.
const PAGE_POLICY: &str = "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'self'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file that is served at `path`.
struct File {
    path: &'static str,
    media: &'static str,
    bytes: &'static [u8],
    /// The same compressed with gzip.
    gzip: Option<&'static [u8]>,
}

macro_rules! file {
    ($path:literal, $media:expr, $file:literal) => {
        File { path: $path, media: $media, bytes: include_bytes!(concat!("../../web/", $file)), gzip: None }
    };
    ($path:literal, $media:expr, $file:literal, gzip) => {
        File {
            gzip: Some(include_bytes!(concat!("../../web/", $file, ".gz"))),
            ..file!($path, $media, $file)
        }
    };
}

const FILES: [File; 11] = [
    file!("/", HTML, "index.html"),
    file!("/style.css", CSS, "style.css"),
    // These are made from src/web/encke.js and what it imports by tests/browser/build.mjs.
    file!("/encke.js", SCRIPT, "dist/encke.js", gzip),
    file!("/encke.global.js", SCRIPT, "dist/encke.global.js", gzip),
    file!("/encke.more.js", SCRIPT, "dist/encke.more.js", gzip),
    file!("/encke.d.ts", TEXT, "encke.d.ts"),
    file!("/demo/demo.js", SCRIPT, "demo/demo.js"),
    file!("/demo/market.js", SCRIPT, "demo/market.js"),
    file!("/demo/ticker", HTML, "demo/ticker.html"),
    file!("/demo/chat", HTML, "demo/chat.html"),
    file!("/demo/techniques", HTML, "demo/techniques.html"),
];

/// The page of operators, which is not for everybody.
const ADMIN: File = file!("/admin", HTML, "admin.html");

/// What names its content.
static ADMIN_HASH: LazyLock<String> = LazyLock::new(|| hash(&ADMIN));

/// What names the content of each file, in their order.
static HASHES: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(hash).collect());

fn hash(file: &File) -> String {
    Sha1::from(file.bytes).digest().to_string()
}

/// The page of operators.
pub fn admin(head: &Head) -> Response {
    answer(head, &ADMIN, &ADMIN_HASH).with("X-Robots-Tag", "noindex")
}

/// The file at `path`: compressed for who can read that, and only its name for who has it.
pub fn at(head: &Head, path: &str) -> Option<Response> {
    let path = if path.is_empty() { "/" } else { path };
    let place = FILES.iter().position(|file| file.path == path)?;
    Some(answer(head, &FILES[place], &HASHES[place]))
}

fn answer(head: &Head, file: &File, hash: &str) -> Response {
    let gzip = file.gzip.filter(|_| head.lists("accept-encoding", "gzip"));
    // Other bytes, another tag (RFC 9110, section 8.8.3).
    let tag = format!("\"{hash}{}\"", if gzip.is_some() { "-gzip" } else { "" });
    let response = match has(head, &tag) {
        true => Response::empty(304),
        false => Response::new(200, file.media, gzip.unwrap_or(file.bytes)),
    };
    let mut response = response.with("Cache-Control", "no-cache").with("ETag", &tag);
    if file.gzip.is_some() {
        response = response.with("Vary", "Accept-Encoding");
    }
    if gzip.is_some() && response.status == 200 {
        response = response.with("Content-Encoding", "gzip");
    }
    match file.media {
        HTML => response.with("Content-Security-Policy", PAGE_POLICY),
        // Pages of any origin may use the client.
        SCRIPT => response.with("Cross-Origin-Resource-Policy", "cross-origin"),
        _ => response,
    }
}

/// Whether the client has the file that `tag` names (RFC 9110, section 13.1.2), or one that a proxy has compressed since.
fn has(head: &Head, tag: &str) -> bool {
    let fields = || head.fields("if-none-match");
    let items = fields().flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let mut exact = items.map(|item| item.strip_prefix(b"W/").unwrap_or(item));
    let mut plain = tags::named(fields());
    exact.any(|item| item == tag.as_bytes())
        || plain.any(|named| named == tags::ANY || tag.trim_matches('"') == named)
}
