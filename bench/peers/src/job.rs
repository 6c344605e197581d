//! The jobs: what is measured, at which sizes, and what the right answer is.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use clap::ValueEnum;

use crate::input::{self, Record};
use crate::task::{Task, Work};

const MILLION: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Doubles the numbers 1 to N and sums them
    #[value(alias = "a")]
    Double,
    /// About 1 µs of xorshift an item
    #[value(alias = "b")]
    Work,
    /// Waits for 1 ms an item, 256 items in flight
    #[value(alias = "c")]
    Sleep,
    /// As double, each item by itself
    #[value(alias = "d")]
    Single,
    /// The lengths of the words of lines of 100 bytes
    #[value(alias = "e")]
    Words,
    /// Structs of three floats and a string, mapped and folded
    Records,
    /// Numbers through map, filter, map and reduce
    Chain,
    /// Waits for 1 ms an item, 256 items in flight, then maps what was fetched
    Fetch,
    /// As double, in one stage and in two with a queue between them
    Apart,
    /// How long five items take, many times over
    #[value(alias = "f")]
    Latency,
    /// Items streamed in: what matters is the memory
    Stream,
    /// As work, on one core and on two
    Cores,
}

/// One job at one size. `rounds` is how often the xorshift of [`Work`] turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) n: i64,
    pub(crate) rounds: u32,
}

impl Kind {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Double => "double and sum",
            Self::Work => "about 1 µs of work an item",
            Self::Sleep => "1 ms of waiting an item, 256 in flight",
            Self::Single => "double and sum, one item at a time",
            Self::Words => "lengths of the words of lines of 100 bytes",
            Self::Records => "structs of three floats and a string, mapped and folded",
            Self::Chain => "map, filter, map, reduce",
            Self::Fetch => "1 ms of waiting an item, 256 in flight, then a map",
            Self::Apart => "double and sum, in one stage and in two",
            Self::Latency => "latency of a run of five items",
            Self::Stream => "a stream, double and sum",
            Self::Cores => "about 1 µs of work an item, on one core and on two",
        }
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The sizes it is measured at; `chosen` ones replace those of the jobs whose size is free.
    pub(crate) fn sizes(self, quick: bool, chosen: &[i64]) -> Vec<i64> {
        let free = matches!(self, Self::Double | Self::Work | Self::Single | Self::Chain);
        match self {
            _ if free && !chosen.is_empty() => chosen.to_vec(),
            Self::Double | Self::Work | Self::Single | Self::Chain if quick => vec![10_000],
            Self::Double | Self::Work => vec![10_000, MILLION, 10 * MILLION],
            Self::Single => vec![10_000, MILLION],
            Self::Sleep | Self::Fetch | Self::Apart if quick => vec![1_000],
            Self::Sleep | Self::Fetch => vec![10_000],
            Self::Apart => vec![1_000, 100_000],
            Self::Words | Self::Records | Self::Stream | Self::Cores if quick => vec![20_000],
            Self::Words | Self::Records | Self::Chain | Self::Cores => vec![MILLION],
            Self::Latency => vec![5],
            Self::Stream => vec![100 * MILLION],
        }
    }
}

impl Job {
    /// The right answer, found without any peer.
    pub(crate) fn answer(&self) -> i64 {
        let n = self.n;
        match self.kind {
            Kind::Double
            | Kind::Single
            | Kind::Fetch
            | Kind::Apart
            | Kind::Latency
            | Kind::Stream => n * (n + 1),
            Kind::Sleep => n * (n + 1) / 2,
            // The even numbers 2 to 2k, each doubled and one more.
            Kind::Chain => {
                let k = n / 2;
                2 * k * (k + 1) + k
            }
            Kind::Work | Kind::Cores => self.answer_of_work(),
            Kind::Records => (0..n as u64)
                .map(|index| answer_of(&input::record(index)))
                .sum(),
            Kind::Words => (0..n as u64)
                .map(|index| input::line(index).bytes().filter(|&b| b != b' ').count() as i64)
                .sum(),
        }
    }

    fn answer_of_work(&self) -> i64 {
        let work = Work {
            rounds: self.rounds,
        };
        let cores = thread::available_parallelism().map_or(1, usize::from) as i64;
        thread::scope(|scope| {
            let parts: Vec<_> = (1..=cores)
                .map(|first| {
                    scope.spawn(move || work.sum((first..=self.n).step_by(cores as usize)))
                })
                .collect();
            parts
                .into_iter()
                .filter_map(|part| part.join().ok())
                .fold(0, i64::wrapping_add)
        })
    }
}

/// What a record adds to the answer: its floats, doubled, and the bytes of its name.
fn answer_of(record: &Record) -> i64 {
    2 * (record.x as i64 + record.y as i64 + record.z as i64) + record.name.len() as i64
}

/// How many rounds of xorshift take 1 µs here: the fastest of some tries.
pub(crate) fn calibrate() -> u32 {
    const ROUNDS: u32 = 100_000;
    const TRIES: u32 = 200;
    let nanoseconds = (0..TRIES)
        .map(|n| {
            let begin = Instant::now();
            black_box(Work { rounds: ROUNDS }.apply(n.into()));
            begin.elapsed().as_nanos() as f64
        })
        .fold(f64::INFINITY, f64::min);
    (1_000.0 * f64::from(ROUNDS) / nanoseconds).round() as u32
}
