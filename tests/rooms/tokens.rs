//! Cuts a source into names and signs.

/// Names, `::` and other signs, each with its line; without comments, strings and characters.
pub(crate) fn tokens(source: &str) -> Vec<(String, usize)> {
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
