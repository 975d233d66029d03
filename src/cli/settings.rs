//! The settings as options, made from the table in `config`, and the loading of all sources.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::Error;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::broker::access::{MercureTokens, Rules, Tokens};
use crate::config::{
    self, Algorithm, Config, File, KeyText, Loaded, Origin, Problem, SETTINGS, Setting, Sources,
};

/// The options that are settings, as far as they were given.
#[derive(Debug, Clone, Default)]
pub struct Options {
    file: Option<PathBuf>,
    given: Vec<(&'static Setting, String)>,
}

impl Options {
    /// All sources together; or everything that is wrong with them.
    pub fn load(&self) -> Result<Loaded, Vec<Problem>> {
        self.load_from(&|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// [`Options::load`] with an environment of one's own.
    pub fn load_from(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Vec<Problem>> {
        let from_environment = || environment("ENCKE_CONFIG").filter(|name| !name.is_empty());
        let path = self.file.clone().or_else(|| from_environment().map(PathBuf::from));
        let name = path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let text = path.map(|path| read(&path)).transpose().map_err(|problem| vec![problem])?;
        let file = text.as_ref().map(|text| File { name: &name, text });

        let mut loaded = config::load(&Sources { options: &self.given, environment, file })?;
        // A file that is missing or empty is a failure even when an option named it.
        read_token(&mut loaded).map_err(|problem| vec![Problem { usage: false, ..problem }])?;
        read_engine_password(&mut loaded).map_err(|problem| vec![Problem { usage: false, ..problem }])?;
        read_keys(&mut loaded)?;
        match loaded.contradictions() {
            problems if problems.is_empty() => Ok(loaded),
            problems => Err(problems),
        }
    }

    /// The settings of that file, or of the one that the environment names, and of the environment.
    pub fn of_file(file: Option<PathBuf>) -> Self {
        Self { file, given: Vec::new() }
    }
}

/// Reads the keys of tokens, and everything that is wrong with them.
pub fn read_keys(loaded: &mut Loaded) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    for row in 0..loaded.config.token_keys.len() {
        let Some(file) = &loaded.config.token_keys[row].file else { continue };
        match std::fs::read(loaded.beside(file)) {
            Ok(bytes) => loaded.config.token_keys[row].text = KeyText(bytes),
            Err(error) => {
                problems
                    .push(loaded.key_problem(row, &format!("{} cannot be read: {error}", file.display())));
            }
        }
    }
    problems.extend(read_mercure_keys(loaded));
    if problems.is_empty() {
        let wrong = Tokens::new(&loaded.config).err().unwrap_or_default();
        problems = wrong.iter().map(|(row, text)| loaded.key_problem(*row, text)).collect();
        if let Err((name, text)) = MercureTokens::new(&loaded.config) {
            problems.push(Problem::new(loaded.origin(name), format!("{name}: {text}")));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Reads the files with the keys of Mercure.
fn read_mercure_keys(loaded: &mut Loaded) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, is_publisher) in [("mercure.publisher_key_file", true), ("mercure.subscriber_key_file", false)]
    {
        let mercure = &loaded.config.mercure;
        let (file, key) = match is_publisher {
            true => (&mercure.publisher_key_file, &mercure.publisher_key),
            false => (&mercure.subscriber_key_file, &mercure.subscriber_key),
        };
        let Some(file) = file.clone() else { continue };
        let mut report = |text: String| {
            problems.push(Problem::new(loaded.origin(name), format!("{name}: {text}")));
        };
        if key.is_some() {
            report("the key itself is given too; give one of them".into());
            continue;
        }
        match std::fs::read_to_string(loaded.beside(&file)) {
            Ok(text) if is_publisher => loaded.config.mercure.publisher_key = Some(text),
            Ok(text) => loaded.config.mercure.subscriber_key = Some(text),
            Err(error) => report(format!("{} cannot be read: {error}", file.display())),
        }
    }
    problems
}

/// What works, and is probably not meant.
pub fn warnings(loaded: &Loaded) -> Vec<String> {
    let config = &loaded.config;
    let mut warnings = loaded.warnings();
    let rules = Rules::new(config);
    warnings.extend(rules.unreachable().map(|(row, pattern, earlier)| {
        format!(
            "{}: channels: no channel reaches the rule for {pattern:?}: the one for {earlier:?} stands before it",
            loaded.row("channels", row)
        )
    }));
    let secrets = config.token_keys.iter().filter(|key| key.algorithm.is_some_and(Algorithm::has_secret));
    let secrets = secrets.filter_map(|key| key.file.as_ref()).map(|file| loaded.beside(file));
    let token_file = config.publish.token_file.clone();
    let password_file = config.engine.password_file.as_ref().map(|path| loaded.beside(path));
    let own = match loaded.origin("publish.token") {
        Origin::File { name, .. } => Some(PathBuf::from(name)).filter(|_| token_file.is_none()),
        _ => None,
    };
    warnings.extend(
        secrets
            .chain(token_file)
            .chain(password_file)
            .chain(own)
            .filter(|path| others_may_read(path))
            .map(|path| format!("{} holds a secret and may be read by others: chmod 600 it", path.display())),
    );
    warnings
}

/// Whether somebody beside the owner and the group may read a file.
fn others_may_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0)
}

/// The text of a configuration file.
pub fn read(path: &Path) -> Result<String, Problem> {
    let problem = |text| Problem { place: path.display().to_string(), text, usage: false };
    let bytes = std::fs::read(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
        problem(format!("is not UTF-8 text (line {line})"))
    })
}

fn read_token(loaded: &mut Loaded) -> Result<(), Problem> {
    let Some(path) = loaded.token_file()? else { return Ok(()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => loaded.take_token(&text),
        Err(error) => {
            let text = format!("publish.token_file: {} cannot be read: {error}", path.display());
            Err(Problem::new(loaded.origin("publish.token_file"), text))
        }
    }
}

fn read_engine_password(loaded: &mut Loaded) -> Result<(), Problem> {
    // What is given twice is told with the other contradictions.
    let engine = &loaded.config.engine;
    let Some(path) = engine.password_file.clone().filter(|_| engine.password.is_none()) else {
        return Ok(());
    };
    match std::fs::read_to_string(loaded.beside(&path)) {
        Ok(text) => loaded.take_engine_password(&text),
        Err(error) => {
            let text = format!("engine.password_file: {} cannot be read: {error}", path.display());
            Err(Problem::new(loaded.origin("engine.password_file"), text))
        }
    }
}

/// Tells of variables that look like settings and are none.
pub fn warn_of_variables() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for problem in config::unknown_variables(names) {
        eprintln!("encke: warning: {problem}");
    }
}

/// Tells everything that is wrong; the exit code says whether the command line is.
pub fn report(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("encke: {problem}");
    }
    ExitCode::from(if problems.iter().any(|problem| problem.usage) { 2 } else { 1 })
}

