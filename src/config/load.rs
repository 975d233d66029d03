//! Where values come from, and which of them wins: option, environment, file, default.
//!
//! The sources arrive as texts. Everything that is wrong is reported, not only the first thing, because a
//! server that refuses to start five times in a row is no help. Variables that begin with `ENCKE_` and are no
//! setting are no error, but [`unknown_variables`] tells of them.

use super::{File, Given, Loaded, Origin, Problem, SETTINGS, Setting, access, file};
use std::path::Path;

/// Everything values can come from.
pub struct Sources<'a> {
    /// Options that were given, with their values.
    pub options: &'a [(&'static Setting, String)],
    /// The environment: the value of a variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The configuration file.
    pub file: Option<File<'a>>,
}

/// All sources together, the weakest first so that the stronger ones replace its values. A bad value is a
/// problem even where a stronger source replaces it.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Vec<Problem>> {
    let mut loaded = Loaded::new();
    loaded.folder =
        sources.file.and_then(|file| Path::new(file.name).parent()).map(Into::into).unwrap_or_default();
    let mut problems = sources.file.map(|file| file::apply(file, &mut loaded)).unwrap_or_default();
    for setting in SETTINGS {
        let variable = setting.variable();
        let Some(value) = (sources.environment)(&variable) else { continue };
        let origin = Origin::Environment(variable);
        problems.extend(loaded.give(setting, Given::Text(&value), &value, origin).err());
    }
    for (setting, value) in sources.options {
        let origin = Origin::Option(format!("--{}", setting.option().unwrap_or_default()));
        problems.extend(loaded.give(setting, Given::Text(value), value, origin).err());
    }
    if problems.is_empty() {
        problems = access::problems(&loaded);
    }
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// Variables of this program that are no settings.
const OTHER_VARIABLES: [&str; 2] = ["ENCKE_CONFIG", "ENCKE_URL"];

/// Those of the variables `names` that look as if they were for this program and that it does not know. Kubernetes puts
/// its own into the environment for a service named "encke" (`ENCKE_PORT`, `ENCKE_SERVICE_HOST`, …), which mean nothing.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<Problem> {
    let known: Vec<String> =
        SETTINGS.iter().map(Setting::variable).chain(OTHER_VARIABLES.map(str::to_owned)).collect();
    let of_kubernetes = |name: &str| {
        let rest = name.trim_start_matches("ENCKE_");
        rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
    };
    let unknown = |name: &String| name.starts_with("ENCKE_") && !known.contains(name) && !of_kubernetes(name);
    let mut problems: Vec<Problem> = names
        .filter(unknown)
        .map(|name| {
            let text = match file::nearest(&name, known.iter().cloned()) {
                Some(nearest) => format!("unknown variable, did you mean {nearest}?"),
                None => "unknown variable; `encke config` shows all settings".to_owned(),
            };
            Problem { place: name, text, usage: false }
        })
        .collect();
    problems.sort_by(|one, other| one.place.cmp(&other.place));
    problems
}

/// Everything that is wrong with a file, ordered by line.
pub fn check(file: File<'_>) -> Vec<Problem> {
    let mut loaded = Loaded::new();
    let mut problems = file::apply(file, &mut loaded);
    problems.extend(loaded.token_file().err());
    problems.extend(loaded.contradictions());
    if problems.is_empty() {
        problems = access::problems(&loaded);
    }
    problems
}
