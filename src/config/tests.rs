use std::collections::HashMap;

use super::*;

/// Values of which every setting takes at least one that is not its default.
const CANDIDATES: [&str; 16] = [
    "behind",
    "3",
    "304",
    "true",
    "127.0.0.1:9",
    "10.0.0.1",
    "https://a.example",
    "false",
    "chat",
    "/cometd",
    "jsonp",
    "debug",
    "HS512",
    "redis://127.0.0.1:6379",
    "http://127.0.0.1:9/may",
    "both",
];

/// A value for each setting that is not its default, as text and as TOML.
fn other(setting: &Setting) -> (&'static str, String, Config) {
    for text in CANDIDATES {
        let mut config = Config::default();
        let set = setting.set(&mut config, Given::Text(text), text);
        if set.is_ok() && config != Config::default() {
            let toml = if setting.kind.is_secret() { format!("{text:?}") } else { setting.show(&config) };
            return (text, toml, config);
        }
    }
    panic!("{}: no candidate fits; add one to CANDIDATES", setting.name);
}

fn has_switch(section: Section) -> bool {
    SETTINGS.iter().any(|setting| setting.section == Some(section) && setting.is_switch())
}

fn document(setting: &Setting, value: &str) -> String {
    match setting.section {
        // A section that has a switch is on where nothing else is said.
        Some(section) if has_switch(section) && !setting.is_switch() => {
            format!("[{}]\nenabled = false\n{} = {value}\n", section.name, setting.key())
        }
        Some(section) => format!("[{}]\n{} = {value}\n", section.name, setting.key()),
        None => format!("{} = {value}\n", setting.key()),
    }
}

fn load_all(
    file: &str,
    environment: &[(&str, &str)],
    options: &[(&str, &str)],
) -> Result<Loaded, Vec<Problem>> {
    let variables: HashMap<&str, &str> = environment.iter().copied().collect();
    let options: Vec<_> =
        options.iter().map(|(name, value)| (Setting::find(name).unwrap(), value.to_string())).collect();
    load(&Sources {
        options: &options,
        environment: &|name| variables.get(name).map(ToString::to_string),
        file: Some(File { name: "encke.toml", text: file }),
    })
}

#[track_caller]
fn check_problems(file: &str, expected: &[&str]) {
    let problems: Vec<String> =
        check(File { name: "f", text: file }).iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n does not begin with\n{expected}");
    }
}

#[test]
fn every_setting_is_read_from_every_source() {
    for setting in SETTINGS {
        let (text, toml, expected) = other(setting);
        let variable = setting.variable();

        let file = load_all(&document(setting, &toml), &[], &[]).unwrap();
        assert_eq!(file.config, expected, "{} from a file", setting.name);
        assert!(matches!(file.origin(setting.name), Origin::File { .. }));

        let environment = load_all("", &[(&variable, text)], &[]).unwrap();
        assert_eq!(environment.config, expected, "{variable}");
        assert_eq!(environment.origin(setting.name), &Origin::Environment(variable));

        if setting.option().is_some() {
            let option = load_all("", &[], &[(setting.name, text)]).unwrap();
            assert_eq!(option.config, expected, "{} as an option", setting.name);
            assert!(matches!(option.origin(setting.name), Origin::Option(_)));
        }
    }
}

#[test]
fn every_default_is_allowed_and_shown_so_that_it_is_read_back() {
    for setting in SETTINGS.iter().filter(|setting| !setting.kind.is_secret()) {
        let shown = setting.show(&Config::default());
        let loaded = load_all(&document(setting, &shown), &[], &[]);
        assert_eq!(loaded.unwrap().config, Config::default(), "{}", setting.name);
    }
}

