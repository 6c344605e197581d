//! Processes that share a file, and are killed at any moment.

use std::path::Path;
use std::time::{Duration, Instant};

use catchment::backends::sqlite::SqliteFile;
use catchment::{Deployment, Error, Pipeline, Stage};

use crate::files::{Folder, PATIENCE, Process, told};

const ITEMS: u64 = 3_000;
/// What a killed process held comes back long before this, unless its system does not tell that it has ended.
const HIDDEN: Duration = match cfg!(target_os = "linux") {
    true => Duration::from_secs(60 * 60),
    false => Duration::from_secs(5),
};

fn adder(path: &Path) -> Deployment<u64, u64> {
    let pipeline = Pipeline::new()
        .map(|n: u64| n * 2)
        .with(
            Stage::named("times_two")
                .packet_size(25)
                .visibility_timeout(HIDDEN),
        )
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(4).visibility_timeout(HIDDEN));
    pipeline
        .deploy("adder", SqliteFile::open(path).unwrap())
        .unwrap()
}

/// Does what this process is told, if a test has started it: a worker works until it is killed, a submitter submits the
/// run of its name.
async fn play(role: &str, path: &Path) {
    let adder = adder(path);
    match role {
        "worker" => adder
            .worker()
            .run_until(std::future::pending())
            .await
            .unwrap(),
        run => drop(adder.submit_as(run, 1..=ITEMS).await.unwrap()),
    }
}

/// The result of a run, which is redriven as often as its processes die.
async fn result(adder: &Deployment<u64, u64>, run: &str) -> u64 {
    let run = adder.attach(run);
    loop {
        match run.result().await {
            // A message that several dying workers held is a dead letter: an operator redrives it.
            Err(Error::Failed { failure, .. }) => {
                assert!(failure.error.contains("never finished"), "{failure}");
                run.redrive().await.unwrap();
            }
            result => return result.unwrap(),
        }
    }
}

#[tokio::test]
async fn several_processes_submit_work_and_look() {
    const TEST: &str = "processes::several_processes_submit_work_and_look";
    if let Some((role, path)) = told() {
        return play(&role, &path).await;
    }
    let folder = Folder::new();
    let _workers = [(); 2].map(|()| Process::start(TEST, "worker", &folder.path()));
    let submitters = ["a", "b"].map(|run| Process::start(TEST, run, &folder.path()));
    submitters
        .into_iter()
        .for_each(|submitter| submitter.succeeds("submitting"));
    let adder = adder(&folder.path());
    for run in ["a", "b"] {
        assert_eq!(result(&adder, run).await, ITEMS * (ITEMS + 1));
    }
}

/// All of them are killed, and others go on: what the dead held is handed back long before its visibility timeout, which is
/// an hour.
#[tokio::test]
async fn a_run_goes_on_after_all_processes_were_killed() {
    const TEST: &str = "processes::a_run_goes_on_after_all_processes_were_killed";
    if let Some((role, path)) = told() {
        return play(&role, &path).await;
    }
    let folder = Folder::new();
    Process::start(TEST, "run", &folder.path()).succeeds("submitting");
    let adder = adder(&folder.path());
    let run = adder.attach("run");
    for _ in 0..3 {
        let mut worker = Process::start(TEST, "worker", &folder.path());
        let before = run.status().await.unwrap().items_done;
        loop {
            let status = run.status().await.unwrap();
            if status.items_done > before || status.state.to_string() == "done" {
                break;
            }
            tokio::task::yield_now().await;
        }
        worker.kill();
    }
    let begin = Instant::now();
    let worker = adder.worker().start();
    assert_eq!(result(&adder, "run").await, ITEMS * (ITEMS + 1));
    if cfg!(target_os = "linux") {
        assert!(
            begin.elapsed() < Duration::from_secs(25),
            "the visibility timeout is 30 s: {:?}",
            begin.elapsed()
        );
    }
    worker.shutdown().await;
}

#[derive(Debug, Default)]
struct Counts {
    workers_killed: u32,
    submitters_killed: u32,
    runs: usize,
}

/// Workers and submitters that are killed at random moments, for this long: no run is wrong, and none is stuck.
async fn storm(test: &str, time: Duration) -> Counts {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = Folder::new();
    let path = folder.path();
    let mut counts = Counts::default();
    let soon =
        |random: &mut fastrand::Rng| Instant::now() + Duration::from_millis(random.u64(50..800));
    let start = |random: &mut fastrand::Rng| (Process::start(test, "worker", &path), soon(random));
    let mut workers = [(); 3].map(|()| start(&mut random));
    let mut runs: Vec<String> = Vec::new();
    let mut submitter: Option<(Process, Instant)> = None;
    let begin = Instant::now();
    while begin.elapsed() < time || submitter.is_some() {
        for worker in &mut workers {
            if worker.1 <= Instant::now() {
                worker.0.kill();
                counts.workers_killed += 1;
                *worker = start(&mut random);
            }
        }
        submitter = match submitter.take() {
            None => {
                runs.push(format!("storm-{}", runs.len()));
                let run = runs.last().unwrap();
                Some((
                    Process::start(test, run, &path),
                    Instant::now() + Duration::from_millis(random.u64(1..200)),
                ))
            }
            Some((mut process, at)) => match process.ended() {
                Some(status) if status.success() => None,
                None if at > Instant::now() => Some((process, at)),
                ended => {
                    assert!(ended.is_none(), "{ended:?}");
                    process.kill();
                    counts.submitters_killed += 1;
                    // The next one of the same run is left alone.
                    let run = runs.last().unwrap();
                    Some((
                        Process::start(test, run, &path),
                        Instant::now() + Duration::from_secs(3_600),
                    ))
                }
            },
        };
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let adder = adder(&path);
    for run in &runs {
        let done = tokio::time::timeout(PATIENCE, result(&adder, run)).await;
        assert_eq!(
            done.unwrap_or_else(|_| panic!("{run} is stuck")),
            ITEMS * (ITEMS + 1),
            "{run}"
        );
        counts.runs += 1;
    }
    println!("{counts:?}");
    counts
}

#[tokio::test]
async fn some_seconds_of_dying_processes() {
    const TEST: &str = "processes::some_seconds_of_dying_processes";
    if let Some((role, path)) = told() {
        return play(&role, &path).await;
    }
    let counts = storm(TEST, Duration::from_secs(4)).await;
    assert!(counts.runs >= 1 && counts.workers_killed >= 3, "{counts:?}");
}

#[tokio::test]
#[ignore = "takes a minute: cargo test --features sqlite --test sqlite a_minute -- --ignored --nocapture"]
async fn a_minute_of_dying_processes() {
    const TEST: &str = "processes::a_minute_of_dying_processes";
    if let Some((role, path)) = told() {
        return play(&role, &path).await;
    }
    let counts = storm(TEST, Duration::from_secs(60)).await;
    assert!(
        counts.runs >= 10 && counts.workers_killed >= 30 && counts.submitters_killed >= 3,
        "{counts:?}"
    );
}
