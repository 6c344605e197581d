//! Attempts of items over the services: exactly the items that truly fail are left out, whatever workers end meanwhile.
#![cfg(unix)]

mod deaths;
mod hand_back;
mod left_out;
mod watched;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use catchment::scratchpad::{Attempt, Failure};
use catchment::{Backoff, Deployment, OnFailure, Run, Stage};

use crate::common::Tables;

/// Tells a process that a test has started which deployment to work for.
const WORKS_FOR: &str = "CATCHMENT_TEST_WORKS_FOR";
/// …and which file its calls are written to.
const NOTES_IN: &str = "CATCHMENT_TEST_NOTES_IN";

/// Longer than anything here may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(180);

/// A pipeline that answers with what is left of its items, in order: an item that is lost, counted twice or out of place
/// shows.
type Kept = Deployment<u64, Vec<u64>>;

/// Options that leave out what fails, and retry soon.
fn skipping(attempts: u32) -> Stage {
    let soon = Duration::from_millis(50);
    Stage::named("work")
        .attempts(attempts)
        .backoff(Backoff::exponential(soon, soon))
        .on_failure(OnFailure::Skip)
        .label(label)
}

fn label(item: &u64) -> String {
    format!("page {item}")
}

/// The items that are listed as failed, in order, each as often as it is listed. Each of them has a label, and no attempts
/// but its own.
async fn listed(run: &Run<Vec<u64>>) -> Vec<(u64, Failure)> {
    let failures = run.failures().limit(1_000).await.unwrap();
    let mut listed: Vec<_> = failures
        .into_iter()
        .map(|failure| (failure.item.unwrap(), failure))
        .collect();
    listed.sort_unstable_by_key(|(item, _)| *item);
    for (item, failure) in &listed {
        let label = Some(label(item));
        assert_eq!(failure.label, label, "{failure:?}");
        // A dead letter holds the attempts of all bad items of its packet.
        let own = |one: &&Attempt| failure.is_skipped() || one.item == Some(*item);
        let own: Vec<&Attempt> = failure.attempts.iter().filter(own).collect();
        let is_called = |one: &&Attempt| (one.item, &one.label) == (Some(*item), &label);
        assert!(own.iter().all(is_called), "{failure:?}");
        let mut numbers: Vec<u32> = own.iter().map(|one| one.number).collect();
        // An attempt that leads to a dead letter since it is one too many is there a second time.
        numbers.dedup();
        let all = 1..=numbers.len() as u32;
        assert!(numbers.iter().copied().eq(all), "{failure:?}");
    }
    listed
}

/// The items and the number of attempts that each is listed with.
fn attempts(listed: &[(u64, Failure)]) -> Vec<(u64, usize)> {
    let listed = listed.iter();
    listed
        .map(|(item, failure)| (*item, failure.attempts.len()))
        .collect()
}

/// The calls of all processes, in a file.
#[derive(Clone)]
struct Calls(PathBuf);

impl Calls {
    /// A call of an item's function is about to begin.
    fn note(&self, item: u64, attempt: u32) {
        let mut file = OpenOptions::new();
        let file = file.append(true).create(true).open(&self.0);
        // One write: lines of several processes do not mix.
        let line = format!("{item} {attempt}\n");
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// Item and attempt of each call so far.
    fn all(&self) -> Vec<(u64, u32)> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let lines = text.lines();
        lines
            .map(|line| {
                let (item, attempt) = line.split_once(' ').unwrap();
                (item.parse().unwrap(), attempt.parse().unwrap())
            })
            .collect()
    }

    /// The attempt numbers that an item's function has seen.
    fn attempts(&self, item: u64) -> Vec<u32> {
        let all = self.all().into_iter();
        let of_item = all.filter(|call| call.0 == item);
        of_item.map(|call| call.1).collect()
    }

    /// Waits until there are this many calls of such items.
    async fn until(&self, calls: usize, of: impl Fn(u64) -> bool) {
        let waits = async {
            while self.all().iter().filter(|call| of(call.0)).count() < calls {
                poll().await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, waits).await;
        seen.unwrap_or_else(|_| panic!("not {calls} calls: {:?}", self.all()));
    }
}

/// A moment, before something outside of this process is looked at again.
async fn poll() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// What this process is told, if a test has started it as a worker: the deployment's name, and the file for its calls.
fn told() -> Option<(String, Calls)> {
    let name = std::env::var(WORKS_FOR).ok()?;
    Some((name, Calls(std::env::var_os(NOTES_IN).unwrap().into())))
}

/// Works until it is told to end.
async fn work(deployment: &Kept) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut told_to_end = signal(SignalKind::terminate()).unwrap();
    let end = async move {
        told_to_end.recv().await;
    };
    deployment.worker().run_until(end).await.unwrap();
}

/// A process that runs a test as a worker. It is killed when its test is over.
struct Process(Child);

impl Process {
    fn start(test: &str, name: &str, calls: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored"])
            .env(WORKS_FOR, name)
            .env(NOTES_IN, calls)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// Whether it has ended, and if so whether in order.
    fn ended(&mut self) -> Option<bool> {
        let status = self.0.try_wait().unwrap();
        status.map(|status| status.success())
    }

    /// Ends it as an operator does.
    async fn told_to_end(mut self) {
        let process = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &process]).status();
        assert!(sent.unwrap().success());
        let ends = async {
            loop {
                match self.ended() {
                    Some(in_order) => return in_order,
                    None => poll().await,
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, ends).await;
        assert!(ended.expect("it does not end"), "it has failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
