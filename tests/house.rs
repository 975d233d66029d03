//! House rules: what keeps the code simple to change, checked so that nobody has to remember it.

#[path = "house/modules.rs"]
mod modules;

use modules::Modules;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// The floors, from the ground up; files import only from floors below their own.
const FLOORS: [&[&str]; 11] = [
    &["carry"],
    &["table"],
    &["time", "id", "config", "stats", "merge"],
    &["hub", "wire"],
    &["log"],
    &["transport", "broker"],
    &["conn"],
    &["dialect"],
    &["server"],
    &["reactor", "demo"],
    &["cli", "main", "lib"],
];

/// What nothing below the reactor may name, and what to do instead.
const BANNED_BELOW_THE_REACTOR: [(&str, &str); 12] = [
    ("std::time::", "take `now: crate::time::Now` as an argument"),
    ("SystemTime", "take `now: crate::time::Now` as an argument"),
    ("TcpStream", "write through `server::Sink`; sockets belong to src/reactor/sockets.rs"),
    ("TcpListener", "listeners belong to src/reactor/listener.rs"),
    ("std::thread", "work that must block is a thread behind `reactor::Mailbox`"),
    ("mio::", "only src/reactor uses mio"),
    ("std::fs", "files are read by src/cli"),
    ("getrandom", "derive it from the server's `Seed`"),
    ("RandomState", "hash with a `seed::Key`"),
    ("HashMap", "its order differs from run to run: use a BTreeMap"),
    ("HashSet", "its order differs from run to run: use a BTreeSet"),
    ("thread_local!", "what is remembered belongs to whoever remembers it"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with that ending: path from the root, and text.
fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// The module at the top of `src` that a file belongs to.
fn module(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap();
    below.split(['/', '.']).next().unwrap()
}

fn floor(module: &str) -> usize {
    FLOORS.iter().position(|floor| floor.contains(&module)).unwrap_or_else(|| {
        panic!("src/{module} is on no floor: add it to FLOORS here and to ARCHITECTURE.md")
    })
}

/// The code of a file, without its comments and its inline tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs")
}

/// The modules of the source, without their tests.
fn modules() -> Modules {
    let files = files("src", "rs").into_iter().filter(|(path, _)| !is_test(path));
    Modules::of(files.map(|(path, text)| (path, code(&text))))
}

#[test]
fn files_import_only_from_floors_below() {
    for (module, target) in modules().imports() {
        let [Some(own), Some(used)] = [module, &target].map(|path| path.first()) else { continue };
        assert!(
            own == used || floor(used) < floor(own),
            "{} uses crate::{used}, which is not below it: move what it needs down, or the user up",
            module.join("::")
        );
    }
}

#[test]
fn no_modules_of_a_folder_import_each_other_in_a_circle() {
    let circles = modules().circles();
    assert!(
        circles.is_empty(),
        "these import each other in a circle: move what both need to a file of its own\n{}",
        circles.join("\n")
    );
}

/// A crate of these files.
fn small(files: &[(&str, &str)]) -> Modules {
    Modules::of(files.iter().map(|(path, text)| (format!("src/{path}.rs"), code(text))))
}

#[test]
fn circles_are_seen_however_they_import() {
    let ways = [
        "use super::b;",
        "use super::{c, b::{self}};",
        "pub use crate::hub::{\n    c::C,\n    b::{B as Other},\n};",
        "use super::B;",
        "fn f() { super::b::f(); }",
        "fn f(b: crate::hub::B) {}",
    ];
    for way in ways {
        let files = [
            ("hub/mod", "mod a;\nmod b;\nmod c;\npub use b::B;"),
            ("hub/a", way),
            ("hub/b/mod", "mod d;"),
            ("hub/b/d", "use crate::hub::c::C;"),
            ("hub/c", "use super::a::A;"),
        ];
        let shown = small(&files).circles();
        assert_eq!(
            shown.len(),
            if way.contains("c::C") || way.contains("{c,") { 4 } else { 3 },
            "{way}: {shown:?}"
        );
        assert!(small(&files[..4]).circles().is_empty(), "{way}");
    }
    // Of what comes from elsewhere, and of a module with its own parts, nothing is said.
    let files =
        [("hub/mod", "mod a;\nuse a::A;"), ("hub/a", "use super::Hub;\nuse std::b;\n//! use super::b;")];
    assert!(small(&files).circles().is_empty());
}

#[test]
fn floors_are_seen_in_groups() {
    let modules = small(&[
        ("hub/mod", "use crate::{\n    id::Seq,\n    server::{Server, Sink},\n};"),
        ("id", ""),
        ("server/mod", ""),
    ]);
    let targets: Vec<_> = modules.imports().map(|(_, target)| target.join("::")).collect();
    assert_eq!(targets, ["id", "server"]);
}

/// What says how messages travel: each kind has its own bytes.
const TRANSPORTS: [&str; 4] = ["Transport::", "Polling::", "Streaming::", "Format::"];

/// The arms of each `match` in the code, what stands before their `=>`.
fn matches(code: &str) -> Vec<Vec<&str>> {
    let mut all = Vec::new();
    for (at, _) in code.match_indices("match ") {
        let Some(begin) = code[at..].find(" {\n").map(|offset| at + offset + 1) else { continue };
        let (mut arms, mut depth, mut from) = (Vec::new(), 0_usize, Some(begin + 1));
        for (place, c) in code[begin..].char_indices().map(|(place, c)| (begin + place, c)) {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                '>' if depth == 1 && code[..place].ends_with('=') => {
                    arms.extend(from.take().map(|from| code[from..place - 1].trim()));
                }
                _ => {}
            }
            // An arm ends with a comma or with its braces.
            if depth == 1 && from.is_none() && matches!(c, ',' | '}') {
                from = Some(place + 1);
            }
            if depth == 0 {
                break;
            }
        }
        all.push(arms);
    }
    all
}