#[test]
fn every_setting_refuses_nonsense_and_names_itself() {
    for setting in SETTINGS.iter().filter(|setting| !setting.name.ends_with("token_file")) {
        let problems = load_all("", &[(&setting.variable(), "no such\tthing")], &[]).unwrap_err();
        let place = format!("{}: {}: must be ", setting.variable(), setting.name);
        assert!(problems[0].to_string().starts_with(&place), "{}", problems[0]);
        check_problems(
            &document(setting, "1979-05-27"),
            &[&format!("f:{}", document(setting, "").lines().count())],
        );
    }
}

#[test]
fn options_win_over_environment_over_file_over_default() {
    let (file, environment, option) = ("heartbeat = 2", ("ENCKE_HEARTBEAT", "3"), ("heartbeat", "4"));
    let heartbeat = |loaded: Result<Loaded, _>| loaded.unwrap().config.heartbeat;
    assert_eq!(heartbeat(load_all("", &[], &[])), 15);
    assert_eq!(heartbeat(load_all(file, &[], &[])), 2);
    assert_eq!(heartbeat(load_all(file, &[environment], &[])), 3);
    assert_eq!(heartbeat(load_all(file, &[environment], &[option])), 4);
}

#[test]
fn all_that_is_wrong_is_reported_with_its_line() {
    let file = "listen = \"nowhere\"\nheartbeat = 0\n\n[limits]\nmesage_bytes = 5\nmessage_bytes = \"2TB\"\n\
                demo = true\n[poll]\nno_news_status = 200\n[histroy]\nmessages = 1\n[zzzzzzzz]\n[turn]\nqqqqqqqqq = 1\n";
    check_problems(
        file,
        &[
            "f:1: listen: must be ADDRESS:PORT",
            "f:2: heartbeat: must be a time from 1 to 3600 seconds, as a number or as 500ms, 15s, 2m, 1h, 1d, not 0",
            "f:5: limits.mesage_bytes: unknown setting, did you mean limits.message_bytes?",
            "f:6: limits.message_bytes: must be a size from 1 to 1GiB, in bytes or as 512KiB, 64KB, 1MiB, 2GiB, not \"2TB\"",
            "f:7: limits.demo: unknown setting, did you mean demo, above the first [section]?",
            "f:9: poll.no_news_status: must be one of 204, 304, 408, not 200",
            "f:10: histroy: unknown section, did you mean [history]?",
            "f:12: zzzzzzzz: unknown section; ",
            "f:14: turn.qqqqqqqqq: unknown setting; ",
        ],
    );
    let problems = load_all(file, &[("ENCKE_DEMO", "maybe")], &[("sse.retry_ms", "0")]).unwrap_err();
    assert_eq!(problems.len(), 11);
    assert_eq!(problems.iter().map(|problem| problem.usage).collect::<Vec<_>>()[9..], [false, true]);
}

#[test]
fn files_that_are_no_toml_or_of_another_shape() {
    check_problems("a = 1\nb = [\n", &["f:2:6: not valid TOML: "]);
    check_problems("demo = true\ndemo = true", &["f:2:1: not valid TOML: "]);
    check_problems("limits = 3", &["f:1: limits: is a section"]);
    check_problems("[[limits]]", &["f:1: limits: is a section"]);
    check_problems("[heartbeat]\na = 1", &["f:1: heartbeat: must be a time from"]);
    check_problems("limits.channels.x = 1", &["f:1: limits.channels: must be a whole number"]);
    check_problems(
        "\n\nmessage_bytes = 1",
        &["f:3: message_bytes: unknown setting, did you mean limits.message_bytes?"],
    );
    check_problems("\u{feff}\nheartbeat = \"15\"", &["f:2: heartbeat: must be a time from"]);
    check_problems("", &[]);
}

