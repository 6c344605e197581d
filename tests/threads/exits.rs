//! A function that never returns keeps no process from its end. Each test starts this test program once more, as a
//! process of its own that runs only the same test, which then does what the process is to do.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use catchment::{Backend, OnFailure};

use super::*;

/// Set in the process that a test has started.
const CHILD: &str = "CATCHMENT_TEST_CHILD";

/// How long a process may take that has a few hundred milliseconds of work.
const HANG: Duration = Duration::from_secs(60);

/// Runs `program` in a process of its own and returns what it printed, or panics if it does not end.
fn in_a_process(test: &str, program: fn()) -> Option<String> {
    if std::env::var_os(CHILD).is_some() {
        program();
        return None;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begin.elapsed() > HANG {
            child.kill().unwrap();
            break None;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    };
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let status = status.unwrap_or_else(|| panic!("the process never ended: {printed}"));
    assert!(status.success(), "{printed}");
    Some(printed.into_owned())
}

#[test]
fn main_ends_although_a_function_never_returns() {
    #[tokio::main]
    async fn main() {
        let hanging = hanging(|n| n == 3, OnFailure::Fail);
        println!("{}", hanging.run(0..10).await.unwrap_err());
    }
    let test = "exits::main_ends_although_a_function_never_returns";
    if let Some(printed) = in_a_process(test, main) {
        assert!(printed.contains("item 3"), "{printed}");
        assert!(printed.contains("timed out"), "{printed}");
    }
}

#[test]
fn a_worker_shuts_down_although_a_function_never_returns() {
    #[tokio::main]
    async fn main() {
        let hanging = hanging(|n| n == 3, OnFailure::Fail);
        let hanging = hanging.deploy("hanging", Backend::memory()).unwrap();
        let run = hanging.submit(0..10).await.unwrap();
        let worker = hanging.worker().start();
        println!("{}", run.result().await.unwrap_err());
        worker.shutdown().await;
        println!("shut down");
    }
    let test = "exits::a_worker_shuts_down_although_a_function_never_returns";
    if let Some(printed) = in_a_process(test, main) {
        assert!(printed.contains("item 3"), "{printed}");
        assert!(printed.contains("shut down"), "{printed}");
    }
}

/// Nothing has been given up yet when the future is dropped.
#[test]
fn main_ends_although_a_run_was_dropped_in_a_function_that_never_returns() {
    #[tokio::main]
    async fn main() {
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let pipeline = Pipeline::new().map(move |n: u64| {
            begun.send(n).unwrap();
            never_returns::<u64>()
        });
        tokio::select! {
            _ = pipeline.run(0..10) => panic!("nothing ends"),
            _ = begins.recv() => println!("begun"),
        }
    }
    let test = "exits::main_ends_although_a_run_was_dropped_in_a_function_that_never_returns";
    if let Some(printed) = in_a_process(test, main) {
        assert!(printed.contains("begun"), "{printed}");
    }
}
