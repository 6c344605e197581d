//! A run inside the process says what fails, and does not make its caller wait long.

use std::io;
use std::sync::{Arc, Mutex};

use catchment::{OnFailure, Pipeline, permanent};
use tokio::time::{Instant, sleep};
use tracing::subscriber::DefaultGuard;

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What is logged on this thread as long as the guard lives.
fn collect() -> (Lines, DefaultGuard) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || writer.clone())
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test(start_paused = true)]
async fn an_item_that_always_fails_is_logged_and_fails_the_run_within_a_second() {
    let (lines, _guard) = collect();
    let pages = sum(Pipeline::new()
        .then(|page: u64| async move {
            match page {
                2 => Err(format!("page {page} timed out")),
                page => Ok(page),
            }
        })
        .with(Stage::named("fetch")));
    let start = Instant::now();
    let failed = failure(pages.run(0..5).await.unwrap_err());
    let waited = start.elapsed();
    assert_eq!((failed.item, failed.attempts.len()), (Some(2), 5));
    // At most 50 + 100 + 200 + 400 ms, and what the clock rounds up.
    assert!(waited < SECOND, "{waited:?}");

    // The worker has ended with the run.
    sleep(SECOND).await;
    let text = lines.text();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let [first, dead, more] = lines.as_slice() else {
        panic!("{text}");
    };
    for (line, begins, ends) in [
        (
            first,
            "WARN an attempt failed run=",
            r#" error="page 2 timed out""#,
        ),
        (
            dead,
            "ERROR a dead letter run=",
            r#" stage=fetch work="packet 2" item=2 label="2" attempt=5 of=5 error="page 2 timed out""#,
        ),
        (
            more,
            "WARN more attempts failed run=",
            r#" stage=fetch attempts=3 items=1 waiting=0 error="page 2 timed out" times=3"#,
        ),
    ] {
        assert!(line.starts_with(begins) && line.ends_with(ends), "{line}");
    }
    assert!(
        first.contains(r#" stage=fetch work="packet 2" item=2 label="2" attempt=1 of=5 next_in="#),
        "{first}"
    );
}

/// Why there is no second attempt.
#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_logged_as_one() {
    for (policy, begins) in [
        (OnFailure::Fail, "ERROR a dead letter run="),
        (OnFailure::Skip, "WARN an item is left out run="),
    ] {
        let (lines, _guard) = collect();
        let numbers = Pipeline::new()
            .try_map(|line: String| line.parse::<u64>().map_err(permanent))
            .with(Stage::named("parse").on_failure(policy))
            .count();
        let run = numbers.run(["1", "two"].map(String::from));
        assert_eq!(run.await.is_ok(), policy == OnFailure::Skip);
        let text = lines.text();
        let line = text.lines().next().unwrap_or_default().trim();
        let ends = r#" stage=parse work="packet 1" item=1 label="two" attempt=1 permanent=true error="invalid digit found in string""#;
        assert!(line.starts_with(begins) && line.ends_with(ends), "{text}");
    }
}
