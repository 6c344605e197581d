//! The lines, word for word, on a paused clock.

use std::io;
use std::sync::Arc;

use tokio::time::{advance, timeout};
use tracing::subscriber::{DefaultGuard, set_default};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The lines that are logged on this thread.
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
    fn collect() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (lines, set_default(subscriber))
    }

    /// The lines since the last call.
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

fn log() -> AttemptLog {
    AttemptLog::new([("fetch".into(), 5), ("total".into(), 3)])
}

fn run(id: &str) -> RunId {
    id.parse().unwrap()
}

fn failed(item: u64, error: &io::Error) -> FailedItem<'_> {
    FailedItem {
        item: Some(item),
        label: None,
        error,
        attempt: 1,
        next: Some(SECOND),
    }
}

fn timed_out() -> io::Error {
    io::Error::other("timed out")
}

const NOTHING: [&str; 0] = [];
const FIRST: &str = r#"WARN an attempt failed run=r stage=fetch work="packet 0" item=0 attempt=1 of=5 next_in=1s error="timed out""#;

#[tokio::test(start_paused = true)]
async fn the_first_failed_attempt_is_a_line_of_its_own_and_the_others_are_summed_up() {
    let (lines, _guard) = Lines::collect();
    let (log, run, error) = (log(), run("r"), timed_out());
    let refused = io::Error::other("connection refused");
    let first = FailedItem {
        label: Some("https://example.org/17"),
        next: Some(Duration::from_micros(640_999)),
        ..failed(17, &error)
    };
    log.retried(0, &run, "packet 3", [first, failed(18, &error)]);
    assert_eq!(
        lines.take(),
        [
            r#"WARN an attempt failed run=r stage=fetch work="packet 3" item=17 label="https://example.org/17" attempt=1 of=5 next_in=640ms error="timed out""#
        ]
    );
    for item in 20..40 {
        log.retried(0, &run, "packet 4", [failed(item, &refused)]);
    }
    advance(4 * SECOND).await;
    log.retried(0, &run, "packet 4", [failed(20, &refused)]);
    assert_eq!(lines.take(), NOTHING);
    advance(SECOND).await;
    log.retried(0, &run, "packet 4", [failed(21, &refused)]);
    assert_eq!(
        lines.take(),
        [
            r#"WARN more attempts failed run=r stage=fetch attempts=23 items=21 waiting=1 error="connection refused" times=22"#
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_sum_is_logged_without_another_failure() {
    let (lines, _guard) = Lines::collect();
    let (log, error) = (log(), timed_out());
    let quiet = async {
        log.retried(0, &run("r"), "packet 0", [failed(0, &error)]);
        tokio::time::sleep(4 * SECOND).await;
        log.retried(0, &run("r"), "packet 0", [failed(0, &error)]);
        log.retried(0, &run("s"), "packet 0", [failed(0, &error)]);
        assert_eq!(lines.take(), [FIRST]);
        tokio::time::sleep(5 * SECOND + Duration::from_millis(1)).await;
        assert_eq!(
            lines.take(),
            [
                r#"WARN more attempts failed stage=fetch attempts=2 items=2 waiting=0 error="timed out" times=2"#
            ]
        );
        // Quiet is counted from the last failure on.
        tokio::time::sleep(54 * SECOND).await;
        log.retried(0, &run("r"), "packet 0", [failed(0, &error)]);
        tokio::time::sleep(6 * SECOND).await;
        assert_eq!(
            lines.take(),
            [
                r#"WARN more attempts failed run=r stage=fetch attempts=1 items=1 waiting=0 error="timed out" times=1"#
            ]
        );
        tokio::time::sleep(54 * SECOND).await;
        log.retried(0, &run("r"), "packet 0", [failed(0, &error)]);
        assert_eq!(lines.take(), [FIRST]);
    };
    tokio::select! {
        () = log.log_sums() => {}
        () = quiet => {}
    }
    assert_eq!(lines.take(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_logged_at_the_end_and_after_a_quiet_time() {
    let (lines, _guard) = Lines::collect();
    let (log, run, error) = (log(), run("r"), timed_out());
    let both = || log.retried(0, &run, "packet 0", [failed(0, &error), failed(1, &error)]);
    let one_more = r#"WARN more attempts failed run=r stage=fetch attempts=1 items=1 waiting=2 error="timed out" times=1"#;
    let sums = timeout(SECOND / 2, log.log_sums());
    let watch = log.watch();
    both();
    assert!(sums.await.is_err());
    assert_eq!(lines.take(), [FIRST], "another still works");
    drop(watch);
    assert_eq!(lines.take(), [one_more]);
    log.flush();
    assert_eq!(lines.take(), NOTHING, "once only");

    log.retried(0, &run, "packet 0", [failed(0, &error)]);
    advance(QUIET).await;
    both();
    let quiet = r#"WARN more attempts failed run=r stage=fetch attempts=1 items=1 waiting=1 error="timed out" times=1"#;
    assert_eq!(lines.take(), [quiet, FIRST]);
}

#[tokio::test(start_paused = true)]
async fn stages_dead_letters_and_items_that_are_left_out_have_lines_of_their_own() {
    let (lines, _guard) = Lines::collect();
    let (log, run, error) = (log(), run("r"), timed_out());
    let last = |item| FailedItem {
        attempt: 5,
        next: None,
        ..failed(item, &error)
    };
    log.retried(0, &run, "packet 0", [failed(0, &error)]);
    log.left_out(0, &run, "packet 0", (0..3).map(last));
    let group = FailedItem {
        item: None,
        attempt: 2,
        ..failed(0, &error)
    };
    log.retried(1, &run, "group 1/0", [group]);
    for packet in 0..12 {
        log.dead(0, &run, &format!("packet {packet}"), last(packet));
    }
    let dead = |packet| {
        format!(
            r#"ERROR a dead letter run=r stage=fetch work="packet {packet}" item={packet} attempt=5 of=5 error="timed out""#
        )
    };
    let mut expected = vec![
        FIRST.to_owned(),
        r#"WARN an item is left out run=r stage=fetch work="packet 0" item=0 attempt=5 of=5 error="timed out""#.to_owned(),
        r#"WARN an attempt failed run=r stage=total work="group 1/0" attempt=2 of=3 next_in=1s error="timed out""#.to_owned(),
    ];
    expected.extend((0..10).map(dead));
    assert_eq!(lines.take(), expected);
    log.flush();
    assert_eq!(
        lines.take(),
        [
            r#"WARN more items are left out run=r stage=fetch items=2 error="timed out" times=2"#,
            r#"ERROR more dead letters run=r stage=fetch messages=2 error="timed out" times=2"#,
        ]
    );
}

/// Otherwise `attempt=1 of=5` would look as if four attempts were missing.
#[tokio::test(start_paused = true)]
async fn an_item_that_gets_no_other_attempt_is_called_permanent() {
    let (lines, _guard) = Lines::collect();
    let (log, run) = (log(), run("r"));
    let error = io::Error::other("no such page");
    let permanent = |attempt| FailedItem {
        attempt,
        next: None,
        ..failed(0, &error)
    };
    log.left_out(0, &run, "packet 0", [permanent(1)]);
    log.dead(0, &run, "packet 0", permanent(4));
    log.dead(0, &run, "packet 0", permanent(5));
    assert_eq!(
        lines.take(),
        [
            r#"WARN an item is left out run=r stage=fetch work="packet 0" item=0 attempt=1 permanent=true error="no such page""#,
            r#"ERROR a dead letter run=r stage=fetch work="packet 0" item=0 attempt=4 permanent=true error="no such page""#,
            r#"ERROR a dead letter run=r stage=fetch work="packet 0" item=0 attempt=5 of=5 error="no such page""#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_failures_takes_a_line_and_bounded_memory() {
    let (lines, _guard) = Lines::collect();
    let (log, run) = (log(), run("r"));
    for item in 0..=10_000 {
        let error = io::Error::other(format!("{item}: {}", "x".repeat(10_000)));
        log.retried(0, &run, "packet 0", [failed(item, &error)]);
    }
    log.flush();
    let lines = lines.take();
    let [first, sum] = lines.as_slice() else {
        panic!("{} lines", lines.len());
    };
    assert!(first.len() < 700, "{}", first.len());
    let expected = "WARN more attempts failed run=r stage=fetch attempts=10000 items=more than 4096 waiting=10001 error=";
    assert!(sum.starts_with(expected), "{sum}");
    assert!(sum.len() < 800, "{}", sum.len());
}
