//! Puts the version and the commit into the program: `VERSION_AND_COMMIT`, such as `0.1.0 (1a2b3c4d5)`.
//!
//! Whoever builds from an archive without the repository can name the commit in `ENCKE_COMMIT`. A debug build keeps the
//! commit of its first build rather than compile everything anew after each commit.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ENCKE_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let is_debug = env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    if !is_debug && let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let given = env::var("ENCKE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| git(&["rev-parse", "--short=9", "HEAD"]));
    let debug = if is_debug { ", debug" } else { "" };
    match commit {
        Some(commit) => println!("cargo::rustc-env=VERSION_AND_COMMIT={version} ({commit}{debug})"),
        None => println!("cargo::rustc-env=VERSION_AND_COMMIT={version}"),
    }
}

/// What git says, if this is a working copy of the program itself and not of something that contains it.
fn git(arguments: &[&str]) -> Option<String> {
    let root = env::var("CARGO_MANIFEST_DIR").ok()?;
    if !std::path::Path::new(&root).join(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
