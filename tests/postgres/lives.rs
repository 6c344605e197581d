//! Connections that are cut, a server that restarts, and processes that are killed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use catchment::{Deployment, Pipeline, Stage};

use crate::common::{client, database_in, unique, url};

/// Names the schema for a process of [`a_process_that_works`], or of [`a_process_that_submits`].
const SCHEMA: &str = "CATCHMENT_TEST_SCHEMA";
const RUN: &str = "CATCHMENT_TEST_RUN";
const ITEMS: i64 = 3_000;
const SUM: i64 = ITEMS * (ITEMS + 1);
const PATIENCE: Duration = Duration::from_secs(240);

fn adder(schema: &str) -> Deployment<i64, i64> {
    let soon = Duration::from_secs(2);
    let adder = Pipeline::new()
        .map(|n: i64| {
            std::thread::sleep(Duration::from_micros(200));
            n * 2
        })
        .with(
            Stage::named("times_two")
                .packet_size(5)
                .visibility_timeout(soon),
        )
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(4).visibility_timeout(soon));
    adder.deploy("adder", database_in(schema)).unwrap()
}

async fn result(adder: &Deployment<i64, i64>, id: &str) -> i64 {
    let run = adder.attach(id);
    let result = tokio::time::timeout(PATIENCE, run.result()).await;
    result.expect("the run ends").unwrap()
}

/// Nothing is left of a run that has ended: no messages, and no tree.
async fn assert_tidy(schema: &str) {
    let client = client().await;
    // The tables of messages have some of no queue, for the planner.
    let rows = ["messages WHERE id > 0", "bodies WHERE id > 0"];
    for table in [&rows[..], &["groups", "partials", "dead_letters"]].concat() {
        let count = format!("SELECT count(*) FROM \"{schema}\".{table}");
        let begin = Instant::now();
        loop {
            let row = client.query_one(&count, &[]).await.unwrap();
            let count: i64 = row.get(0);
            if count == 0 {
                break;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{count} rows of {table} are left"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Every connection of the backend is ended by the server, again and again (57P01).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn a_run_outlives_its_connections() {
    let schema = unique("cut");
    let adder = adder(&schema);
    adder.provision().await.unwrap();
    let cutting = tokio::spawn({
        let schema = schema.clone();
        async move {
            let client = client().await;
            let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid()";
            let mut ended = 0;
            loop {
                let row = client.query_one(cut, &[&schema]).await.unwrap();
                ended += row.get::<_, i64>(0);
                println!("{ended} connections ended");
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
    });
    let workers = [(); 2].map(|()| adder.worker().start());
    let run = adder.submit_as("cut", 1..=ITEMS).await;
    assert_eq!(run.unwrap().id().as_str(), "cut");
    assert_eq!(result(&adder, "cut").await, SUM);
    cutting.abort();
    for worker in workers {
        worker.shutdown().await;
    }
    assert_tidy(&schema).await;
}

/// Stops everything else on this server for a moment: it has a step of its own in scripts/test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn outage_a_run_outlives_restarts_of_the_server() {
    let schema = unique("restarts");
    let adder = adder(&schema);
    adder.provision().await.unwrap();
    let worker = adder.worker().start();
    let submitting = adder.submit_as("restarts", 1..=ITEMS);
    let restarting = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");
            let script =
                std::env::var("CATCHMENT_TEST_SERVICES").unwrap_or_else(|_| script.to_owned());
            let restarted = tokio::process::Command::new(script)
                .args(["restart", "postgres"])
                .status()
                .await;
            assert!(restarted.unwrap().success());
        }
    };
    let (submitted, ()) = tokio::join!(submitting, restarting);
    if submitted.is_err() {
        // Submitting the same again completes the run.
        adder.submit_as("restarts", 1..=ITEMS).await.unwrap();
    }
    assert_eq!(result(&adder, "restarts").await, SUM);
    worker.shutdown().await;
    assert_tidy(&schema).await;
}

/// A process of the storm: it works until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that another test starts"]
async fn a_process_that_works() {
    let Ok(schema) = std::env::var(SCHEMA) else {
        return;
    };
    let _worker = adder(&schema).worker().start();
    std::future::pending::<()>().await;
}

/// A process of the storm: it submits a run, and ends unless it is killed before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that another test starts"]
async fn a_process_that_submits() {
    let (Ok(schema), Ok(run)) = (std::env::var(SCHEMA), std::env::var(RUN)) else {
        return;
    };
    adder(&schema).submit_as(run, 1..=ITEMS).await.unwrap();
}

struct Process(Child);

impl Process {
    fn start(test: &str, schema: &str, run: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", &format!("lives::{test}")]);
        command
            .env(SCHEMA, schema)
            .env(RUN, run)
            .env("CATCHMENT_TEST_POSTGRES", url());
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Three workers and a submitter are killed at random moments; every run has its sum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn runs_outlive_killed_processes() {
    let schema = unique("killed");
    let adder = adder(&schema);
    adder.provision().await.unwrap();
    let worker = || Process::start("a_process_that_works", &schema, "");
    let mut workers = [(); 3].map(|()| worker());
    let seed = u64::from(std::process::id());
    let mut random = seed | 1;
    let mut next = move |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    println!("seed {seed}");
    let mut killed = 0;
    for run in 0..6 {
        let run = format!("run-{run}");
        let submitter = Process::start("a_process_that_submits", &schema, &run);
        tokio::time::sleep(Duration::from_millis(50 + next(600))).await;
        drop(submitter);
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(next(500))).await;
            let victim = usize::try_from(next(3)).unwrap();
            workers[victim] = worker();
            killed += 1;
        }
        adder.submit_as(run.as_str(), 1..=ITEMS).await.unwrap();
    }
    println!("{killed} workers and 6 submitters killed");
    for run in 0..6 {
        assert_eq!(result(&adder, &format!("run-{run}")).await, SUM);
    }
    let dead: i64 = {
        let count = format!("SELECT count(*) FROM \"{schema}\".dead_letters");
        client().await.query_one(&count, &[]).await.unwrap().get(0)
    };
    assert_eq!(dead, 0, "a death is nobody's failure");
    assert_tidy(&schema).await;
}
