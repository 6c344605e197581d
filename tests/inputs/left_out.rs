//! Items that are left out: listed by the outcome, and logged by `run`.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use catchment::{OnFailure, Outcome, permanent};
use futures::stream;

use super::*;
use crate::common::*;

/// Adds up the lines that are numbers. Asynchronous, as [`sum`] is.
fn numbers(policy: OnFailure) -> Pipeline<String, u64, One> {
    Pipeline::new()
        .then(|line: String| async move { line.parse::<u64>().map_err(permanent) })
        .with(Stage::named("parse").on_failure(policy).packet_size(8))
        .reduce(|| 0, |a, b| a + b)
}

/// `length` lines, of which `unreadable` are not numbers: those at odd places, from the first one on.
fn lines(length: u64, unreadable: u64) -> impl Iterator<Item = String> {
    (0..length).map(move |n| match n < unreadable * 2 && n % 2 == 1 {
        true => format!("line {n}"),
        false => "1".to_owned(),
    })
}

fn assert_lists(outcome: &Outcome<u64>, length: u64, left_out: u64, what: &str) {
    assert_eq!(outcome.value, length - left_out, "{what}");
    assert_eq!(outcome.items, length, "{what}");
    assert_eq!(outcome.contains, length - left_out, "{what}");
    assert_eq!(outcome.skipped, left_out, "{what}");
    let listed = left_out.min(100);
    assert_eq!(outcome.failures.len() as u64, listed, "{what}");
    assert_eq!(outcome.more_failures, left_out - listed, "{what}");
    for failure in &outcome.failures {
        assert!(failure.is_skipped() && failure.stage == "parse", "{what}");
        assert_eq!(failure.error, "invalid digit found in string", "{what}");
    }
    let items = outcome.failures.iter().map(|failure| failure.item);
    let first: Vec<_> = (0..listed).map(|n| Some(n * 2 + 1)).collect();
    assert_eq!(items.collect::<Vec<_>>(), first, "{what}: the first ones");
}

#[tokio::test(start_paused = true)]
async fn a_run_returns_what_it_left_out() {
    let parse = numbers(OnFailure::Skip);
    for (length, left_out) in [(3, 0), (10, 1), (300, 100), (300, 101), (3_000, 576)] {
        let items = || lines(length, left_out);
        let outcome = soon(parse.run_outcome(items())).await.unwrap();
        assert_lists(&outcome, length, left_out, "an iterator");
        let of_stream = soon(parse.run_stream_outcome(stream::iter(items()))).await;
        assert_lists(&of_stream.unwrap(), length, left_out, "a stream");
        let fallible = items().map(Ok::<_, Unplugged>);
        let outcome = soon(parse.try_run_outcome(fallible)).await.unwrap();
        assert_lists(&outcome, length, left_out, "an iterator of results");
        let fallible = stream::iter(items().map(Ok::<_, Unplugged>));
        let outcome = soon(parse.try_run_stream_outcome(fallible)).await.unwrap();
        assert_lists(&outcome, length, left_out, "a stream of results");
    }
}

#[test]
fn a_run_that_blocks_returns_what_it_left_out() {
    let parse = numbers(OnFailure::Skip);
    let outcome = parse.run_blocking_outcome(lines(2_000, 576)).unwrap();
    assert_lists(&outcome, 2_000, 576, "blocking");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_of_a_run_that_fails_is_its_error() {
    let parse = numbers(OnFailure::Tolerate(3));
    assert!(soon(parse.run_outcome(lines(100, 3))).await.is_ok());
    let error = soon(parse.run_outcome(lines(100, 4))).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
}

/// A list is asked for only if there is something on it.
#[tokio::test(start_paused = true)]
async fn a_deployed_run_returns_the_same_and_asks_only_if_it_must() {
    for (length, left_out) in [(10, 0), (10, 1), (2_000, 576)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let hook = On(move |call: &Call<'_>| match call {
            // The first answer gets lost.
            Call::Failures if count.fetch_add(1, SeqCst) == 0 => Act::Fail(outage()),
            _ => Act::Go,
        });
        let parse = numbers(OnFailure::Skip);
        let backend = Store::new().hooked(Arc::new(hook));
        let deployment = parse.deploy("numbers", backend).unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(lines(length, left_out)).await.unwrap();
        let outcome = soon(run.outcome()).await.unwrap();
        assert_lists(&outcome, length, left_out, "deployed");
        let expected = if left_out == 0 { 0 } else { 2 };
        assert_eq!(asked.load(SeqCst), expected, "{left_out} left out");
        drop(worker);
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The lines that tell of items which were left out of a result.
    fn summaries(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(str::to_owned);
        lines
            .filter(|line| line.contains("left out of the result"))
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs with a log of its own, and returns the lines that tell of items which were left out.
fn logged<T>(run: impl FnOnce() -> catchment::Result<T>) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let ended = tracing::subscriber::with_default(subscriber, run);
    assert!(ended.is_ok());
    log.summaries()
}

#[test]
fn a_run_that_returns_no_list_logs_one_warning_with_the_number() {
    let parse = numbers(OnFailure::Skip);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let items = || lines(200, 60);
    let fallible = || items().map(Ok::<_, Unplugged>);
    let warnings = [
        logged(|| runtime.block_on(parse.run(items()))),
        logged(|| runtime.block_on(parse.run_stream(stream::iter(items())))),
        logged(|| parse.run_blocking(items())),
        logged(|| runtime.block_on(parse.try_run(fallible()))),
        logged(|| runtime.block_on(parse.try_run_stream(stream::iter(fallible())))),
    ];
    for warning in warnings {
        assert_eq!(warning.len(), 1, "{warning:?}");
        let warning = &warning[0];
        assert!(warning.contains("WARN"), "{warning}");
        assert!(warning.contains("skipped=60"), "{warning}");
        assert!(warning.contains("items=200"), "{warning}");
        assert!(warning.contains("run_outcome"), "{warning}");
    }
    let silent = logged(|| parse.run_blocking(lines(200, 0)));
    assert_eq!(silent.len(), 0, "{silent:?}");
    let listed = logged(|| parse.run_blocking_outcome(items()));
    assert_eq!(listed.len(), 0, "{listed:?}");
}
