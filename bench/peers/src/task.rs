//! What is done to one item: the same code for every peer.

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::input::Input;

/// How long one item of the job `sleep` takes.
pub(crate) const NAP: Duration = Duration::from_millis(1);

/// A function of one item, and where its items come from. The results are summed, wrapping.
pub(crate) trait Task: Copy + Send + Sync + 'static {
    type Item: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    type Items: Iterator<Item = Self::Item> + Send + Sync + 'static;

    /// The items, for a peer that takes ownership of them.
    fn items(input: &mut Input) -> Self::Items;

    fn apply(self, item: Self::Item) -> i64;

    /// As [`apply`](Self::apply), for the item at this index, for a peer that needs no ownership.
    fn apply_at(self, input: &Input, index: usize) -> i64;

    /// The sum over one chunk.
    fn sum(self, items: impl IntoIterator<Item = Self::Item>) -> i64 {
        items
            .into_iter()
            .fold(0, |sum, item| sum.wrapping_add(self.apply(item)))
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Double;

/// So many rounds of xorshift.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) rounds: u32,
}

/// Sleeps on its thread. Peers that are asynchronous await [`nap`] instead.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Nap;

/// How long the words of a line are together.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Words;

pub(crate) async fn nap(n: i64) -> i64 {
    tokio::time::sleep(NAP).await;
    n
}

/// A task of the numbers from 1 to n.
macro_rules! of_numbers {
    ($task:ty, $this:ident, $n:ident => $result:expr) => {
        impl Task for $task {
            type Item = i64;
            type Items = RangeInclusive<i64>;

            fn items(input: &mut Input) -> Self::Items {
                1..=input.n
            }

            fn apply($this, $n: i64) -> i64 {
                $result
            }

            fn apply_at(self, _: &Input, index: usize) -> i64 {
                self.apply(index as i64 + 1)
            }
        }
    };
}

of_numbers!(Double, self, n => black_box(n) * 2);
of_numbers!(Work, self, n => black_box(xorshift(n, self.rounds)));
of_numbers!(Nap, self, n => {
    thread::sleep(NAP);
    n
});

impl Task for Words {
    type Item = String;
    type Items = std::vec::IntoIter<String>;

    fn items(input: &mut Input) -> Self::Items {
        std::mem::take(&mut input.lines).into_iter()
    }

    fn apply(self, line: String) -> i64 {
        letters(&line)
    }

    fn apply_at(self, input: &Input, index: usize) -> i64 {
        input.lines.get(index).map_or(0, |line| letters(line))
    }
}

fn letters(line: &str) -> i64 {
    line.split_whitespace().map(|word| word.len() as i64).sum()
}

fn xorshift(n: i64, rounds: u32) -> i64 {
    // Zero would stay zero.
    let mut state = n as u64 | 1 << 63;
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state as i64
}
