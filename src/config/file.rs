//! The TOML file: finds the settings in it, and for each thing that is wrong its line.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::setting::shorten;
use super::{Column, File, Given, Loaded, Origin, Problem, SETTINGS, Section, Setting, TABLES, Table};

/// Puts the values of `file` into `loaded` and reports everything that is wrong, ordered by line.
pub fn apply(file: File<'_>, loaded: &mut Loaded) -> Vec<Problem> {
    // Editors of other systems leave a byte order mark; offsets then count from behind it.
    let file = File { text: file.text.strip_prefix('\u{feff}').unwrap_or(file.text), ..file };
    let document = match DeTable::parse(file.text) {
        Ok(document) => document,
        Err(error) => return vec![syntax(file, &error)],
    };
    let mut walk = Walk { file, loaded, problems: Vec::new() };
    walk.top(document.get_ref());
    walk.problems.sort_by_key(|(line, _)| *line);
    walk.problems.into_iter().map(|(_, problem)| problem).collect()
}

struct Walk<'a> {
    file: File<'a>,
    loaded: &'a mut Loaded,
    problems: Vec<(usize, Problem)>,
}

type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

impl Walk<'_> {
    fn top(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            if let Some(table) = Table::find(name) {
                self.table(table, key, value);
                continue;
            }
            match (section(name), value.get_ref().as_table()) {
                (Some(section), Some(table)) => self.section(section, key, table),
                (Some(_), None) => {
                    let text = format!("{name}: is a section; write [{name}] and its settings below");
                    self.report(key.span().start, text);
                }
                (None, _) if Setting::find(name).is_none() && holds_tables(value) => {
                    self.report(key.span().start, unknown_section(name));
                }
                (None, _) => self.entry(name, key, value),
            }
        }
    }

    fn section(&mut self, section: Section, key: &Key<'_>, table: &DeTable<'_>) {
        let switch = SETTINGS.iter().find(|setting| setting.section == Some(section) && setting.is_switch());
        if let Some(switch) = switch {
            let line = line(self.file.text, key.span().start);
            let origin = Origin::File { name: self.file.name.into(), line };
            let given = self.loaded.give(switch, Given::Text("true"), "true", origin);
            self.problems.extend(given.err().map(|problem| (line, problem)));
        }
        for (key, value) in table {
            let name = format!("{}.{}", section.name, key.get_ref());
            match Table::find(&name) {
                Some(table) => self.table(table, key, value),
                None => self.entry(&name, key, value),
            }
        }
    }

    /// The rows of an array of tables.
    fn table(&mut self, table: &'static Table, key: &Key<'_>, value: &Value<'_>) {
        let name = table.name;
        let rows = value.get_ref().as_array().map(|array| {
            array
                .iter()
                .map(|row| Some((row.span().start, row.get_ref().as_table()?)))
                .collect::<Option<Vec<_>>>()
        });
        let Some(Some(rows)) = rows else {
            let text =
                format!("{name}: comes as rows; write [[{name}]] and its settings below, once for each");
            return self.report(key.span().start, text);
        };
        for (start, row) in rows {
            let line = line(self.file.text, start);
            (table.add)(&mut self.loaded.config);
            self.loaded.add_row(name, Origin::File { name: self.file.name.into(), line });
            for (key, value) in row {
                self.cell(table, key, value);
            }
        }
    }

    /// One setting of a row.
    fn cell(&mut self, table: &Table, key: &Key<'_>, value: &Value<'_>) {
        let (name, key_name) = (table.name, &**key.get_ref());
        let Some(column) = table.columns.iter().find(|column| column.key == key_name) else {
            return self.report(key.span().start, unknown_column(table, key_name));
        };
        if !(column.set)(&mut self.loaded.config, Given::Toml(value.get_ref())) {
            let written = self.file.text.get(value.span()).unwrap_or_default();
            let text =
                format!("{name}.{key_name}: must be {}, not {}", column.kind.allowed(), shorten(written));
            self.report(value.span().start, text);
        }
    }

    fn entry(&mut self, name: &str, key: &Key<'_>, value: &Value<'_>) {
        let Some(setting) = Setting::find(name) else {
            return self.report(key.span().start, unknown(name));
        };
        let line = line(self.file.text, value.span().start);
        let origin = Origin::File { name: self.file.name.into(), line };
        let written = self.file.text.get(value.span()).unwrap_or_default();
        if let Err(problem) = self.loaded.give(setting, Given::Toml(value.get_ref()), written, origin) {
            self.problems.push((line, problem));
        }
    }

    fn report(&mut self, offset: usize, text: String) {
        let line = line(self.file.text, offset);
        let origin = Origin::File { name: self.file.name.into(), line };
        self.problems.push((line, Problem::new(&origin, text)));
    }
}

