//! One peer, one job, one size: measured in a process of its own.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::input::Input;
use crate::job::{Job, Kind};
use crate::machine;
use crate::peers::Peer;

/// No repetition begins after this time.
const ENOUGH: Duration = Duration::from_secs(10);
/// A warm-up that took longer is the measurement.
const LONG: Duration = Duration::from_secs(20);

/// What a child tells its parent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Of each repetition.
    pub(crate) seconds: Vec<f64>,
    /// User and system time of all threads, of each repetition.
    pub(crate) cpu_seconds: Vec<f64>,
    /// Resident memory in KiB, once the input is there and nothing else.
    pub(crate) resident_start: u64,
    pub(crate) resident_peak: u64,
    /// A wrong answer, in a sentence.
    pub(crate) wrong: Option<String>,
}

pub(crate) fn measure(
    peer: &Peer,
    job: &Job,
    answer: i64,
    repetitions: Option<usize>,
) -> Result<Measured> {
    let (warm_ups, own) = match job.kind {
        Kind::Latency => (100, 2_000),
        // Runs of a thousand items are too short for five to tell much.
        Kind::Apart => (3, 25),
        Kind::Stream => (0, 1),
        _ => (1, 5),
    };
    let repetitions = repetitions.unwrap_or(own).max(1);
    let mut input = Input::new(job);
    let mut measured = Measured {
        resident_start: machine::memory("VmRSS")?,
        ..Measured::default()
    };
    let mut run = (peer.prepare)(job)?;
    let mut repeat = |measured: &mut Measured| -> Result<Duration> {
        input.refill(job);
        let cpu = machine::cpu_time();
        let begin = Instant::now();
        let got = run(&mut input)?;
        let time = begin.elapsed();
        let cpu = machine::cpu_time().saturating_sub(cpu);
        if got != answer {
            measured.wrong = Some(format!("{got} is not {answer}"));
        }
        measured.seconds.push(time.as_secs_f64());
        measured.cpu_seconds.push(cpu.as_secs_f64());
        Ok(time)
    };
    let mut warm = Duration::ZERO;
    for _ in 0..warm_ups {
        warm = repeat(&mut measured)?;
    }
    if warm <= LONG {
        measured.seconds.clear();
        measured.cpu_seconds.clear();
        let mut total = Duration::ZERO;
        while measured.seconds.len() < repetitions && total < ENOUGH {
            total += repeat(&mut measured)?;
        }
    }
    measured.resident_peak = machine::memory("VmHWM")?;
    Ok(measured)
}
