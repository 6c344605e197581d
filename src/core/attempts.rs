//! What a backend keeps of a message's failed attempts when it cannot keep all of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use super::failure::{Attempt, Verdict};

/// Items of one message whose failed attempts are counted.
pub(crate) const MOST_ITEMS: usize = 1_000;
/// Items that the outcome of a run lists as left out.
pub(crate) const LISTED: usize = 100;

/// The attempts of a list that fit, in the order of the list: at most `most`, whose sizes come to at most `bytes`.
///
/// The last attempt at each item comes first, the newest before the others, so that an item that failed often does not
/// take the place of another item's last error. Attempts without an item count as those of one more item.
pub(crate) fn fit(
    attempts: &[Attempt],
    most: usize,
    bytes: usize,
    size: impl Fn(&Attempt) -> usize,
) -> Vec<Attempt> {
    let mut seen = HashSet::new();
    let newest_first = attempts.iter().enumerate().rev();
    let (last, outlived): (Vec<_>, Vec<_>) =
        newest_first.partition(|(_, attempt)| seen.insert(attempt.item));
    let mut left = bytes;
    let ranked = last.into_iter().chain(outlived).take(most);
    let mut kept: Vec<_> = ranked
        .take_while(|(_, attempt)| {
            let size = size(attempt);
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .collect();
    kept.sort_unstable_by_key(|(place, _)| *place);
    let kept = kept.into_iter();
    kept.map(|(_, attempt)| attempt.clone()).collect()
}

/// The highest number of an attempt without an item; 0 if there is none.
pub(crate) fn failed_as_a_whole(attempts: &[Attempt]) -> u32 {
    let without = attempts.iter().filter(|attempt| attempt.item.is_none());
    without.map(|attempt| attempt.number).max().unwrap_or(0)
}

/// The number of an item that is left out.
pub(crate) const LEFT_OUT: u32 = u32::MAX;

/// Counts attempts in: the highest number of each item, and [`LEFT_OUT`] where items are left out.
pub(crate) fn count(counts: &mut BTreeMap<u64, u32>, attempts: &[Attempt], verdict: Verdict) {
    for attempt in attempts {
        let Some(item) = attempt.item else { continue };
        let number = match verdict {
            Verdict::Skip => LEFT_OUT,
            Verdict::Retry | Verdict::Dead(_) => attempt.number,
        };
        let failed = counts.entry(item).or_default();
        *failed = number.max(*failed);
    }
}

/// Leaves only the `most` highest counts; of equal ones, those of the first items.
pub(crate) fn keep_highest(counts: &mut BTreeMap<u64, u32>, most: usize) {
    if counts.len() <= most {
        return;
    }
    let mut ranked: Vec<(u64, u32)> = std::mem::take(counts).into_iter().collect();
    ranked.sort_by_key(|(_, failed)| Reverse(*failed));
    ranked.truncate(most);
    counts.extend(ranked);
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn attempt(number: u32, item: Option<u64>) -> Attempt {
        let mut attempt = Attempt::new(number, UNIX_EPOCH, "x".repeat(100));
        attempt.item = item;
        attempt
    }

    fn numbers(kept: &[Attempt]) -> Vec<u32> {
        kept.iter().map(|attempt| attempt.number).collect()
    }

    #[test]
    fn the_newest_attempts_are_kept() {
        let attempts: Vec<Attempt> = (1..=10).map(|number| attempt(number, None)).collect();
        let fit = |most, bytes| numbers(&fit(&attempts, most, bytes, |a| a.error.len()));
        assert_eq!(fit(3, 10_000), [8, 9, 10]);
        assert_eq!(fit(100, 250), [9, 10]);
        assert_eq!(fit(100, 10), [0; 0]);
        assert_eq!(fit(100, 10_000), Vec::from_iter(1..=10));
    }

    #[test]
    fn the_last_attempt_at_each_item_is_kept_first() {
        let often = (1..=10).map(|number| attempt(number, Some(7)));
        let others = [
            attempt(20, Some(8)),
            attempt(21, None),
            attempt(22, Some(9)),
        ];
        let attempts: Vec<Attempt> = others.into_iter().chain(often).collect();
        let fit = |most| numbers(&fit(&attempts, most, 10_000, |_| 1));
        assert_eq!(fit(6), [20, 21, 22, 8, 9, 10]);
        assert_eq!(fit(4), [20, 21, 22, 10]);
        assert_eq!(fit(2), [22, 10]);
    }

    #[test]
    fn the_highest_counts_are_kept() {
        let mut counts = BTreeMap::from([(4, 1), (5, 3), (6, 1), (7, 2)]);
        count(
            &mut counts,
            &[attempt(2, Some(5)), attempt(3, Some(7)), attempt(9, None)],
            Verdict::Retry,
        );
        assert_eq!(counts, BTreeMap::from([(4, 1), (5, 3), (6, 1), (7, 3)]));
        let mut left_out = counts.clone();
        count(&mut left_out, &[attempt(1, Some(6))], Verdict::Skip);
        assert_eq!(left_out.get(&6), Some(&u32::MAX));
        keep_highest(&mut counts, 3);
        assert_eq!(counts, BTreeMap::from([(4, 1), (5, 3), (7, 3)]));
    }
}
