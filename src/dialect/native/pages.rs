//! The pages and scripts that the binary carries.

use crate::wire::response::Response;

/// What a page of ours may load: nothing from elsewhere.
const PAGE_POLICY: &str = "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'self'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, media type and bytes of every file.
const FILES: [(&str, &str, &[u8]); 9] = [
    ("/", HTML, include_bytes!("../../web/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_bytes!("../../web/style.css")),
    // Both are made from src/web/encke.js by tests/browser/build.mjs.
    ("/encke.js", SCRIPT, include_bytes!("../../web/dist/encke.js")),
    ("/encke.global.js", SCRIPT, include_bytes!("../../web/dist/encke.global.js")),
    ("/encke.d.ts", "text/plain; charset=utf-8", include_bytes!("../../web/encke.d.ts")),
    ("/demo/demo.js", SCRIPT, include_bytes!("../../web/demo/demo.js")),
    ("/demo/ticker", HTML, include_bytes!("../../web/demo/ticker.html")),
    ("/demo/chat", HTML, include_bytes!("../../web/demo/chat.html")),
    ("/demo/techniques", HTML, include_bytes!("../../web/demo/techniques.html")),
];

/// The file at `path`.
pub fn at(path: &str) -> Option<Response> {
    let path = if path.is_empty() { "/" } else { path };
    let (_, media, bytes) = FILES.iter().find(|(name, ..)| *name == path)?;
    let response = Response::new(200, media, *bytes).with("Cache-Control", "no-cache");
    Some(match *media {
        HTML => response.with("Content-Security-Policy", PAGE_POLICY),
        // Pages of any origin may use the client.
        SCRIPT => response.with("Cross-Origin-Resource-Policy", "cross-origin"),
        _ => response,
    })
}
