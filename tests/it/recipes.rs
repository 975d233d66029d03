//! What the documents tell people to type: it is taken out of them as it stands, and run. Only addresses, ports and folders
//! are put in the place of those that stand there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::harness::{Encke, free_address, until};

/// The blocks of a document that are written in `language`, without their indentation.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found: Vec<String> = Vec::new();
    let mut is_inside = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), is_inside) {
            (Some(_), Some(_)) => is_inside = None,
            (Some(begins), None) => {
                is_inside = Some(begins == language);
                if begins == language {
                    found.push(String::new());
                }
            }
            (None, Some(true)) => found.iter_mut().last().into_iter().for_each(|block| {
                block.push_str(line);
                block.push('\n');
            }),
            (None, _) => {}
        }
    }
    found
}

/// The block of a document that has `part` in it: there must be one, and no other.
fn block(document: &str, language: &str, part: &str) -> String {
    let mut found: Vec<String> =
        blocks(document, language).into_iter().filter(|block| block.contains(part)).collect();
    assert_eq!(found.len(), 1, "{document}: blocks of {language} with {part:?}");
    found.remove(0)
}

/// A folder to work in, with `encke` on its path; gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("encke-recipes-{}-{count}", std::process::id()));
        _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        symlink(env!("CARGO_BIN_EXE_encke"), folder.join("encke")).expect("a link can be made");
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file can be written");
        path.to_string_lossy().into_owned()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.0).env("PATH", format!("{}:{path}", self.0.display()));
        command.env("no_proxy", "*").stdin(Stdio::null());
        command
    }

    /// What a program prints that ends well.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs commands that go on printing.
    fn reader(&self, script: &str) -> Reader {
        let mut command = self.command("sh", &["-c", &format!("exec {}", script.trim())]);
        // What it starts in turn ends with it.
        let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Reader { child, lines }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A command that prints, ended with the value.
struct Reader {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Reader {
    /// Reads up to a line that has `part` in it.
    fn line(&mut self, part: &str) -> String {
        let mut before = Vec::new();
        for line in (&mut self.lines).lines().map_while(Result::ok) {
            if line.contains(part) {
                return line;
            }
            before.push(line);
        }
        panic!("no line with {part:?} was printed, but {before:?}")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        _ = self.child.wait();
    }
}

/// A recipe with this server in the place of the one that it names.
fn at(server: &Encke, recipe: &str) -> String {
    let address = server.addr().to_string();
    recipe.replace("localhost:8080", &address).replace("127.0.0.1:8080", &address)
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn five_minutes() {
    let (folder, server) = (Folder::new(), Encke::start(&[]));
    let commands = at(&server, &block("README.md", "sh", "# publish\n"));
    let [serve, listen, publish] = &commands.lines().collect::<Vec<_>>()[..] else { panic!("{commands}") };
    assert!(serve.starts_with("encke "), "it is started without options: {serve}");
    let mut stream = folder.reader(&format!("env curl -s {}", listen.strip_prefix("curl").expect("curl")));
    server.listeners("news", 1);
    folder.run("sh", &["-c", publish]);
    assert_eq!(stream.line("Hello"), "data: Hello");
}

#[test]
fn lines_are_published_and_printed() {
    let (folder, server) = (Folder::new(), Encke::start(&[]));
    let commands = block("README.md", "sh", "# publish every line");
    let [listen, publish] = &commands.lines().collect::<Vec<_>>()[..] else { panic!("{commands}") };
    let url = format!("ENCKE_URL={} ", server.url(""));
    let mut printed = folder.reader(&format!("env {url} {listen}"));
    until("it listens", || (server.json("/stats")["subscribers"] == 1).then_some(()));
    folder.write("app.log", "one\ntwo\n");
    // The file is followed for ever; the recipe ends when the lines are published.
    let follows = folder.reader(&format!("env {url} sh -c \"{publish}\""));
    until("both are published", || (server.history("logs") == ["one", "two"]).then_some(()));
    drop(follows);
    server.publish("stocks/a", "up");
    assert!(printed.line("up").contains("stocks/a"), "the channel is printed where several may come");
}

#[test]
fn every_language_publishes() {
    let (folder, server) = (Folder::new(), Encke::start(&[]));
    let news = "{\"headline\": \"a comet\"}";
    let published = |language: &str| {
        let history = server.history("news");
        let last = history.last().unwrap_or_else(|| panic!("{language} published nothing"));
        let last: Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(last["headline"], "a comet", "{language}");
        server.ask("DELETE", "/pub/news", &[], b"");
    };
    let python = at(&server, &block("README.md", "python", "urlopen"));
    folder.run("python3", &["-c", &format!("news = {news}\n{python}")]);
    published("Python");
    let node = at(&server, &block("README.md", "js", "await fetch"));
    folder.run("node", &["--input-type=module", "-e", &format!("const news = {news};\n{node}")]);
    published("Node");
    if is_installed("php") {
        let php = at(&server, &block("README.md", "php", "file_get_contents"));
        folder.run("php", &["-r", &format!("$news = ['headline' => 'a comet'];\n{php}")]);
        published("PHP");
    }
}

#[test]
fn tokens_are_made_in_every_language() {
    let folder = Folder::new();
    folder.write("app.key", &format!("{}\n", "0123456789abcdef".repeat(4)));
    let settings = folder.write(
        "encke.toml",
        "[[tokens.keys]]\nid = \"app\"\nalgorithm = \"HS256\"\nfile = \"app.key\"\n\
         [[channels]]\nmatch = \"chat/*\"\nsubscribe = \"token\"\n[[channels]]\nmatch = \"**\"\n",
    );
    let server = Encke::start(&["--config", &settings]);
    let mut programs = vec![("python3", "python", "def token", "-c"), ("node", "js", "function token", "-e")];
    if is_installed("php") {
        programs.push(("php", "php", "function token", "-r"));
    }
    assert_eq!(server.get("/sub/chat/a?as=interval", &[]).status, 401);
    for (program, language, part, option) in programs {
        let recipe = block("docs/access.md", language, part);
        let token = folder.run(program, &[option, recipe.trim_start_matches("<?php\n")]);
        let bearer = format!("Authorization: Bearer {}", token.trim());
        assert_eq!(server.get("/sub/chat/a?as=interval", &[&bearer]).status, 304, "{program}: {token}");
    }
    let commands =
        block("docs/access.md", "sh", "encke token").replace("--key app.key", "--key app.key --key-id app");
    let [make, check] = &commands.lines().collect::<Vec<_>>()[..] else { panic!("{commands}") };
    let make = make.replace(" --key-id app", "");
    folder.run("sh", &["-c", &format!("{make} > token.txt")]);
    assert!(folder.run("sh", &["-c", check]).contains("chat/lobby"), "what it grants");
}

#[test]
fn the_application_is_asked() {
    let folder = Folder::new();
    let address = free_address();
    let program =
        block("docs/access.md", "python", "class Hook").replace("3000", &address.port().to_string());
    folder.write("hook.py", &program);
    let _application = folder.reader("env python3 hook.py");
    until("the application listens", || std::net::TcpStream::connect(address).ok());
    let settings = folder.write(
        "encke.toml",
        &format!(
            "[hook]\nurl = \"http://{address}/\"\ntimeout_ms = 30000\nheaders = [\"Cookie\"]\n\
             [[channels]]\nmatch = \"**\"\nsubscribe = \"hook\"\npublish = \"hook\"\n"
        ),
    );
    let server = Encke::start(&["--config", &settings]);
    let recipe = at(&server, &block("docs/access.md", "sh", "session=def"));
    let (command, expected) = recipe.split_once('\n').expect("what is typed, and what comes");
    let command = command.trim_start_matches("$ ").replacen("curl -i", "curl -s -i", 1);
    let answer = folder.run("sh", &["-c", &command]);
    expected.lines().for_each(|line| assert!(answer.contains(line), "{line}\n{answer}"));
    let alice = folder.run("sh", &["-c", &command.replace("session=def", "session=abc")]);
    assert!(alice.starts_with("HTTP/1.1 202 "), "{alice}");
}

#[test]
fn fdajax_is_tried_by_hand() {
    let (folder, server) = (Folder::new(), Encke::start(&["--fdajax"]));
    let commands = at(&server, &block("docs/fdajax.md", "", "cmd=login"));
    let script =
        commands.replace("curl ", "curl -sS -m 20 ").replace("&types=mes' &", "&types=mes' > heard &");
    let [login, wait, push] = &script.lines().collect::<Vec<_>>()[..] else { panic!("{script}") };
    folder.run("sh", &["-c", login]);
    let mut waits = folder.reader(&format!("sh -c {:?}", wait.trim_end_matches('&').replace("> heard", "")));
    // The user, and its window.
    until("the window waits", || (server.json("/stats")["subscribers"] == 2).then_some(()));
    folder.run("sh", &["-c", push]);
    assert!(waits.line("alert").contains("alert(1)"));
}

#[test]
fn a_history_is_looked_after() {
    let folder = Folder::new();
    let store = folder.0.join("history");
    let here = |commands: &str| commands.replace("/var/lib/encke", &store.to_string_lossy());
    let backup = folder.0.join("copy.redb");
    {
        let options = here(&block("docs/history.md", "sh", "encke serve"));
        let options: Vec<&str> = options.trim().split(' ').skip(2).collect();
        let mut server = Encke::start(&options);
        server.publish("news", "kept");
        let command = here(&block("docs/history.md", "sh", "encke backup"));
        folder.run("sh", &["-c", &command.replace("/backup/history.redb", &backup.to_string_lossy())]);
        server.signal(Signal::TERM);
        server.exit();
    }
    assert!(backup.exists());
    let commands = here(&block("docs/history.md", "sh", "encke store check"));
    let printed: Vec<String> = commands.lines().map(|line| folder.run("sh", &["-c", line])).collect();
    assert_eq!(printed.len(), 4);
    assert!(printed[3].contains("\"data\":\"kept\""), "{printed:?}");
}

/// Every piece of a settings file that the documents show is one.
#[test]
fn settings_are_as_the_server_reads_them() {
    let folder = Folder::new();
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
    fs::copy(keys.join("p256.pub.pem"), folder.0.join("app.pub.pem")).expect("a key");
    let mut count = 0;
    for document in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("documents") {
        let document = format!("docs/{}", document.expect("an entry").file_name().to_string_lossy());
        if !document.ends_with(".md") {
            continue;
        }
        for (number, block) in blocks(&document, "toml").into_iter().enumerate() {
            count += 1;
            // What it speaks of may be shown in another piece.
            let is_keyless = block.contains("\"token\"") && !block.contains("[[tokens.keys]]");
            let keys = "[[tokens.keys]]\nalgorithm = \"ES256\"\nfile = \"app.pub.pem\"\n";
            let file = folder.write("encke.toml", &format!("{block}{}", if is_keyless { keys } else { "" }));
            let output = folder.command("encke", &["config", "--check", &file]).output().expect("encke runs");
            let errors = String::from_utf8_lossy(&output.stderr);
            // Certificates and secrets are the reader's own.
            let lacks_file = errors.contains("No such file or directory");
            assert!(output.status.success() || lacks_file, "{document}, block {number}: {errors}\n{block}");
        }
    }
    assert!(count > 5, "{count} pieces");
}

/// Nobody writes into a recipe by mistake.
#[test]
fn blocks_are_taken_as_they_stand() {
    let mut file = std::env::temp_dir();
    file.push(format!("encke-blocks-{}.md", std::process::id()));
    let text = "a\n```sh\none\n```\n```\ntwo\n```\n  ```sh\n  three\n  ```\n";
    fs::File::create(&file).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
    let document = file.to_string_lossy().into_owned();
    assert_eq!(blocks(&document, "sh"), ["one\n", "  three\n"]);
    assert_eq!(blocks(&document, ""), ["two\n"]);
    fs::remove_file(file).expect("it is there");
}
