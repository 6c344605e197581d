//! Reads the paths in a source that lead into a room.

use crate::tokens::tokens;

/// A path in the source that leads into some room, from the crate's root: `["queue", "Queue"]`.
pub(crate) struct Reference {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

/// Every path in the source of a module that begins with `crate`, `super` or `self`, from the
/// crate's root on.
pub(crate) fn references(module: &[String], source: &str) -> Vec<Reference> {
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
