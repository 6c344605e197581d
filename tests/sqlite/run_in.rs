//! `run_in`: a run inside the process whose progress survives it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catchment::pipeline::One;
use catchment::{Backoff, Error, Pipeline, RunState, Stage, permanent};

use crate::files::{Folder, Process, told};

/// A pipeline that counts the calls of its function.
fn counting(calls: &Arc<AtomicU64>, bad: Option<u64>) -> Pipeline<u64, Vec<u64>, One> {
    let calls = Arc::clone(calls);
    let stage = Stage::named("work").packet_size(1).backoff(Backoff::none());
    Pipeline::new()
        .try_map(move |n: u64| {
            calls.fetch_add(1, Ordering::SeqCst);
            match bad == Some(n) {
                true => Err(permanent("it is bad")),
                false => Ok(n),
            }
        })
        .with(stage)
        .collect()
}

#[tokio::test]
async fn a_run_that_is_done_is_not_run_again() {
    let folder = Folder::new();
    let calls = Arc::default();
    let pipeline = counting(&calls, None);
    for _ in 0..2 {
        let all = pipeline.run_in(folder.path(), "run", 0..50).await.unwrap();
        assert_eq!(all, Vec::from_iter(0..50));
        assert_eq!(calls.load(Ordering::SeqCst), 50);
    }
    // Another id is another run, of any pipeline.
    let count = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::named("work"))
        .count();
    assert_eq!(count.run_in(folder.path(), "other", 0..7).await.unwrap(), 7);
    // The id stands for its items and stages.
    let others = pipeline.run_in(folder.path(), "run", 1..51).await;
    assert!(
        matches!(others, Err(Error::Submission { .. })),
        "{others:?}"
    );
    let others = Pipeline::new()
        .map(|n: u64| n)
        .count()
        .run_in(folder.path(), "run", 0..50)
        .await;
    assert!(
        matches!(others, Err(Error::Submission { .. })),
        "{others:?}"
    );
    let refused = pipeline.run_in(folder.path(), "a run of mine", 0..50).await;
    assert!(
        matches!(refused, Err(Error::InvalidRunId { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_was_dropped_goes_on() {
    let folder = Folder::new();
    let calls: Arc<AtomicU64> = Arc::default();
    let is_open = Arc::new(AtomicBool::new(false));
    let pipeline = || {
        let (calls, is_open) = (Arc::clone(&calls), Arc::clone(&is_open));
        let slow = move |n: u64| {
            let is_open = is_open.load(Ordering::SeqCst);
            calls.fetch_add(1, Ordering::SeqCst);
            async move {
                if n >= 100 && !is_open {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Error>(n)
            }
        };
        let stage = Stage::named("fetch").packet_size(1).concurrency(4);
        Pipeline::new().then(slow).with(stage).collect()
    };
    {
        let pipeline = pipeline();
        let mut run = std::pin::pin!(pipeline.run_in(folder.path(), "run", 0..200));
        // A hundred items are done, and four hang.
        while calls.load(Ordering::SeqCst) < 104 {
            let _ = tokio::time::timeout(Duration::from_millis(10), &mut run).await;
        }
    }
    is_open.store(true, Ordering::SeqCst);
    let all = pipeline()
        .run_in(folder.path(), "run", 0..200)
        .await
        .unwrap();
    assert_eq!(all, Vec::from_iter(0..200));
    let calls = calls.load(Ordering::SeqCst);
    // What was at work, or whose outcome was on its way to the file, is done again.
    assert!((204..=408).contains(&calls), "{calls} calls");
}

#[tokio::test]
async fn what_has_failed_is_tried_again() {
    let folder = Folder::new();
    let calls = Arc::default();
    for _ in 0..2 {
        match counting(&calls, Some(3))
            .run_in(folder.path(), "run", 0..9)
            .await
        {
            Err(Error::Failed { failure, .. }) => assert_eq!(failure.item, Some(3)),
            other => panic!("{other:?}"),
        }
    }
    let all = counting(&calls, None)
        .run_in(folder.path(), "run", 0..9)
        .await
        .unwrap();
    assert_eq!(all, Vec::from_iter(0..9));
}

/// A value that could not be written has failed the submission; it is completed.
#[tokio::test]
async fn a_submission_that_failed_is_completed() {
    let folder = Folder::new();
    let sum = Pipeline::new()
        .map(|n: f64| n)
        .with(Stage::new().packet_size(1))
        .reduce(|| 0.0, |a, b| a + b);
    let items = |third| vec![1.0, 2.0, third];
    let error = sum
        .run_in(folder.path(), "run", items(f64::NAN))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Encode { .. }), "{error:?}");
    assert_eq!(
        sum.run_in(folder.path(), "run", items(4.0)).await.unwrap(),
        7.0
    );
}

#[tokio::test]
async fn progress_counts_what_earlier_calls_have_done() {
    let folder = Folder::new();
    let calls = Arc::default();
    let _ = counting(&calls, Some(3))
        .run_in(folder.path(), "run", 0..9)
        .await
        .unwrap_err();
    let last = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&last);
    let pipeline = counting(&calls, None).on_progress(move |progress| {
        *seen.lock().unwrap() = Some((progress.state, progress.to_string()));
    });
    pipeline.run_in(folder.path(), "run", 0..9).await.unwrap();
    let (state, text) = last.lock().unwrap().take().unwrap();
    assert_eq!(state, RunState::Done);
    assert!(text.starts_with("work 9 of 9"), "{text}");
}

const LENGTH: u64 = 2_000;

async fn whole(path: &Path) -> Vec<u64> {
    let pipeline = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::new().packet_size(10))
        .collect();
    pipeline.run_in(path, "run", 0..LENGTH).await.unwrap()
}

/// The process is killed at random moments, and called again until it ends by itself.
async fn killed(test: &str, rounds: u32, kills: u32) -> u32 {
    let mut killed = 0;
    for _ in 0..rounds {
        let folder = Folder::new();
        for _ in 0..kills {
            let mut process = Process::start(test, "run", &folder.path());
            let moment = Duration::from_micros(fastrand::u64(0..150_000));
            tokio::time::sleep(moment).await;
            if process.ended().is_none() {
                process.kill();
                killed += 1;
            }
        }
        assert_eq!(whole(&folder.path()).await, Vec::from_iter(0..LENGTH));
    }
    killed
}

#[tokio::test]
async fn a_run_survives_its_process() {
    const TEST: &str = "run_in::a_run_survives_its_process";
    if let Some((_, path)) = told() {
        return drop(whole(&path).await);
    }
    assert!(killed(TEST, 3, 5).await > 0);
}

#[tokio::test]
#[ignore = "takes long: cargo test --features sqlite --test sqlite two_hundred -- --ignored --nocapture"]
async fn a_run_survives_two_hundred_deaths() {
    const TEST: &str = "run_in::a_run_survives_two_hundred_deaths";
    if let Some((_, path)) = told() {
        return drop(whole(&path).await);
    }
    let mut deaths = 0;
    while deaths < 200 {
        deaths += killed(TEST, 1, 8).await;
    }
    println!("{deaths} deaths");
}
