//! Calls outside of a tokio runtime, in one without timers, and in one that must not be blocked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

use catchment::{Backend, Deployment, Error};
use futures::{TryStreamExt, stream};

use super::*;

/// Drives a future as an executor does that is none of tokio's.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn adder() -> Pipeline<i64, i64, One> {
    let doubled = Pipeline::new().map(|n: i64| n * 2);
    doubled.reduce(|| 0, |a, b| a + b)
}

fn deployed() -> Deployment<i64, i64> {
    adder().deploy("adder", Backend::memory()).unwrap()
}

fn problem<T>(called: Result<T, Error>) -> String {
    match called.err().expect("there is no runtime for it") {
        Error::NoRuntime { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

/// The problems of every call that needs a runtime.
async fn problems() -> Vec<(&'static str, String)> {
    let (adder, deployed) = (adder(), deployed());
    let run = deployed.attach("a");
    let handler = deployed.handler("map-0").unwrap();
    let mut worker = deployed.worker().start();
    let problems = vec![
        ("run", problem(adder.run(1..=5).await)),
        (
            "run_stream",
            problem(adder.run_stream(stream::iter(1..=5)).await),
        ),
        ("submit", problem(deployed.submit(1..=5).await)),
        ("submit_as", problem(deployed.submit_as("a", 1..=5).await)),
        (
            "submit_stream",
            problem(deployed.submit_stream(stream::iter(1..=5)).await),
        ),
        (
            "submit_stream_as",
            problem(deployed.submit_stream_as("a", stream::iter(1..=5)).await),
        ),
        ("provision", problem(deployed.provision().await)),
        ("deprovision", problem(deployed.deprovision("adder").await)),
        ("runs", problem(deployed.runs(Default::default()).await)),
        (
            "runs as a stream",
            problem(deployed.runs(Default::default()).stream().try_next().await),
        ),
        ("dead_letters", problem(deployed.dead_letters().await)),
        ("result", problem(run.result().await)),
        ("outcome", problem(run.outcome().await)),
        ("wait", problem(run.wait(Duration::from_secs(1)).await)),
        ("status", problem(run.status().await)),
        ("failures", problem(run.failures().await)),
        ("dead letters of a run", problem(run.dead_letters().await)),
        ("cancel", problem(run.cancel().await)),
        ("redrive", problem(run.redrive().await)),
        (
            "try_handle",
            problem(handler.try_handle(Vec::new(), Duration::MAX).await),
        ),
        ("a worker", problem(worker.finished().await)),
        (
            "run_until",
            problem(deployed.worker().run_until(std::future::pending()).await),
        ),
    ];
    assert!(worker.finished().await.is_ok(), "the error is said once");
    deployed.worker().start().shutdown().await;
    assert!(handler.handle(Vec::new(), Duration::MAX).await.is_empty());
    problems
}

#[test]
fn outside_of_a_runtime_every_call_says_what_to_do() {
    for (call, problem) in block_on(problems()) {
        assert!(
            problem.contains("outside of a tokio runtime"),
            "{call}: {problem}"
        );
        assert!(problem.contains("#[tokio::main]"), "{call}: {problem}");
    }
}

#[test]
fn in_a_runtime_without_timers_every_call_says_what_to_do() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    for (call, problem) in runtime.block_on(problems()) {
        assert!(problem.contains("has no timers"), "{call}: {problem}");
        assert!(problem.contains("`enable_time`"), "{call}: {problem}");
    }
}

#[test]
fn run_blocking_needs_no_runtime() {
    assert_eq!(adder().run_blocking(1..=5).unwrap(), 30);
    let waiting = Pipeline::new().then(async |n: u64| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        catchment_ok(n)
    });
    assert_eq!(waiting.run_blocking(1..=5).unwrap(), 5);
    let failing =
        Pipeline::new().try_map(|n: u64| Err::<u64, _>(catchment::permanent(n.to_string())));
    assert!(matches!(
        failing.run_blocking([7]),
        Err(Error::Failed { .. })
    ));
}

fn catchment_ok(n: u64) -> Result<u64, std::convert::Infallible> {
    Ok(n)
}

#[test]
fn run_blocking_is_an_error_inside_of_a_runtime() {
    let inside = || problem(adder().run_blocking(1..=5));
    for mut builder in [
        tokio::runtime::Builder::new_current_thread(),
        tokio::runtime::Builder::new_multi_thread(),
    ] {
        let runtime = builder.build().unwrap();
        let blocked = runtime.block_on(async { catch_unwind(AssertUnwindSafe(inside)) });
        let problem = blocked.expect("no panic");
        assert!(problem.contains("await `Pipeline::run`"), "{problem}");
    }
    // In a function of a pipeline, too.
    let nested = Pipeline::new().map(move |_: u64| inside());
    let nested = nested.reduce(String::new, |a, b| a + &b);
    let problem = nested.run_blocking([1]).unwrap();
    assert!(problem.contains("await `Pipeline::run`"), "{problem}");
}