#[test]
fn addresses() {
    let listen = |text| load_all("", &[], &[("listen", text)]).map(|loaded| loaded.config.listen.to_string());
    for text in ["8080", ":8080", "localhost:8080", " 127.0.0.1:8080 "] {
        assert_eq!(listen(text).unwrap(), "127.0.0.1:8080");
    }
    assert_eq!(listen("[::1]:8080").unwrap(), "[::1]:8080");
    assert_eq!(listen("0.0.0.0:0").unwrap(), "0.0.0.0:0");
    for text in ["", ":", "65536", "127.0.0.1", "::1", "example.com:80", "[::1]"] {
        assert!(listen(text).is_err(), "{text}");
    }
    assert_eq!(load_all("listen = 9000", &[], &[]).unwrap().config.listen.port(), 9000);
    let none = load_all("admin_listen = 9000", &[("ENCKE_ADMIN_LISTEN", "")], &[]).unwrap();
    assert_eq!(none.config.admin_listen, None);
}

#[test]
fn sizes_and_numbers() {
    let size =
        |text: &str| load_all("", &[], &[("history.bytes", text)]).map(|loaded| loaded.config.history.bytes);
    assert_eq!(size("1000"), Ok(1000));
    assert_eq!(size("64KiB"), Ok(64 << 10));
    assert_eq!(size("2 mib"), Ok(2 << 20));
    assert_eq!(size("3GiB"), Ok(3 << 30));
    assert_eq!(size("64KB"), Ok(64 << 10), "a kilobyte is what a kibibyte is");
    assert_eq!(size("64k"), Ok(64 << 10));
    assert_eq!(size("512B"), Ok(512));
    for text in
        ["0", "-1", "KiB", "1TB", "1.5MiB", "1MiBs", "99999999999999999999", "99999999999GiB", "1025GiB"]
    {
        assert!(size(text).is_err(), "{text}");
    }
    let file = load_all("history.bytes = 1_000\nhistory.messages = 0x10", &[], &[]).unwrap().config;
    assert_eq!((file.history.bytes, file.history.messages), (1000, 16));
    check_problems("heartbeat = -1", &["f:1: heartbeat: must be a time from 1 to 3600 seconds, "]);
}

#[test]
fn times() {
    let heartbeat =
        |text: &str| load_all("", &[], &[("heartbeat", text)]).map(|loaded| loaded.config.heartbeat);
    assert_eq!(heartbeat("15"), Ok(15));
    assert_eq!(heartbeat("15s"), Ok(15));
    assert_eq!(heartbeat("2 m"), Ok(120));
    assert_eq!(heartbeat("2min"), Ok(120));
    assert_eq!(heartbeat("1H"), Ok(3600));
    assert_eq!(heartbeat("3000ms"), Ok(3));
    for text in ["0s", "1500ms", "2h", "1d", "s", "1.5s", "15x", "-1s", "18446744073709551615d"] {
        assert!(heartbeat(text).is_err(), "{text}");
    }
    let file = load_all("[sse]\nretry_ms = \"3s\"\n[history]\nseconds = \"1d\"", &[], &[]).unwrap().config;
    assert_eq!((file.sse.retry_ms, file.history.seconds), (3000, 86_400));
    assert_eq!(milliseconds("500ms"), Some(500));
    assert_eq!(milliseconds(" 3 "), Some(3000));
    assert_eq!(milliseconds("soon"), None);
}

#[test]
fn variables_that_nobody_reads_are_told() {
    let told = |names: &[&str]| -> Vec<String> {
        unknown_variables(names.iter().map(ToString::to_string)).iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told(&["ENCKE_HEARTBEET", "HEARTBEET", "ENCKE_HEARTBEAT", "ENCKE_URL", "ENCKE_CONFIG"]),
        ["ENCKE_HEARTBEET: unknown variable, did you mean ENCKE_HEARTBEAT?"]
    );
    assert_eq!(
        told(&["ENCKE_ZZZZZZZZZZZZ"]),
        ["ENCKE_ZZZZZZZZZZZZ: unknown variable; `encke config` shows all settings"]
    );
    let kubernetes = [
        "ENCKE_SERVICE_HOST",
        "ENCKE_SERVICE_PORT",
        "ENCKE_SERVICE_PORT_HTTP",
        "ENCKE_PORT",
        "ENCKE_PORT_8080_TCP",
        "ENCKE_PORT_8080_TCP_ADDR",
    ];
    assert_eq!(told(&kubernetes), [""; 0], "a service named encke puts these into every container");
}