#[test]
fn no_arm_stands_for_transports_that_are_still_to_come() {
    let catches_all = |arm: &&str| matches!(*arm, "_" | "Some(_)" | "(_, _)");
    for (path, text) in files("src", "rs").iter().filter(|(path, _)| !is_test(path)) {
        let is_own = |arm: &str| path == "src/transport/mod.rs" && arm.contains("Self::");
        let names_one = |arm: &&str| is_own(arm) || TRANSPORTS.iter().any(|name| arm.contains(name));
        for arms in matches(&code(text)) {
            let is_open = arms.iter().any(names_one) && arms.iter().any(catches_all);
            assert!(
                !is_open,
                "{path}: a match over transports has an arm for all others: name them ({arms:?})"
            );
        }
    }
    let code = "match look {\n    Streaming::Sse if a => {}\n    Streaming::Raw => f(|x| match x {\n _ => 1 }),\n    _ => {}\n}";
    assert_eq!(matches(code)[0], ["Streaming::Sse if a", "Streaming::Raw", "_"]);
}

#[test]
fn below_the_reactor_there_is_no_clock_socket_thread_or_chance() {
    let reactor = floor("reactor");
    let is_below = |path: &str| floor(module(path)) < reactor && !is_test(path);
    for (path, text) in files("src", "rs").iter().filter(|(path, _)| is_below(path)) {
        for (name, remedy) in BANNED_BELOW_THE_REACTOR {
            assert!(!code(text).contains(name), "{path} names `{name}`: {remedy}");
        }
    }
}

/// What only the broker asks of the hub.
const DOOR: [&str; 7] = [
    "hub.commit(",
    "hub.commit_to(",
    "hub.publish(",
    "hub.attach(",
    "hub.subscribe(",
    "hub.unsubscribe(",
    "hub.take_away(",
];

#[test]
fn nobody_goes_past_the_broker() {
    let is_outside = |path: &str| !matches!(module(path), "broker" | "hub" | "transport") && !is_test(path);
    for (path, text) in files("src", "rs").iter().filter(|(path, _)| is_outside(path)) {
        let code: String = code(text).split_whitespace().collect();
        for call in DOOR {
            assert!(!code.contains(call), "{path} calls `{call}…)`: ask the broker instead");
        }
    }
}

#[test]
fn there_is_no_async_runtime_and_unsafe_code_in_one_place() {
    for (path, text) in files("src", "rs") {
        let code = code(&text);
        // `awaits` is a word of its own.
        let has = |name: &str| {
            let mut found = code.match_indices(name).map(|(at, _)| &code[at + name.len()..]);
            found.any(|rest| !rest.starts_with(|sign: char| sign.is_alphanumeric() || sign == '_'))
        };
        for name in ["async fn", ".await", "Rc<RefCell"] {
            assert!(!has(name), "{path} has `{name}`: this server is one plain loop");
        }
        let count = |name| text.matches(name).count();
        let count =
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].map(count).iter().sum::<usize>();
        assert!(count == 0 || path == "src/reactor/sys.rs", "{path} has unsafe code");
        assert_eq!(
            count,
            text.matches("// SAFETY: ").count(),
            "{path}: every unsafe block says why it is sound"
        );
    }
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in ["tokio", "async-std", "smol", "futures-executor"] {
        assert!(!lock.contains(&format!("name = \"{name}\"\n")), "{name} has come in with a dependency");
    }
}

#[test]
fn the_architecture_names_every_source_file() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for path in files("src", "rs").keys() {
        assert!(text.contains(&format!("`{path}`")), "ARCHITECTURE.md does not say what `{path}` is for");
    }
    let mut named = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `src/")) {
        let path = line.split('`').nth(1).unwrap();
        assert!(root().join(path).exists(), "ARCHITECTURE.md names `{path}`, which is not there");
        assert!(named.insert(path), "ARCHITECTURE.md says twice what `{path}` is for");
    }
}

