//! Starts one process after the other, and keeps what they say.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::arguments::Table;
use crate::figures::median;
use crate::job::{Job, Kind};
use crate::one::Measured;
use crate::peers::{PEERS, Peer};
use crate::report;

/// A peer that needed longer, in seconds, is not measured at ten times the size.
const TOO_LONG: f64 = 10.0;

pub(crate) enum Outcome {
    Measured(Measured),
    /// It would take about so many seconds, if that is known.
    NotRun(Option<f64>),
    Stopped(Duration),
    Failed,
}

/// One row of one run of the tables.
pub(crate) struct Row {
    pub(crate) run: u32,
    pub(crate) kind: Kind,
    pub(crate) n: i64,
    pub(crate) peer: &'static Peer,
    pub(crate) outcome: Outcome,
}

impl Row {
    pub(crate) fn is_bad(&self) -> bool {
        match &self.outcome {
            Outcome::Measured(measured) => measured.wrong.is_some(),
            Outcome::Failed => true,
            Outcome::NotRun(_) | Outcome::Stopped(_) => false,
        }
    }
}

pub(crate) struct Session<'a> {
    table: &'a Table,
    rounds: u32,
    answers: HashMap<(String, i64), i64>,
    rows: Vec<Row>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(table: &'a Table, rounds: u32) -> Self {
        Self {
            table,
            rounds,
            answers: HashMap::new(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Each job at each size, and there one peer after the other, so that what happens to the machine meanwhile happens
    /// to all of them.
    pub(crate) fn run(&mut self, run: u32, kinds: &[Kind]) -> Result<()> {
        for &kind in kinds {
            for n in kind.sizes(self.table.quick, &self.table.n) {
                let job = Job {
                    kind,
                    n,
                    rounds: self.rounds,
                };
                for peer in PEERS.iter().filter(|peer| peer.jobs.contains(&kind)) {
                    if self.table.peer.is_empty() || self.table.peer.iter().any(|p| p == peer.name)
                    {
                        self.measure(run, peer, &job)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn measure(&mut self, run: u32, peer: &'static Peer, job: &Job) -> Result<()> {
        eprint!(
            "run {run}: {} {} {} ... ",
            job.kind.name(),
            job.n,
            peer.name
        );
        std::io::stderr().flush()?;
        let outcome = match self.foreseen(run, peer, job) {
            Some(seconds) => Outcome::NotRun(seconds),
            None => self.start(peer, job)?,
        };
        eprintln!("{}", report::in_short(&outcome));
        self.rows.push(Row {
            run,
            kind: job.kind,
            n: job.n,
            peer,
            outcome,
        });
        Ok(())
    }

    /// That it would take too long, by what a smaller size took in the same run.
    fn foreseen(&self, run: u32, peer: &Peer, job: &Job) -> Option<Option<f64>> {
        let smaller = self.rows.iter().rev().find(|row| {
            row.run == run && row.kind == job.kind && row.peer.name == peer.name && row.n < job.n
        })?;
        let times = job.n as f64 / smaller.n as f64;
        match &smaller.outcome {
            Outcome::Measured(measured) => {
                let median = median(&measured.seconds);
                (median > TOO_LONG).then_some(Some(median * times))
            }
            Outcome::NotRun(seconds) => Some(seconds.map(|seconds| seconds * times)),
            Outcome::Stopped(_) => Some(None),
            Outcome::Failed => None,
        }
    }

    fn answer(&mut self, job: &Job) -> i64 {
        let answer = self.answers.entry((job.kind.name(), job.n));
        *answer.or_insert_with(|| job.answer())
    }

    fn start(&mut self, peer: &Peer, job: &Job) -> Result<Outcome> {
        let answer = self.answer(job);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["one", peer.name, &job.kind.name(), &job.n.to_string()])
            .arg(format!("--rounds={}", job.rounds))
            .arg(format!("--answer={answer}"))
            .stdout(Stdio::piped());
        if self.table.quick {
            command.arg("--repetitions=1");
        }
        let mut child = command.spawn()?;
        let mut output = child.stdout.take().context("the child has no output")?;
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            // Nobody listens any more once the child has been stopped.
            let _ = output.read_to_string(&mut text).map(|_| said.send(text));
        });
        let limit = Duration::from_secs(self.table.limit);
        let text = heard.recv_timeout(limit);
        if let Err(mpsc::RecvTimeoutError::Timeout) = text {
            child.kill()?;
            child.wait()?;
            return Ok(Outcome::Stopped(limit));
        }
        let status = child.wait()?;
        let measured = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        Ok(match measured {
            Some(measured) if status.success() => Outcome::Measured(measured),
            _ => Outcome::Failed,
        })
    }
}
