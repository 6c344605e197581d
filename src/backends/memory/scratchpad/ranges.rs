//! A set of numbers that are mostly added in order: neighbours are kept as one range.

use std::collections::BTreeMap;

/// Ranges by their first number; both ends belong to the range, and no two touch.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(super) fn contains(&self, number: u64) -> bool {
        self.around(number).is_some()
    }

    pub(super) fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let above = number
            .checked_add(1)
            .and_then(|next| self.0.remove(&next))
            .unwrap_or(number);
        let below = number
            .checked_sub(1)
            .and_then(|previous| self.around(previous));
        let first = below.map_or(number, |(first, _)| first);
        self.0.insert(first, above);
    }

    /// Removes a number. Returns whether it was there.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some((first, last)) = self.around(number) else {
            return false;
        };
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
        true
    }

    /// The range that contains a number.
    fn around(&self, number: u64) -> Option<(u64, u64)> {
        let (first, last) = self.0.range(..=number).next_back()?;
        (number <= *last).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_is_a_set() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut ranges = Ranges::default();
        let mut set = BTreeSet::new();
        for _ in 0..20_000 {
            let number = random.u64(0..64);
            if random.bool() {
                ranges.insert(number);
                set.insert(number);
            } else {
                assert_eq!(ranges.remove(number), set.remove(&number));
            }
            assert!((0..64).all(|n| ranges.contains(n) == set.contains(&n)));
        }
    }

    #[test]
    fn neighbours_become_one_range() {
        let mut ranges = Ranges::default();
        for number in [3, 1, 2, 0, u64::MAX, u64::MAX - 1] {
            ranges.insert(number);
        }
        let expected = [(0, 3), (u64::MAX - 1, u64::MAX)];
        assert!(ranges.0.into_iter().eq(expected));
    }
}
