//! What a repetition works on, made before its clock starts.

use serde::{Deserialize, Serialize};

use crate::job::{Job, Kind};

const LINE_LENGTH: usize = 100;
const LONGEST_WORD: u64 = 9;

/// The numbers 1 to `n`, or as many lines or records.
pub(crate) struct Input {
    pub(crate) n: i64,
    pub(crate) lines: Vec<String>,
    pub(crate) records: Vec<Record>,
}

/// A type of the application's own, as most items are: three floats and a name of 20 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) z: f64,
    pub(crate) name: String,
}

impl Input {
    pub(crate) fn new(job: &Job) -> Self {
        let mut input = Self {
            n: job.n,
            lines: Vec::new(),
            records: Vec::new(),
        };
        input.refill(job);
        input
    }

    /// Makes the lines or records again if the last repetition has taken them.
    pub(crate) fn refill(&mut self, job: &Job) {
        if job.kind == Kind::Words && self.lines.is_empty() {
            self.lines = (0..job.n as u64).map(line).collect();
        }
        if job.kind == Kind::Records && self.records.is_empty() {
            self.records = (0..job.n as u64).map(record).collect();
        }
    }
}

/// Line `index`: words of one to nine letters with a space between them, the same for everybody.
pub(crate) fn line(index: u64) -> String {
    let mut line = String::with_capacity(LINE_LENGTH);
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut left = 0;
    while line.len() < LINE_LENGTH {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if left == 0 && !line.is_empty() {
            line.push(' ');
        }
        if left == 0 {
            left = 1 + state % LONGEST_WORD;
        }
        if line.len() < LINE_LENGTH {
            line.push(char::from(b'a' + (state >> 32) as u8 % 26));
            left -= 1;
        }
    }
    line
}

/// Record `index`, the same for everybody. Its floats are whole numbers: a sum of a hundred million is exact.
pub(crate) fn record(index: u64) -> Record {
    let float = |modulus: u64| (index % modulus) as f64;
    Record {
        x: float(1_000),
        y: float(777),
        z: -float(13),
        name: format!("record-{index:013}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Records, Task, Words};

    #[test]
    fn lines_are_full_of_words_and_always_the_same() {
        for index in 0..1_000 {
            let text = line(index);
            assert_eq!(text.len(), LINE_LENGTH);
            assert!(!text.contains("  "));
            assert_eq!(text, line(index));
            let letters = text.bytes().filter(|&byte| byte != b' ').count();
            assert_eq!(Words.apply(text), letters as i64);
        }
    }

    #[test]
    fn names_have_twenty_bytes_and_sums_are_exact_in_any_order() {
        let records: Vec<_> = (0..10_000).map(record).collect();
        assert!(records.iter().all(|record| record.name.len() == 20));
        let sum = Records.sum(records.clone());
        assert_eq!(Records.sum(records.into_iter().rev()), sum);
        let job = Job {
            kind: Kind::Records,
            n: 10_000,
            rounds: 0,
        };
        assert_eq!(job.answer(), sum);
    }
}
