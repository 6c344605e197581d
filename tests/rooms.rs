//! The rule for arrows: which room of `src/` may import which, and that there is no circle.
//!
//! Arrows are read off the source: imports, and every path that begins with `crate`, `super` or
//! `self`, in unit tests and macros too. Comments and strings are skipped. `lib.rs` is exempt,
//! because it puts the rooms together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each room and the rooms it may know, from the bottom of the house to its top: a room knows rooms
/// of earlier rows only.
const RULE: &[(&str, &str)] = &[
    ("core", "nobody"),
    // The contracts and their implementations.
    ("queue", "core"),
    ("scratchpad", "core"),
    ("backends", "core, the contracts"),
    // Building a pipeline, and running its functions.
    ("packet", "core, the contracts"),
    ("stage", "core, the contracts"),
    ("compute", "core, the contracts, packet, stage"),
    ("pipeline", "core, the contracts, packet, stage, compute"),
    // The engine: from a submission to its result.
    ("protocol", "core, the contracts, the builders"),
    ("submit", "core, the contracts, the builders, protocol"),
    ("worker", "core, the contracts, the builders, protocol"),
    (
        "deployment",
        "core, the contracts, the builders, protocol, submit, worker, backends",
    ),
    ("embedded", "all of these"),
    // The faces, of which none knows another.
    ("http", "the house"),
    ("lambda", "the house"),
    ("template", "the house"),
    // The suites.
    ("model", "core, the contracts"),
    ("pages", "nobody"),
    ("testing", "the house"),
];

/// The rooms that the words in the table mean.
const WORDS: &[(&str, &str)] = &[
    ("nobody", ""),
    ("the contracts", "queue, scratchpad"),
    ("the builders", "packet, stage, compute, pipeline"),
    (
        "all of these",
        "core, the contracts, backends, the builders, protocol, submit, worker, deployment",
    ),
    ("the house", "all of these, embedded"),
];

