//! The commonest of many texts, in bounded memory.

/// Texts that are counted at a time.
const MOST_TEXTS: usize = 16;

/// Counts texts. With at most [`MOST_TEXTS`] different ones, the counts are exact. With more, a text that is seen more often
/// than once in `MOST_TEXTS` of all is still among those counted, and its count is a lower bound.
///
/// The scheme is that of J. Misra and D. Gries, *Finding repeated elements*, Science of Computer Programming 2, 1982.
#[derive(Default)]
pub(super) struct Commonest {
    counted: Vec<(String, u64)>,
    /// The text that was last dropped, for when none is counted.
    dropped: String,
}

impl Commonest {
    pub(super) fn add(&mut self, text: &str) {
        if let Some((_, count)) = self.counted.iter_mut().find(|(known, _)| known == text) {
            *count += 1;
        } else if self.counted.len() < MOST_TEXTS {
            self.counted.push((text.to_owned(), 1));
        } else {
            for (_, count) in &mut self.counted {
                *count -= 1;
            }
            self.counted.retain(|(_, count)| *count > 0);
            text.clone_into(&mut self.dropped);
        }
    }

    /// A text that was added at least as often as is returned with it, and the earliest of several.
    pub(super) fn get(&self) -> (&str, u64) {
        let commonest = self.counted.iter().rev().max_by_key(|(_, count)| *count);
        commonest.map_or((&self.dropped, 1), |(text, count)| (text, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_texts_are_counted_exactly() {
        let mut texts = Commonest::default();
        for text in ["a", "b", "c", "b", "c", "b", "c"] {
            texts.add(text);
        }
        assert_eq!(texts.get(), ("b", 3), "the earliest of two");
    }

    #[test]
    fn a_common_text_is_found_among_many_rare_ones() {
        let mut texts = Commonest::default();
        for number in 0..10_000 {
            texts.add(&format!("rare {number}"));
            if number % 8 == 0 {
                texts.add("common");
            }
        }
        let (text, times) = texts.get();
        assert_eq!(text, "common");
        assert!((500..=1250).contains(&times), "{times}");
        assert!(texts.counted.len() <= MOST_TEXTS);
    }

    #[test]
    fn there_is_always_a_text() {
        let mut texts = Commonest::default();
        for number in 0..=MOST_TEXTS {
            texts.add(&format!("rare {number}"));
        }
        assert_eq!(texts.get(), ("rare 16", 1));
    }
}
