//! The modules of the source, and what each of them imports: by `use`, grouped or not, renamed or not, and by paths in the
//! code. A name that a module takes from elsewhere and hands on is that of the module where it is from.

use std::collections::{BTreeMap, BTreeSet};

/// A path from the root of the crate, name by name.
type Path = Vec<String>;

/// What a module names.
#[derive(Default)]
struct Named {
    /// All of it.
    all: Vec<Path>,
    /// What it hands on, by the name that this has there.
    handed_on: BTreeMap<String, Path>,
}

/// All modules.
pub struct Modules(BTreeMap<Path, Named>);

impl Modules {
    /// Those of the files, of each the path from `src` and the code.
    pub fn of(files: impl Iterator<Item = (String, String)>) -> Self {
        let files: BTreeMap<Path, String> = files
            .map(|(path, code)| (module_of(&path), code))
            .filter(|(module, _)| !module.is_empty())
            .collect();
        let known: BTreeSet<Path> = files.keys().cloned().collect();
        Self(files.iter().map(|(module, code)| (module.clone(), named_in(module, code, &known))).collect())
    }

    /// What each module imports from others.
    pub fn imports(&self) -> impl Iterator<Item = (&Path, Path)> {
        let of = |named: &Named| named.all.iter().map(|path| self.home(path)).collect::<BTreeSet<_>>();
        let all =
            self.0.iter().flat_map(move |(module, named)| of(named).into_iter().map(move |to| (module, to)));
        all.filter(|(module, target)| *module != target)
    }

    /// The module where that is from.
    fn home(&self, path: &Path) -> Path {
        let mut path = path.clone();
        // Nothing is handed on so often.
        for _ in 0..8 {
            let depth = (0..=path.len()).rev().find(|&depth| self.0.contains_key(&path[..depth]));
            let depth = depth.unwrap_or_default();
            let module = path[..depth].to_vec();
            let Some(from) = path.get(depth).and_then(|name| self.0.get(&module)?.handed_on.get(name)) else {
                return module;
            };
            path = from.clone();
        }
        path
    }

    /// Of each folder, what its parts import from each other, if it goes round in a circle somewhere: a file on another's
    /// behalf. What a module imports from those around it, or from those that it consists of, is no circle: they are one.
    pub fn circles(&self) -> Vec<String> {
        let mut folders: BTreeMap<Path, BTreeMap<(String, String), String>> = BTreeMap::new();
        for (module, target) in self.imports() {
            let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(common), target.get(common))
                && common > 0
            {
                let shown = format!("{} imports {}", module.join("::"), target.join("::"));
                let edges = folders.entry(module[..common].to_vec()).or_default();
                edges.insert((from.clone(), to.clone()), shown);
            }
        }
        folders.into_values().flat_map(|edges| in_circles(edges).into_values()).collect()
    }
}

/// The edges between nodes from which one comes back to where one was, or that lie between such.
fn in_circles(mut edges: BTreeMap<(String, String), String>) -> BTreeMap<(String, String), String> {
    loop {
        let before = edges.len();
        let (from, to): (BTreeSet<String>, BTreeSet<String>) = edges.keys().cloned().unzip();
        edges.retain(|(one, other), _| from.contains(other) && to.contains(one));
        if edges.len() == before {
            return edges;
        }
    }
}

fn module_of(path: &str) -> Path {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "main" | "lib" => Vec::new(),
        _ => path.split('/').map(str::to_owned).collect(),
    }
}

/// What a file names of this crate.
fn named_in(module: &Path, code: &str, known: &BTreeSet<Path>) -> Named {
    let mut named = Named::default();
    let mut rest = String::new();
    for (index, part) in code.split("use ").enumerate() {
        let before = rest.trim_end_matches("pub ").trim_end_matches(' ');
        let is_use = index > 0 && (before.is_empty() || before.ends_with(['\n', ';', '}', '{', ')']));
        let (tree, behind) = part.split_once(';').filter(|_| is_use).unwrap_or(("", part));
        let is_public = rest.ends_with("pub ") || rest.ends_with(") ");
        for (path, name) in leaves(tree) {
            let Some(path) = absolute(module, &path, known) else { continue };
            if is_public {
                named.handed_on.insert(name, path.clone());
            }
            named.all.push(path);
        }
        rest.push_str(behind);
    }
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let words =
        rest.split(|c| !is_part(c)).filter(|word| word.starts_with("crate::") || word.starts_with("super::"));
    let paths = words.map(|word| word.split("::").map(str::to_owned).collect::<Path>());
    named.all.extend(paths.filter_map(|path| absolute(module, &path, known)));
    named
}

/// The paths in a tree of `use`, and what each is called from then on.
fn leaves(tree: &str) -> Vec<(Path, String)> {
    let (mut found, mut around, mut path, mut name) = (Vec::new(), vec![Path::new()], Path::new(), None);
    let spaced = tree.replace('{', " { ").replace('}', " } ").replace(',', " , ").replace("::", " ");
    let mut words = spaced.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "as" => name = words.next().map(str::to_owned),
            "{" => around.push(path.clone()),
            "}" | "," => {
                emit(&mut found, &mut path, &mut name, around.last().map_or(0, Vec::len));
                if word == "}" {
                    around.pop();
                }
                path = around.last().cloned().unwrap_or_default();
            }
            word => path.push(word.to_owned()),
        }
    }
    emit(&mut found, &mut path, &mut name, 0);
    found
}

fn emit(found: &mut Vec<(Path, String)>, path: &mut Path, name: &mut Option<String>, least: usize) {
    if path.len() > least {
        // `a::{self, b}` names `a`.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = name.take().or_else(|| path.last().cloned()).unwrap_or_default();
        found.push((std::mem::take(path), name));
    }
}

/// A path as seen from the root; none if it leads out of the crate.
fn absolute(module: &Path, path: &[String], known: &BTreeSet<Path>) -> Option<Path> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let (around, rest) = match path.first().map(String::as_str) {
        Some("crate") => (&module[..0], &path[1..]),
        Some("super") => (module.get(..module.len().checked_sub(ups)?)?, &path[ups..]),
        Some("self") => (&module[..], &path[1..]),
        Some(first) if known.contains(&[&module[..], &[first.to_owned()]].concat()) => (&module[..], path),
        _ => return None,
    };
    Some([around, rest].concat())
}
