//! Where values came from, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::kind::{Describe, Secret};
use super::{Config, Given, SETTINGS, Setting};

/// Where a value comes from; what is further down wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// A line of the configuration file.
    File {
        /// The file's name as it was given.
        name: String,
        /// Line, counted from 1.
        line: usize,
    },
    /// The environment variable of that name.
    Environment(String),
    /// The option of that name, with its dashes.
    Option(String),
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Option(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment(name) | Self::Option(name) => f.write_str(name),
        }
    }
}

/// Something that must be put right before the server starts: `encke.toml:3: heartbeat: must be …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is: `encke.toml:3`, `ENCKE_HEARTBEAT`, `--heartbeat`.
    pub place: String,
    /// What it is and what to do.
    pub text: String,
    /// Whether the command line is at fault.
    pub usage: bool,
}

impl Problem {
    /// A problem with what `origin` gave.
    pub fn new(origin: &Origin, text: String) -> Self {
        Self { place: origin.to_string(), text, usage: matches!(origin, Origin::Option(_)) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// A configuration file that was read.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// What it holds.
    pub text: &'a str,
}

/// The settings, and where each of them came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    origins: Vec<Origin>,
    /// Where the rows of each table begin.
    rows: BTreeMap<&'static str, Vec<Origin>>,
    /// Where the file of settings is.
    pub(super) folder: PathBuf,
}

impl Loaded {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            config: Config::default(),
            origins: vec![Origin::Default; SETTINGS.len()],
            rows: BTreeMap::new(),
            folder: PathBuf::new(),
        }
    }

    /// Every setting with the origin of its value.
    pub fn settings(&self) -> impl Iterator<Item = (&'static Setting, &Origin)> {
        SETTINGS.iter().zip(&self.origins)
    }

    /// Where the value of the setting `name` comes from.
    pub fn origin(&self, name: &str) -> &Origin {
        self.settings()
            .find(|(setting, _)| setting.name == name)
            .map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// Where each row of a table comes from.
    pub(super) fn rows(&self, table: &str) -> &[Origin] {
        self.rows.get(table).map_or(&[], Vec::as_slice)
    }

    /// Where a row of a table comes from.
    pub fn row(&self, table: &str, row: usize) -> Origin {
        self.rows(table).get(row).cloned().unwrap_or(Origin::Default)
    }

    /// Notes where a row that was added comes from.
    pub(super) fn add_row(&mut self, table: &'static str, origin: Origin) {
        self.rows.entry(table).or_default().push(origin);
    }

    /// Where the file `path` is, if the settings name it: beside their own file unless it says from the root.
    pub fn beside(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// A problem with the key in row `row` of `[[tokens.keys]]`.
    pub fn key_problem(&self, row: usize, text: &str) -> Problem {
        Problem::new(&self.row("tokens.keys", row), format!("tokens.keys: {text}"))
    }

    pub(super) fn give(
        &mut self,
        setting: &Setting,
        given: Given<'_>,
        written: &str,
        origin: Origin,
    ) -> Result<(), Problem> {
        match setting.set(&mut self.config, given, written) {
            Ok(()) => {
                self.set_origin(setting.name, origin);
                Ok(())
            }
            Err(text) => Err(Problem::new(&origin, text)),
        }
    }

    /// What does not fit together, though each setting for itself is good.
    pub fn contradictions(&self) -> Vec<Problem> {
        let tls = &self.config.tls;
        let mut problems = Vec::new();
        if tls.certificate.len() != tls.key.len() {
            let (certificates, keys) = (tls.certificate.len(), tls.key.len());
            let text =
                format!("tls.key: {keys} keys for {certificates} certificates; each certificate has its key");
            let name = if certificates < keys { "tls.key" } else { "tls.certificate" };
            problems.push(Problem::new(self.origin(name), text));
        } else if tls.listen.is_some() && tls.certificate.is_empty() {
            let text = "tls.listen: needs tls.certificate and tls.key";
            problems.push(Problem::new(self.origin("tls.listen"), text.into()));
        }
        let engine = &self.config.engine;
        if engine.url.is_some() && self.config.store.dir.is_some() {
            let text = "engine.url: store.dir is given too; a history is on this machine's disk, or shared";
            problems.push(Problem::new(self.origin("engine.url"), text.into()));
        }
        if engine.password_file.is_some() && *self.origin("engine.password") != Origin::Default {
            let text = "engine.password_file: engine.password is given too; give one of them";
            problems.push(Problem::new(self.origin("engine.password_file"), text.into()));
        }
        problems
    }

    /// Takes the password of the engine from the text of its file.
    pub fn take_engine_password(&mut self, text: &str) -> Result<(), Problem> {
        let origin = self.origin("engine.password_file").clone();
        let line = text.strip_suffix('\n').unwrap_or(text);
        match Secret::parse(line.strip_suffix('\r').unwrap_or(line)) {
            Some(password) => {
                self.config.engine.password = Some(password);
                Ok(())
            }
            None => {
                let text = format!("engine.password_file: the password in it must be {}", Secret.allowed());
                Err(Problem::new(&origin, text))
            }
        }
    }

    /// The file to read the token from, if `publish.token_file` is what counts. When both settings are
    /// given, the one from the stronger source does, and the other is forgotten.
    pub fn token_file(&mut self) -> Result<Option<PathBuf>, Problem> {
        let (token, file) = (self.origin("publish.token").clone(), self.origin("publish.token_file").clone());
        let publish = &mut self.config.publish;
        if publish.token.is_empty() || publish.token_file.is_none() {
            return Ok(publish.token_file.clone());
        }
        if token.rank() == file.rank() {
            let text = "publish.token_file: publish.token is given too; give one of them";
            return Err(Problem::new(&file, text.into()));
        }
        if token.rank() > file.rank() {
            publish.token_file = None;
            self.set_origin("publish.token_file", token);
        }
        Ok(self.config.publish.token_file.clone())
    }

    /// Takes the tokens from the text of that file, one a line.
    pub fn take_token(&mut self, text: &str) -> Result<(), Problem> {
        let origin = self.origin("publish.token_file").clone();
        let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let tokens: Option<Vec<String>> =
            lines.map(|line| Secret::parse(line.strip_suffix('\r').unwrap_or(line))).collect();
        match tokens {
            Some(tokens) => {
                self.config.publish.token = tokens;
                self.set_origin("publish.token", origin);
                Ok(())
            }
            None => {
                let file = self.config.publish.token_file.clone().unwrap_or_default();
                let text = format!(
                    "publish.token_file: the token in {} must be {}",
                    file.display(),
                    Secret.allowed()
                );
                Err(Problem::new(&origin, text))
            }
        }
    }

    fn set_origin(&mut self, name: &str, origin: Origin) {
        if let Some(index) = SETTINGS.iter().position(|setting| setting.name == name) {
            self.origins[index] = origin;
        }
    }
}

impl Default for Loaded {
    fn default() -> Self {
        Self::new()
    }
}
