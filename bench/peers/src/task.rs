//! What is done to one item: the same code for every peer.

use std::hint::black_box;
use std::iter;
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::input::{Input, Record};

/// How long one item of the jobs `sleep` and `fetch` waits.
pub(crate) const NAP: Duration = Duration::from_millis(1);

/// What a job does to its items, and where they come from. The results are summed, wrapping.
pub(crate) trait Task: Copy + Send + Sync + 'static {
    type Item: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    type Items: Iterator<Item = Self::Item> + Send + Sync + 'static;
    /// What an item is mapped to. With two hops, this is what the second hop carries.
    type Value: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// The items, for a peer that takes ownership of them.
    fn items(input: &mut Input) -> Self::Items;

    /// Maps items, in order. A task that filters has fewer values than items.
    fn values(self, items: impl Iterator<Item = Self::Item>) -> impl Iterator<Item = Self::Value>;

    /// Adds one value to a sum.
    fn add(sum: i64, value: Self::Value) -> i64;

    /// The sum over one item.
    fn apply(self, item: Self::Item) -> i64 {
        self.sum(iter::once(item))
    }

    /// As [`apply`](Self::apply), for the item at this index, for a peer that needs no ownership.
    fn apply_at(self, input: &Input, index: usize) -> i64;

    /// The sum over one chunk.
    fn sum(self, items: impl IntoIterator<Item = Self::Item>) -> i64 {
        self.values(items.into_iter()).fold(0, Self::add)
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

/// Scales the floats of a record and keeps its name. Floats and the name's length are summed: whole numbers, so that the
/// sum is exact in any order.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Records;

/// Three functions in a row: a map, a filter that keeps every second item, and a map.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Chain;

/// Sleeps as [`Nap`] does, which is the first function; the second computes. With two hops, the second hop computes.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Fetch;

pub(crate) async fn nap(n: i64) -> i64 {
    tokio::time::sleep(NAP).await;
    n
}

/// What a task of the numbers from 1 to n has in common with the others.
macro_rules! numbers {
    () => {
        type Item = i64;
        type Items = RangeInclusive<i64>;
        type Value = i64;

        fn items(input: &mut Input) -> Self::Items {
            1..=input.n
        }

        fn apply_at(self, _: &Input, index: usize) -> i64 {
            self.apply(index as i64 + 1)
        }
    };
}

/// A task of numbers, each of which is mapped to one.
macro_rules! of_numbers {
    ($task:ty, $this:ident, $n:ident => $result:expr) => {
        impl Task for $task {
            numbers!();

            fn values(self, numbers: impl Iterator<Item = i64>) -> impl Iterator<Item = i64> {
                numbers.map(move |n| self.apply(n))
            }

            fn apply($this, $n: i64) -> i64 {
                $result
            }

            fn add(sum: i64, value: i64) -> i64 {
                sum.wrapping_add(value)
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

impl Task for Chain {
    numbers!();

    fn values(self, numbers: impl Iterator<Item = i64>) -> impl Iterator<Item = i64> {
        numbers.map(Self::first).filter(Self::keeps).map(Self::last)
    }

    fn add(sum: i64, value: i64) -> i64 {
        sum.wrapping_add(value)
    }
}

impl Chain {
    pub(crate) fn first(n: i64) -> i64 {
        black_box(n) * 2
    }

    /// Whether the filter keeps a doubled number: those of even numbers.
    pub(crate) fn keeps(n: &i64) -> bool {
        n % 4 == 0
    }

    pub(crate) fn last(n: i64) -> i64 {
        n + 1
    }
}

impl Task for Fetch {
    numbers!();

    fn values(self, numbers: impl Iterator<Item = i64>) -> impl Iterator<Item = i64> {
        Nap.values(numbers)
    }

    fn add(sum: i64, fetched: i64) -> i64 {
        sum.wrapping_add(Self::then(fetched))
    }
}

impl Fetch {
    /// What is computed of a number that was fetched.
    pub(crate) fn then(fetched: i64) -> i64 {
        Double.apply(fetched)
    }
}

impl Task for Words {
    type Item = String;
    type Items = std::vec::IntoIter<String>;
    type Value = i64;

    fn items(input: &mut Input) -> Self::Items {
        std::mem::take(&mut input.lines).into_iter()
    }

    fn values(self, lines: impl Iterator<Item = String>) -> impl Iterator<Item = i64> {
        lines.map(|line| letters(&line))
    }

    fn add(sum: i64, value: i64) -> i64 {
        sum.wrapping_add(value)
    }

    fn apply_at(self, input: &Input, index: usize) -> i64 {
        input.lines.get(index).map_or(0, |line| letters(line))
    }
}

impl Task for Records {
    type Item = Record;
    type Items = std::vec::IntoIter<Record>;
    type Value = Record;

    fn items(input: &mut Input) -> Self::Items {
        std::mem::take(&mut input.records).into_iter()
    }

    fn values(self, records: impl Iterator<Item = Record>) -> impl Iterator<Item = Record> {
        records.map(Self::scale)
    }

    fn add(sum: i64, record: Record) -> i64 {
        let floats = record.x + record.y + record.z;
        sum.wrapping_add(floats as i64)
            .wrapping_add(record.name.len() as i64)
    }

    /// Mapping takes a record by value, so this copies one.
    fn apply_at(self, input: &Input, index: usize) -> i64 {
        let record = input.records.get(index).cloned();
        record.map_or(0, |record| self.apply(record))
    }
}

impl Records {
    pub(crate) fn scale(record: Record) -> Record {
        Record {
            x: record.x * 2.0,
            y: record.y * 2.0,
            z: record.z * 2.0,
            name: record.name,
        }
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