/// What clap wants to borrow for ever.
struct Words {
    setting: &'static Setting,
    option: String,
    heading: String,
}

static WORDS: LazyLock<Vec<Words>> = LazyLock::new(|| {
    let words = |setting: &'static Setting| {
        let heading = match setting.section {
            Some(section) => format!("[{}] {}", section.name, section.meaning().trim_end_matches('.')),
            None => "Server".into(),
        };
        Some(Words { setting, option: setting.option()?, heading })
    };
    // Those of FDAjax are many and for few: they come last.
    let (last, first): (Vec<_>, Vec<_>) =
        SETTINGS.iter().partition(|setting| setting.name.contains("fdajax"));
    first.into_iter().chain(last).filter_map(words).collect()
});

fn arg(words: &'static Words) -> Arg {
    let setting = words.setting;
    let arg = Arg::new(setting.name)
        .long(words.option.as_str())
        .value_name(setting.kind.placeholder())
        .help(help(setting))
        .help_heading(words.heading.as_str())
        .action(ArgAction::Set)
        .allow_negative_numbers(true); // for our message instead of clap's
    if setting.kind.is_flag() {
        return arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true);
    }
    arg
}

fn help(setting: &Setting) -> String {
    let meaning = setting.meaning().trim_end_matches('.');
    match setting.show(&Config::default()).trim_matches('"') {
        "" | "[]" | "false" => meaning.into(),
        default => format!("{meaning} [{}]", default.trim_matches(['[', ']']).trim_matches('"')),
    }
}

impl Args for Options {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Read settings from this TOML file; ENCKE_CONFIG names it too");
        command.arg(file).args(WORDS.iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let value = |setting: &Setting| matches.get_one::<String>(setting.name).cloned();
        let given = WORDS.iter().filter_map(|words| Some((words.setting, value(words.setting)?))).collect();
        Ok(Self { file: matches.get_one("config").cloned(), given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
