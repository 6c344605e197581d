//! A minute of real processes that are killed, stopped, continued and shut down at random moments,
//! while runs are submitted by processes that are killed as well.
#![cfg(unix)]

use std::time::{Duration, Instant};

use crate::adder::{Adder, Process, SOON};
use crate::common::Tables;

const STORM: Duration = Duration::from_secs(60);
const WORKERS: usize = 3;
/// Longer than the visibility timeout: the worker is a zombie when it continues.
const ASLEEP: Duration = Duration::from_secs(5);
const ITEMS: u64 = 3_000;

/// An event in a worker's life.
enum Fate {
    Kill,
    End,
    Stop,
}

struct Worker {
    process: Process,
    at: Instant,
    is_stopped: bool,
}

#[derive(Debug, Default)]
struct Counts {
    killed: u32,
    told_to_end: u32,
    stopped_and_continued: u32,
    submitters_killed: u32,
    redriven: u32,
    runs: u32,
}

fn soon(random: &mut fastrand::Rng) -> Instant {
    Instant::now() + Duration::from_millis(random.u64(300..3_000))
}

impl Worker {
    fn start(adder: &Adder, random: &mut fastrand::Rng) -> Self {
        Self {
            process: adder.worker(),
            at: soon(random),
            is_stopped: false,
        }
    }

    /// Applies the event to the worker, and returns its replacement.
    fn next(self, adder: &Adder, random: &mut fastrand::Rng, counts: &mut Counts) -> Self {
        if self.at > Instant::now() {
            return self;
        }
        if self.is_stopped {
            self.process.signal("CONT");
            counts.stopped_and_continued += 1;
            return Self {
                at: soon(random),
                is_stopped: false,
                ..self
            };
        }
        match [Fate::Kill, Fate::Kill, Fate::End, Fate::Stop][random.usize(0..4)] {
            Fate::Kill => {
                self.process.killed();
                counts.killed += 1;
            }
            Fate::End => {
                self.process.told_to_end("TERM");
                counts.told_to_end += 1;
            }
            Fate::Stop => {
                self.process.signal("STOP");
                return Self {
                    at: Instant::now() + ASLEEP,
                    is_stopped: true,
                    ..self
                };
            }
        }
        Self::start(adder, random)
    }
}

fn storm(tables: Tables) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let tuning = [&SOON[..], &["--packet-size", "25"]].concat();
    let adder = Adder::provisioned(tables, &tuning);
    let mut counts = Counts::default();
    let mut workers: Vec<Worker> = (0..WORKERS)
        .map(|_| Worker::start(&adder, &mut random))
        .collect();
    let mut runs: Vec<String> = Vec::new();
    let mut submitter: Option<(Process, Instant)> = None;
    let count = ITEMS.to_string();
    let begin = Instant::now();
    // Until the minute is over and the last submission went through.
    while begin.elapsed() < STORM || submitter.is_some() {
        workers = workers
            .into_iter()
            .map(|worker| worker.next(&adder, &mut random, &mut counts))
            .collect();
        let has_ended = submitter
            .as_mut()
            .is_some_and(|(process, _)| process.has_ended());
        submitter = match submitter.take() {
            None => {
                let id = format!("storm-{}", runs.len());
                let process = adder.start(&["submit", "--id", &id, "--count", &count]);
                runs.push(id);
                Some((
                    process,
                    Instant::now() + Duration::from_millis(random.u64(10..200)),
                ))
            }
            Some((process, _)) if has_ended => {
                let ended = process.ended();
                assert!(ended.status.success(), "{ended:?}");
                None
            }
            Some((process, at)) if at <= Instant::now() => {
                process.signal("KILL");
                // The run may have finished at that very moment.
                if process.ended().status.success() {
                    None
                } else {
                    counts.submitters_killed += 1;
                    let id = runs.last().unwrap();
                    let process = adder.start(&["submit", "--id", id, "--count", &count]);
                    Some((process, Instant::now() + Duration::from_secs(3_600)))
                }
            }
            waiting => waiting,
        };
        std::thread::sleep(Duration::from_millis(10));
    }
    for worker in &workers {
        // Wakes stopped workers; it does not affect the others.
        worker.process.signal("CONT");
    }
    for id in &runs {
        loop {
            let ended = adder.run(&["result", id]);
            if ended.status.success() {
                assert_eq!(ended.out.trim(), (ITEMS * (ITEMS + 1)).to_string(), "{id}");
                break;
            }
            // A message that five dying workers held is a dead letter: an operator redrives it.
            assert!(ended.err.contains("delivered"), "{ended:?}");
            adder.answer(&["redrive", id]);
            counts.redriven += 1;
        }
        counts.runs += 1;
    }
    println!("{counts:?}");
    assert!(counts.runs >= 10, "{counts:?}");
    assert!(counts.killed >= 10, "{counts:?}");
    assert!(counts.submitters_killed >= 1, "{counts:?}");
    assert!(counts.stopped_and_continued >= 1, "{counts:?}");
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn a_minute_of_dying_processes_on_ministack() {
    storm(Tables::Ministack);
}

#[test]
#[ignore = "needs the emulators that scripts/test starts"]
fn a_minute_of_dying_processes_with_dynamodb_local() {
    storm(Tables::DynamoDbLocal);
}
