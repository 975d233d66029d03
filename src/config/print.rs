//! The settings as a commented TOML file: for reading, and for saving and using.

use std::fmt::Write;

use super::{Config, Loaded, Origin, Section, Setting, TABLES, Table};

/// Comments behind values begin at this column unless a value is longer.
const COMMENT_COLUMN: usize = 36;
const COMMENT_WIDTH: usize = 100;

/// Every setting with its meaning, its value, where that came from and, where it differs, the default.
/// Secrets are redacted and commented out, so that the saved file does not make the redaction a token.
pub fn toml(loaded: &Loaded) -> String {
    let mut out = String::from(
        "# Every setting of Encke, with its value and where that came from. To use it, save it and start:\n\
         #     encke config > encke.toml; encke --config encke.toml\n\
         # An option wins over the environment, that over the file, that over the default:\n\
         #     --limits-message-bytes 2MiB; ENCKE_LIMITS_MESSAGE_BYTES=2MiB; [limits] message_bytes = \"2MiB\"\n",
    );
    let default = Config::default();
    let mut current = None;
    for (setting, origin) in loaded.settings() {
        if setting.section != current {
            current = setting.section;
            heading(&mut out, current);
        }
        entry(&mut out, setting, origin, &loaded.config, &default);
    }
    for table in TABLES {
        rows(&mut out, table, loaded);
    }
    out
}

/// The rows of a table; where there are none, what could stand there.
fn rows(out: &mut String, table: &Table, loaded: &Loaded) {
    let _ = writeln!(out, "\n\n{}", comment(table.meaning()));
    if table.rows(&loaded.config) == 0 {
        let _ = writeln!(out, "# [[{}]]", table.name);
        for column in table.columns {
            let _ = writeln!(out, "{}", comment(&format!("{} = …: {}", column.key, column.meaning())));
        }
    }
    for row in 0..table.rows(&loaded.config) {
        let name = format!("[[{}]]", table.name);
        let origin = one_line(&loaded.row(table.name, row));
        let _ = writeln!(out, "{}{name:COMMENT_COLUMN$} # {origin}", if row > 0 { "\n" } else { "" });
        for column in table.columns {
            if let Some(value) = (column.show)(&loaded.config, row) {
                let _ = writeln!(out, "{} = {value}", column.key);
            }
        }
    }
}

fn heading(out: &mut String, section: Option<Section>) {
    if let Some(section) = section {
        let _ = write!(out, "\n\n{}\n[{}]", comment(section.meaning()), section.name);
    }
}

fn entry(out: &mut String, setting: &Setting, origin: &Origin, config: &Config, default: &Config) {
    let hidden = if setting.kind.is_secret() { "# " } else { "" };
    let line = format!("{hidden}{} = {}", setting.key(), setting.show(config));
    let _ = write!(out, "\n{}\n{line:COMMENT_COLUMN$} # ", comment(setting.meaning()));
    let _ = match origin {
        Origin::Default => writeln!(out, "default"),
        origin => writeln!(out, "{}; default {}", one_line(origin), setting.show(default)),
    };
}

/// Comment lines no wider than a terminal mostly is.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < COMMENT_WIDTH => *line += &format!(" {word}"),
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n")
}

/// A file's name may hold anything, a comment may not.
fn one_line(origin: &Origin) -> String {
    origin.to_string().replace(char::is_control, "?")
}