/// Whether a value is a table, or an array of such.
fn holds_tables(value: &Value<'_>) -> bool {
    let is_table = |value: &Value<'_>| value.get_ref().as_table().is_some();
    is_table(value) || value.get_ref().as_array().is_some_and(|array| array.iter().any(is_table))
}

fn syntax(file: File<'_>, error: &toml::de::Error) -> Problem {
    let offset = error.span().map_or(file.text.len(), |span| span.start).min(file.text.len());
    let before = file.text.get(..offset).unwrap_or_default();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Problem {
        place: format!("{}:{}:{column}", file.name, line(file.text, offset)),
        text: format!("not valid TOML: {}", error.message()),
        usage: false,
    }
}

/// The line of a byte offset, counted from 1.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn section(name: &str) -> Option<Section> {
    SETTINGS.iter().filter_map(|setting| setting.section).find(|section| section.name == name)
}

fn unknown_section(name: &str) -> String {
    let sections = SETTINGS.iter().filter_map(|setting| setting.section).map(|section| section.name);
    let nearest =
        sections.chain(TABLES.iter().map(|table| table.name)).map(|near| (distance(name, near), near));
    match nearest.min() {
        Some((changes, nearest)) if changes <= tolerance(name) => match Table::find(nearest) {
            Some(_) => format!("{name}: unknown section, did you mean [[{nearest}]]?"),
            None => format!("{name}: unknown section, did you mean [{nearest}]?"),
        },
        _ => format!("{name}: unknown section; `encke config` shows all of them"),
    }
}

fn unknown_column(table: &Table, key: &str) -> String {
    let name = table.name;
    let misspelled = |column: &&Column| distance(key, column.key);
    match table.columns.iter().min_by_key(misspelled).filter(|near| misspelled(near) <= tolerance(key)) {
        Some(near) => format!("{name}.{key}: unknown setting, did you mean {}?", near.key),
        None => {
            let keys: Vec<&str> = table.columns.iter().map(|column| column.key).collect();
            format!("{name}.{key}: unknown setting; a row of [[{name}]] has {}", keys.join(", "))
        }
    }
}

/// Looks for a name spelled nearly so, or the same key in another section.
fn unknown(name: &str) -> String {
    let key = name.rsplit('.').next().unwrap_or(name);
    let misspelled = |setting: &Setting| distance(name, setting.name);
    let misplaced = |setting: &Setting| distance(key, setting.key()) + 1;
    let nearest = SETTINGS
        .iter()
        .map(|setting| (misspelled(setting).min(misplaced(setting)), setting))
        .min_by_key(|it| it.0);
    match nearest {
        Some((changes, setting)) if changes <= tolerance(key) => {
            let place = if setting.section.is_none() && name.contains('.') {
                ", above the first [section]"
            } else {
                ""
            };
            format!("{name}: unknown setting, did you mean {}{place}?", setting.name)
        }
        _ => format!("{name}: unknown setting; `encke config` shows all of them"),
    }
}

/// The nearest of `names` to `word`, if it looks like a misspelling.
pub fn nearest(word: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let (changes, nearest) = names.map(|name| (distance(word, &name), name)).min()?;
    (changes <= tolerance(word)).then_some(nearest)
}

/// Whether `word` is the known `name` with a slip in it: other capitals, other signs between its words or behind them, one
/// letter too many, too few or another, or two that have changed places. Words of one or two letters are too short to tell.
pub fn is_misspelled(word: &str, name: &str) -> bool {
    let length = |text: &str| plain(text).map(char::len_utf8).sum::<usize>();
    // Nearly all are told apart by that, and a client may send thousands of words.
    if length(word).abs_diff(length(name)) > 1 {
        return false;
    }
    let (word, name) = (&*plain(word).collect::<String>(), &*plain(name).collect::<String>());
    let sorted = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes
    };
    let is_slip = || match distance(word, name) {
        0 | 1 => true,
        2 => sorted(word) == sorted(name),
        _ => false,
    };
    let is_long = word.len() > 2 && name.len() > 2;
    word == name || is_long && is_slip()
}

/// A name without what names of one meaning differ by from one program to the next: case, and signs between words or
/// behind them, such as the `[]` of PHP.
fn plain(name: &str) -> impl Iterator<Item = char> {
    let is_sign = |sign: &char| sign.is_ascii_punctuation() || sign.is_whitespace();
    name.chars().filter(move |char| !is_sign(char)).map(|char| char.to_ascii_lowercase())
}

/// How many changes make a word another one rather than a misspelled one.
fn tolerance(word: &str) -> usize {
    1 + word.len() / 4
}

/// Characters to insert, remove or replace to get from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
