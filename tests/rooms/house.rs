//! The rooms of a source tree, and the arrows between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::references::{Reference, references};
use crate::rule::{RULE, may_know};

/// The sources of the crate, but for `lib.rs`.
pub(crate) struct House {
    pub(crate) files: Vec<File>,
    /// Rooms by the names that `lib.rs` gives out at the crate's root.
    root: BTreeMap<String, String>,
}

pub(crate) struct File {
    /// Such as `src/worker/lane.rs`.
    path: String,
    source: String,
}

impl House {
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        for entry in walkdir::WalkDir::new(root.join("src")).sort_by_file_name() {
            let entry = entry.unwrap();
            if entry.path().extension().is_some_and(|name| name == "rs") {
                let path = entry.path().strip_prefix(root).unwrap();
                files.push(File {
                    path: path.to_str().unwrap().replace('\\', "/"),
                    source: std::fs::read_to_string(entry.path()).unwrap(),
                });
            }
        }
        let lib = files.iter().position(|file| file.path == "src/lib.rs");
        let lib = files.remove(lib.unwrap());
        Self::new(&lib.source, files)
    }

    pub(crate) fn of(lib: &str, files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, source)| File {
            path: (*path).to_owned(),
            source: (*source).to_owned(),
        });
        Self::new(lib, files.collect())
    }

    fn new(lib: &str, files: Vec<File>) -> Self {
        let mut root = BTreeMap::new();
        for (room, _) in RULE {
            root.insert((*room).to_owned(), (*room).to_owned());
        }
        // In lib.rs a room needs no `crate` before it.
        let lib = lib
            .replace("pub use crate::", "pub use ")
            .replace("pub use ", "pub use crate::");
        for reference in references(&[], &lib) {
            if let [room, .., name] = reference.path.as_slice() {
                root.insert(name.clone(), room.clone());
            }
        }
        Self { files, root }
    }

    /// Every arrow from one room to another, or the problem with a path that hides its target.
    fn arrows(&self) -> Vec<(&File, usize, Result<String, String>)> {
        let mut arrows = Vec::new();
        for file in &self.files {
            for Reference { line, path } in references(&module(file), &file.source) {
                let first = path.first().map_or("*", String::as_str);
                let arrow = match self.root.get(first) {
                    Some(known) if *known == room(file) => continue,
                    Some(known) => Ok(known.clone()),
                    None => Err(format!("`crate::{first}` does not say which room it is in")),
                };
                arrows.push((file, line, arrow));
            }
        }
        arrows
    }

    pub(crate) fn forbidden(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (file, line, arrow) in self.arrows() {
            let (path, room) = (&file.path, room(file));
            match arrow {
                Ok(known) if may_know(&room).contains(&known) => {}
                Ok(known) => {
                    problems.push(format!(
                        "{path}:{line}: room {room} must not know room {known}"
                    ));
                }
                Err(problem) => problems.push(format!("{path}:{line}: {problem}")),
            }
        }
        problems
    }

    /// The first circle of rooms, with a place for each of its arrows.
    pub(crate) fn circle(&self) -> Option<String> {
        let mut known = BTreeMap::<String, BTreeMap<String, String>>::new();
        for (file, line, arrow) in self.arrows() {
            if let Ok(to) = arrow {
                let place = format!("{}:{line}", file.path);
                let from = known.entry(room(file)).or_default();
                from.entry(to).or_insert(place);
            }
        }
        let mut done = BTreeSet::new();
        let rooms = known.keys();
        let way = rooms.into_iter().find_map(|room| {
            let mut way = vec![room.clone()];
            comes_back(&known, &mut way, &mut done).then_some(way)
        })?;
        let mut text = format!("the rooms {} are a circle:", way.join(" → "));
        for step in way.windows(2) {
            let (from, to) = (&step[0], &step[1]);
            text += &format!("\n{}: {from} knows {to}", known[from][to]);
        }
        Some(text)
    }
}

/// Follows the arrows until a room is reached that is on the path already: then the path is a
/// circle.
fn comes_back(
    known: &BTreeMap<String, BTreeMap<String, String>>,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> bool {
    let Some(room) = way.last().cloned() else {
        return false;
    };
    for next in known.get(&room).into_iter().flat_map(BTreeMap::keys) {
        if let Some(begin) = way.iter().position(|before| before == next) {
            way.drain(..begin);
            way.push(next.clone());
            return true;
        }
        if done.contains(next) {
            continue;
        }
        way.push(next.clone());
        if comes_back(known, way, done) {
            return true;
        }
        way.pop();
    }
    done.insert(room);
    false
}

/// `src/worker/lane.rs` is the module `["worker", "lane"]`.
fn module(file: &File) -> Vec<String> {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    path.trim_end_matches("/mod")
        .split('/')
        .map(str::to_owned)
        .collect()
}

pub(crate) fn room(file: &File) -> String {
    module(file).swap_remove(0)
}