#[test]
fn rooms_know_only_what_they_may() {
    let problems = House::read().forbidden();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn there_is_no_circle_of_rooms() {
    if let Some(circle) = House::read().circle() {
        panic!("\n{circle}\n");
    }
}

#[test]
fn every_room_is_in_the_table_and_its_arrows_point_one_way() {
    let rooms: Vec<&str> = RULE.iter().map(|(room, _)| *room).collect();
    for (place, room) in rooms.iter().enumerate() {
        for known in may_know(room) {
            let above = rooms[..place].contains(&known.as_str());
            assert!(above, "{room} may know {known}, which has no earlier row");
        }
    }
    let there: BTreeSet<String> = House::read().files.iter().map(room).collect();
    let listed: BTreeSet<String> = rooms.into_iter().map(str::to_owned).collect();
    assert_eq!(there, listed, "the rooms of src/, and those of the table");
}

#[test]
fn a_forbidden_arrow_is_seen_in_every_form() {
    let source = r##"
        //! crate::worker::Comment
        use std::sync::Arc;
        use crate::{queue::Queue, stage::{Data, options::{self, Stage}}}; // three and four
        use super::super::worker::crew;
        pub(crate) fn sum(list: &[crate::lambda::Record]) -> usize { '"'; "crate::http::Text"; list.len() }
        /* crate::http /* nested */ crate::http */
        macro_rules! made { () => { $crate::template::node::Node::new(r#"crate::http"#) } }
        fn handle<'a>() -> crate::Deployment<'a> { super::super::protocol::<u8>(b'"') }
        mod tests {
            use super::*;
            use super::id::RunId;
            use super::super::super::{core, embedded as run};
            mod inner { use super::super::super::super::submit::Source; }
        }
        use super::super::pipeline;
    "##;
    let house = House::of(
        "pub use deployment::{Deployment, run::Run};",
        &[("src/core/id.rs", source)],
    );
    let told = |(line, room): (usize, &str)| {
        format!("src/core/id.rs:{line}: room core must not know room {room}")
    };
    let expected = [
        (4, "queue"),
        (4, "stage"),
        (4, "stage"),
        (4, "stage"),
        (5, "worker"),
        (6, "lambda"),
        (8, "template"),
        (9, "deployment"),
        (9, "protocol"),
        (13, "embedded"),
        (14, "submit"),
        (16, "pipeline"),
    ];
    assert_eq!(house.forbidden(), expected.map(told));
    // From a room further down in the table the same paths are fine, but for those of the faces.
    let house = House::of(
        "pub use deployment::Deployment;",
        &[("src/embedded/id.rs", source)],
    );
    let faces: Vec<String> = house.forbidden();
    assert_eq!(faces.len(), 2, "{faces:?}");
    assert!(faces[0].ends_with("room embedded must not know room lambda"));
    assert!(faces[1].ends_with("room embedded must not know room template"));
}

#[test]
fn a_front_file_reaches_its_neighbours_by_super() {
    let house = House::of(
        "",
        &[(
            "src/packet.rs",
            "mod codec; use codec::Codec; use self::codec::Form; use super::protocol::Protocol;",
        )],
    );
    let expected = "src/packet.rs:1: room packet must not know room protocol";
    assert_eq!(house.forbidden(), [expected]);
}

#[test]
fn what_hides_its_room_is_refused() {
    for source in ["use crate::*;", "use crate::Unheard;", "use super::*;"] {
        let house = House::of("", &[("src/packet.rs", source)]);
        let problems = house.forbidden();
        assert_eq!(problems.len(), 1, "{source}: {problems:?}");
        assert!(problems[0].starts_with("src/packet.rs:1: "), "{problems:?}");
    }
}

#[test]
fn a_circle_is_seen() {
    let files = [
        (
            "src/submit.rs",
            "use crate::core::id;\nuse crate::protocol::seam;",
        ),
        ("src/protocol.rs", "use crate::stage::Data;"),
        ("src/stage/options.rs", "\n\nfn f() { crate::submit::f() }"),
        ("src/core/id.rs", ""),
    ];
    assert_eq!(
        House::of("", &files).circle().unwrap(),
        "the rooms protocol → stage → submit → protocol are a circle:\n\
         src/protocol.rs:1: protocol knows stage\n\
         src/stage/options.rs:3: stage knows submit\n\
         src/submit.rs:2: submit knows protocol"
    );
    assert_eq!(House::of("", &files[..2]).circle(), None);
}

/// The sources of the crate, but for `lib.rs`.
struct House {
    files: Vec<File>,
    /// Rooms by the names that `lib.rs` gives out at the crate's root.
    root: BTreeMap<String, String>,
}

struct File {
    /// Such as `src/worker/lane.rs`.
    path: String,
    source: String,
}

/// A path in the source that leads into some room, from the crate's root: `["queue", "Queue"]`.
struct Reference {
    line: usize,
    path: Vec<String>,
}

impl House {
    fn read() -> Self {
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

    fn of(lib: &str, files: &[(&str, &str)]) -> Self {
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

    fn forbidden(&self) -> Vec<String> {
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
    fn circle(&self) -> Option<String> {
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

/// The rooms that the table lets this one know.
fn may_know(room: &str) -> BTreeSet<String> {
    fn add(words: &str, rooms: &mut BTreeSet<String>) {
        for word in words.split(", ").filter(|word| !word.is_empty()) {
            match WORDS.iter().find(|(known, _)| *known == word) {
                Some((_, meaning)) => add(meaning, rooms),
                None => drop(rooms.insert(word.to_owned())),
            }
        }
    }
    let mut rooms = BTreeSet::new();
    if let Some((_, words)) = RULE.iter().find(|(name, _)| *name == room) {
        add(words, &mut rooms);
    }
    rooms
}

/// `src/worker/lane.rs` is the module `["worker", "lane"]`.
fn module(file: &File) -> Vec<String> {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    path.trim_end_matches("/mod")
        .split('/')
        .map(str::to_owned)
        .collect()
}

fn room(file: &File) -> String {
    module(file).swap_remove(0)
}

/// Every path in the source of a module that begins with `crate`, `super` or `self`, from the
/// crate's root on.
fn references(module: &[String], source: &str) -> Vec<Reference> {
    let tokens = tokens(source);
    let text = |place: usize| tokens.get(place).map_or("", |(text, _)| text.as_str());
    let mut found = Vec::new();
    // Modules within the file that have begun, and how deep in braces.
    let mut inner: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut place) = (0usize, 0);
    while place < tokens.len() {
        match text(place) {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inner.retain(|(_, begun)| *begun <= depth);
            }
            "mod" if text(place + 2) == "{" => inner.push((text(place + 1).to_owned(), depth + 1)),
            // `impl Trait + use<'a>` is not an import.
            "use" if text(place + 1) != "<" => {
                let mut here = module.to_vec();
                here.extend(inner.iter().map(|(name, _)| name.clone()));
                let mut paths = Vec::new();
                place = tree(&tokens, place + 1, &[], &mut paths);
                for (line, path) in paths {
                    let path = from_root(&here, &path);
                    found.extend(path.map(|path| Reference { line, path }));
                }
                continue;
            }
            "crate" | "super" | "self"
                if text(place + 1) == "::" && text(place.wrapping_sub(1)) != "::" =>
            {
                let line = tokens[place].1;
                let mut here = module.to_vec();
                here.extend(inner.iter().map(|(name, _)| name.clone()));
                let mut path = vec![text(place).to_owned()];
                while text(place + 1) == "::" && is_name(text(place + 2)) {
                    path.push(text(place + 2).to_owned());
                    place += 2;
                }
                let path = from_root(&here, &path);
                found.extend(path.map(|path| Reference { line, path }));
            }
            _ => {}
        }
        place += 1;
    }
    found
}

/// Reads the tree after `use`, or in its braces, and returns the position after it.
fn tree(
    tokens: &[(String, usize)],
    mut place: usize,
    prefix: &[String],
    paths: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let text = |place: usize| tokens.get(place).map_or("", |(text, _)| text.as_str());
    let mut path = prefix.to_vec();
    let mut is_group = false;
    while place < tokens.len() {
        let line = tokens[place].1;
        match text(place) {
            "{" => {
                is_group = true;
                place += 1;
                while !matches!(text(place), "}" | "") {
                    place = tree(tokens, place, &path, paths);
                    if text(place) == "," {
                        place += 1;
                    }
                }
            }
            "as" => place += 1,
            "::" => {}
            name if name == "*" || is_name(name) => path.push(name.to_owned()),
            // A comma, a brace or a semicolon: this one has ended.
            _ => {
                if !is_group {
                    let line = tokens[place - 1].1.min(line);
                    paths.push((line, path));
                }
                return place;
            }
        }
        place += 1;
    }
    place
}

/// The target of a path in a module, from the crate's root; `None` if it begins in the module
/// itself, or in another crate.
fn from_root(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut from = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "super" | "self" => module.to_vec(),
        _ => return None,
    };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => drop(from.pop()),
            _ => from.push(name.clone()),
        }
    }
    Some(from)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and other signs, each with its line; without comments, strings and characters.
fn tokens(source: &str) -> Vec<(String, usize)> {
    let characters: Vec<char> = source.chars().collect();
    let at = |place: usize| characters.get(place).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut place, mut line) = (0, 1);
    while place < characters.len() {
        let begin = place;
        match at(place) {
            '/' if at(place + 1) == '/' => {
                while !matches!(at(place), '\n' | '\0') {
                    place += 1;
                }
            }
            '/' if at(place + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(place), at(place + 1)) {
                        ('/', '*') => (depth, place) = (depth + 1, place + 2),
                        ('*', '/') => (depth, place) = (depth - 1, place + 2),
                        _ => place += 1,
                    }
                    if depth == 0 || place >= characters.len() {
                        break;
                    }
                }
            }
            '"' => place = end_of_string(&characters, place),
            // A character, and not a lifetime.
            '\'' if at(place + 1) == '\\' => {
                place += 3;
                while !matches!(at(place), '\'' | '\0') {
                    place += 1;
                }
                place += 1;
            }
            '\'' if at(place + 2) == '\'' => place += 3,
            '\'' => {
                place += 1;
                while at(place).is_alphanumeric() || at(place) == '_' {
                    place += 1;
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                while at(place).is_alphanumeric() || at(place) == '_' {
                    place += 1;
                }
                let name: String = characters[begin..place].iter().collect();
                let hashes = (place..).take_while(|place| at(*place) == '#').count();
                match (name.as_str(), at(place + hashes)) {
                    ("r" | "br" | "cr", '"') => {
                        let end = format!("\"{}", "#".repeat(hashes));
                        let end: Vec<char> = end.chars().collect();
                        place += hashes + 1;
                        while place < characters.len() && !characters[place..].starts_with(&end) {
                            place += 1;
                        }
                        place += end.len();
                    }
                    // `b"..."` and `b'.'` go on as a string and a character.
                    ("b" | "c", '"') | ("b", '\'') if hashes == 0 => {}
                    _ => tokens.push((name, line)),
                }
            }
            ':' if at(place + 1) == ':' => {
                tokens.push(("::".to_owned(), line));
                place += 2;
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push((c.to_string(), line));
                }
                place += 1;
            }
        }
        let place_end = place.min(characters.len());
        line += characters[begin..place_end]
            .iter()
            .filter(|c| **c == '\n')
            .count();
    }
    tokens
}

/// The position after a string that begins here.
fn end_of_string(characters: &[char], begin: usize) -> usize {
    let mut place = begin + 1;
    while place < characters.len() {
        match characters[place] {
            '\\' => place += 2,
            '"' => return place + 1,
            _ => place += 1,
        }
    }
    place
}