#[test]
fn lists_and_origins() {
    let origins = |text| load_all("", &[("ENCKE_CORS_ORIGINS", text)], &[]).map(|it| it.config.cors.origins);
    assert_eq!(origins("").unwrap(), Vec::<String>::new());
    assert_eq!(
        origins("https://a.example, http://[::1]:80").unwrap(),
        ["https://a.example", "http://[::1]:80"]
    );
    for text in ["a.example", "https://", "https://a.example/", "https://A.example", "*,", "https://*.a"] {
        assert!(origins(text).is_err(), "{text}");
    }
    check_problems("trusted_proxies = \"10.0.0.1\"", &["f:1: trusted_proxies: must be a list"]);
    check_problems("trusted_proxies = [\"10.0.0.1\",\n1]", &["f:1: trusted_proxies: must be a list"]);
}

#[test]
fn the_token_is_shown_nowhere() {
    let file = "[publish]\ntoken = \"hunter2\"";
    let loaded = load_all(file, &[], &[]).unwrap();
    assert_eq!(loaded.config.publish.token, ["hunter2"]);
    assert!(toml(&loaded).contains("# token = \"(redacted)\""));
    assert!(!toml(&loaded).contains("hunter2"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert_eq!(Setting::find("publish.token").unwrap().option(), None);

    for bad in ["hunter 2", "hunter2\n", ""] {
        let problems = load_all(&format!("[publish]\ntoken = {bad:?}"), &[], &[]).unwrap_err();
        assert_eq!(problems[0].place, "encke.toml:2");
        assert!(!problems[0].to_string().contains("hunter"));
    }
}

#[test]
fn of_token_and_token_file_the_stronger_source_counts() {
    let both = "[publish]\ntoken = \"a\"\ntoken_file = \"f\"";
    check_problems(both, &["f:3: publish.token_file: publish.token is given too"]);

    let file = "[publish]\ntoken_file = \"f\"";
    let mut loaded = load_all(file, &[("ENCKE_PUBLISH_TOKEN", "a")], &[]).unwrap();
    assert_eq!(loaded.token_file(), Ok(None));
    assert_eq!(loaded.config.publish.token, ["a"]);

    let option = ("publish.token_file", "f");
    let mut loaded = load_all("", &[("ENCKE_PUBLISH_TOKEN", "a")], &[option]).unwrap();
    assert_eq!(loaded.token_file(), Ok(Some("f".into())));
    loaded.take_token("b\n").unwrap();
    assert_eq!(loaded.config.publish.token, ["b"]);
    loaded.take_token("b\r\nc").unwrap();
    assert_eq!(loaded.config.publish.token, ["b", "c"]);
    for bad in ["", "\n", "two words", "a\n\n"] {
        let problem = loaded.take_token(bad).unwrap_err();
        assert!(
            problem
                .to_string()
                .starts_with("--publish-token-file: publish.token_file: the token in f must be")
        );
    }
}

#[test]
fn what_is_printed_is_a_file_with_the_same_settings() {
    assert_eq!(load_all(&toml(&Loaded::new()), &[], &[]).unwrap().config, Config::default());

    // Every setting but the token, whose value is not printed, away from its default.
    let values: Vec<(&str, &str)> = SETTINGS
        .iter()
        .filter(|setting| !setting.kind.is_secret())
        .map(|setting| (setting.name, other(setting).0))
        .collect();
    let loaded = load_all("", &[], &values).unwrap();
    let printed = toml(&loaded);
    assert_eq!(load_all(&printed, &[], &[]).unwrap().config, loaded.config);
    assert!(printed.contains("# --limits-channels; default 1000000"), "{printed}");
}

#[test]
fn a_section_with_a_switch_is_on_when_it_is_there() {
    let enabled = |file, environment: &[_], options: &[_]| {
        load_all(file, environment, options).unwrap().config.fdajax.enabled
    };
    assert!(!enabled("", &[], &[]));
    assert!(enabled("[fdajax]", &[], &[]));
    assert!(enabled("[fdajax]\nwin_timeout = 5000", &[], &[]));
    assert!(!enabled("[fdajax]\nenabled = false", &[], &[]));
    assert!(enabled("", &[], &[("fdajax.enabled", "true")]));
    assert!(!enabled("[fdajax]", &[("ENCKE_FDAJAX", "false")], &[]));
    assert_eq!(Setting::find("fdajax.enabled").unwrap().option().unwrap(), "fdajax");
    assert_eq!(load_all("[fdajax]", &[], &[]).unwrap().origin("fdajax.enabled").to_string(), "encke.toml:1");
}

#[test]
fn several_publish_tokens() {
    let tokens = |file, environment: &[_]| load_all(file, environment, &[]).unwrap().config.publish.token;
    assert_eq!(tokens("[publish]\ntoken = [\"new\", \"old\"]", &[]), ["new", "old"]);
    assert_eq!(tokens("", &[("ENCKE_PUBLISH_TOKEN", " new  old\n")]), ["new", "old"]);
    check_problems("[publish]\ntoken = []", &["f:2: publish.token: must be one or several tokens"]);
    check_problems("[publish]\ntoken = [\"a b\"]", &["f:2: publish.token: must be one or several tokens"]);
}

#[test]
fn rows_of_tables_are_read_in_order_and_printed_back() {
    let file = "[tokens]\nissuer = \"https://app.example\"\n\
                [[tokens.keys]]\nid = \"2026-11\"\nalgorithm = \"ES256\"\nfile = \"app.pub.pem\"\n\
                [[tokens.keys]]\nid = \"2026-10\"\nalgorithm = \"HS256\"\nfile = \"old.key\"\n\
                [[channels]]\nmatch = \"chat/**\"\nsubscribe = \"token\"\npublish = \"publishers\"\n\
                [[channels]]\nmatch = \"**\"\n";
    let loaded = load_all(file, &[], &[]).unwrap();
    let config = &loaded.config;
    let rules: Vec<_> = config.channels.iter().map(|it| (&*it.pattern, it.subscribe, it.publish)).collect();
    assert_eq!(rules, [("chat/**", Who::Token, Some(Who::Publishers)), ("**", Who::Anyone, None)]);
    let keys: Vec<_> = config.token_keys.iter().map(|key| (key.id.as_deref(), key.algorithm)).collect();
    assert_eq!(keys, [(Some("2026-11"), Some(Algorithm::ES256)), (Some("2026-10"), Some(Algorithm::HS256))]);
    let printed = toml(&loaded);
    assert_eq!(load_all(&printed, &[], &[]).unwrap().config, loaded.config, "{printed}");
    let keeps = "[[channels]]\nmatch = \"a\"\nhistory = { messages = 5, seconds = \"2h\", bytes = \"1MiB\" }\n\
                 [[channels]]\nmatch = \"b\"\n[channels.history]\nseconds = 9\n";
    let kept = load_all(keeps, &[], &[]).unwrap();
    let expected = Keeps { messages: Some(5), seconds: Some(7200), bytes: Some(1 << 20) };
    assert_eq!(kept.config.channels[0].history, expected);
    assert_eq!(kept.config.channels[1].history, Keeps { seconds: Some(9), ..Keeps::default() });
    assert_eq!(load_all(&toml(&kept), &[], &[]).unwrap().config, kept.config);
    assert!(
        printed.lines().any(|line| line.starts_with("[[tokens.keys]]") && line.ends_with("# encke.toml:3"))
    );
}

#[test]
fn what_is_wrong_in_rows_is_told_with_its_line() {
    check_problems("channels = 3", &["f:1: channels: comes as rows; write [[channels]]"]);
    check_problems("[channels]\nmatch = \"a\"", &["f:1: channels: comes as rows; write [[channels]]"]);
    check_problems(
        "[[chanels]]\nmatch = \"a\"",
        &["f:1: chanels: unknown section, did you mean [[channels]]?"],
    );
    check_problems(
        "[[channels]]\nmach = \"a\"\nsubscribe = \"nobody\"\n[[channels]]\nmatch = \"a//b\"\nzzzzzzzz = 1",
        &[
            "f:2: channels.mach: unknown setting, did you mean match?",
            "f:3: channels.subscribe: must be one of anyone, token, hook, publishers, not \"nobody\"",
            "f:5: channels.match: must be channels such as",
            "f:6: channels.zzzzzzzz: unknown setting; a row of [[channels]] has match, subscribe, publish",
        ],
    );
    for wrong in ["5", "{ message = 5 }", "{ messages = 0 }", "{ bytes = \"x\" }", "{ seconds = -1 }"] {
        let file = format!("[[channels]]\nmatch = \"a\"\nhistory = {wrong}");
        check_problems(&file, &["f:3: channels.history: must be { messages = …, seconds = …, bytes = … }"]);
    }
    check_problems("[tokens]\nkeys = 1", &["f:2: tokens.keys: comes as rows; write [[tokens.keys]]"]);
}

#[test]
fn settings_that_cannot_work_or_leave_open_what_they_seem_to_close_are_refused() {
    let rule = |pattern: &str, subscribe: &str| {
        format!("[[channels]]\nmatch = \"{pattern}\"\nsubscribe = \"{subscribe}\"\n")
    };
    let key = |id: &str| format!("[[tokens.keys]]\nid = \"{id}\"\nalgorithm = \"ES256\"\nfile = \"k\"\n");
    check_problems("[[channels]]\nsubscribe = \"anyone\"", &["f:1: channels: a rule needs match"]);
    check_problems(&rule("a", "anyone"), &[]);
    check_problems(&rule("a", "publishers"), &["f:1: channels: a rule restricts subscribing"]);
    check_problems(
        &(rule("a", "publishers") + &rule("b/**", "anyone")),
        &["f:4: channels: a rule restricts subscribing"],
    );
    check_problems(&(rule("a", "publishers") + &rule("**", "anyone")), &[]);
    check_problems(&rule("**", "token"), &["f:1: channels.subscribe: \"token\" needs a key"]);
    check_problems(
        "[[channels]]\nmatch = \"a\"\npublish = \"token\"",
        &["f:1: channels.publish: \"token\" needs a key"],
    );
    check_problems(&(key("1") + &rule("**", "token")), &[]);
    let presence = "[engine]\nurl = \"redis://127.0.0.1\"\n[[channels]]\nmatch = \"a\"\npresence = ";
    check_problems(&format!("{presence}\"public\""), &[]);
    check_problems(
        "[[channels]]\nmatch = \"a\"\npresence = \"all\"",
        &["f:3: channels.presence: must be true, false or"],
    );
    check_problems(&(key("1") + &key("2")), &[]);
    check_problems(&(key("1") + &key("1")), &["f:5: tokens.keys: two keys have the id \"1\""]);
    check_problems("[[tokens.keys]]\nalgorithm = \"ES256\"", &["f:1: tokens.keys: a key needs file"]);
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let warnings = |file: &str| load_all(file, &[], &[]).unwrap().warnings();
    assert!(warnings("[publish]\ntoken = \"short\"")[0].contains("fewer than 16 characters"));
    assert_eq!(warnings("[publish]\ntoken = \"0123456789abcdef\""), [""; 0]);
}