#[test]
fn the_architecture_says_why_each_dependency_is_there() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let dependencies = manifest.split("dependencies]\n").skip(1);
    for line in dependencies.flat_map(|section| section.lines().take_while(|line| !line.is_empty())) {
        let name = line.split([' ', '=']).next().unwrap();
        assert!(
            text.contains(&format!("| `{name}` |")),
            "ARCHITECTURE.md does not say why `{name}` is there"
        );
    }
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in files("src", "rs") {
        assert!(text.starts_with("//!") || is_test(&path), "{path} does not begin with what it is (`//! …`)");
    }
}

/// What `UPDATE_DOCS=1 cargo test --test house` makes anew.
#[test]
fn the_document_of_the_limits_is_that_of_the_code() {
    let path = root().join("docs/limits.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) =
        text.split_once("<!-- begin: made by `UPDATE_DOCS=1 cargo test --test house` -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    let begin = &text[before.len()..text.len() - rest.len()];
    let expected = format!("{before}{begin}{}<!-- end -->\n{after}", encke::server::limits::markdown());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap();
    assert!(written == expected, "docs/limits.md is out of date: run UPDATE_DOCS=1 cargo test --test house");
}

/// The text between the first `begin` and what `end` follows it.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{begin} is not there any more"));
    rest.split_once(end).unwrap_or_else(|| panic!("{begin} has no {end}")).0
}

/// The strings in a piece of code.
fn strings(code: &str) -> impl Iterator<Item = &str> {
    code.split('"').skip(1).step_by(2)
}

/// What the code of the native API takes and tells, by the words that a client reads or writes.
fn words_of_the_protocol() -> BTreeMap<String, String> {
    let sources = files("src", "rs");
    let source = |path: &str| code(&sources[path]);
    let mut words = BTreeMap::new();
    for path in ["src/dialect/native/asked.rs", "src/dialect/native/properties.rs"] {
        for name in strings(between(&source(path), "const PARAMETERS: ", "];")) {
            words.insert(format!("`{name}="), path.to_owned());
        }
    }
    let techniques = source("src/dialect/native/asked.rs");
    let techniques = between(&techniques, ": use ", "\"");
    for name in techniques.split([',', ' ']).filter(|word| !matches!(*word, "" | "or")) {
        words.insert(format!("`{name}`"), "as=".to_owned());
    }
    let is_native = |path: &str| !path.contains("/bayeux") && !path.contains("/fdajax") && !is_test(path);
    for (path, text) in sources.iter().filter(|(path, _)| is_native(path)) {
        let code = code(text);
        for rest in code.split("Encke-").skip(1) {
            let name = rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap();
            if !name.is_empty() {
                words.insert(format!("Encke-{name}"), path.clone());
            }
        }
        for rest in code.split("event: encke.").skip(1) {
            let name = rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap();
            words.insert(format!("`encke.{name}`"), path.clone());
        }
        let statuses = ["problem(", "status: ", "Err((", "response::write_head(&mut self.out, "];
        for rest in statuses.iter().flat_map(|lead| code.split(lead).skip(1)) {
            let status: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if status.len() == 3 {
                words.insert(format!("| {status} |"), path.clone());
            }
        }
    }
    for path in ["src/wire/websocket.rs", "src/transport/websocket.rs"] {
        for rest in source(path).split(": u16 = ").skip(1) {
            let code: String = rest.chars().take_while(char::is_ascii_digit).collect();
            words.insert(format!("| {code} |"), path.to_owned());
        }
    }
    for (path, begin, end) in [
        ("src/dialect/native/websocket.rs", "struct Object<'a> {", "_reference"),
        ("src/dialect/native/batch.rs", "struct Line<'a> {", "\n}"),
    ] {
        for line in between(&source(path), begin, end)
            .lines()
            .filter(|line| line.contains(": ") && !line.contains('#'))
        {
            let name = line.trim().trim_start_matches("pub ").split(':').next().unwrap();
            let shown =
                if path.ends_with("batch.rs") { format!("`{name}`") } else { format!("`{{\"{name}\":") };
            words.insert(shown, path.to_owned());
        }
    }
    words
}

#[test]
fn the_documents_of_the_protocol_have_every_word_of_it() {
    let documents = ["http", "websocket", "mercure"];
    let text = |name| fs::read_to_string(root().join(format!("docs/{name}.md"))).unwrap();
    let all = documents.map(text).concat();
    let words = words_of_the_protocol();
    assert!(words.len() > 50, "the code is read no more: {words:?}");
    for (word, path) in words {
        assert!(all.contains(&word), "{path} has {word}, and none of {documents:?} in docs does");
    }
}
