//! Every seed, on the stable toolchain: what a fuzzer once needed hours for is found again in a second.

use std::fs;
use std::path::Path;

/// Runs `check` on all seeds of a target.
fn check(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("each target has seeds") {
        let path = entry.expect("it can be listed").path();
        eprintln!("{}", path.display());
        check(&fs::read(&path).expect("it can be read"));
        count += 1;
    }
    assert!(count > 0, "{target} has no seeds");
}

#[test]
fn every_seed_holds() {
    check("head", encke_fuzz::head::check);
    check("chunked", encke_fuzz::chunked::check);
    check("names", encke_fuzz::names::check);
    check("keys", encke_fuzz::keys::check);
    check("merge", encke_fuzz::merge::check);
    check("websocket", encke_fuzz::websocket::check);
    check("bayeux", encke_fuzz::bayeux::check);
    check("fdajax", encke_fuzz::fdajax::check);
    check("settings", encke_fuzz::settings::check);
    check("stream", encke_fuzz::stream::check);
    check("splits", encke_fuzz::splits::check);
    check("mercure", encke_fuzz::mercure::check);
    check("selectors", encke_fuzz::selectors::check);
    check("tokens", encke_fuzz::tokens::check);
    check("clients", encke_fuzz::clients::check);
    check("answers", encke_fuzz::answers::check);
}
