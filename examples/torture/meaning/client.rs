//! Clients: each submits a run, waits for it, and does what a person may do if it says that it has failed.

use std::time::Duration;

use catchment::{Deployment, Error, Outcome, Run};
use tokio::time::{Instant, sleep, timeout};

use super::STUCK;

/// One run, or two one after the other with the same id.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) deployment: usize,
    pub(super) id: &'static str,
    pub(super) lengths: Vec<u64>,
    pub(super) stream: bool,
    pub(super) spared: bool,
    pub(super) after: Duration,
}

/// How a run ended.
pub(super) struct End {
    pub(super) plan: Plan,
    pub(super) length: u64,
    pub(super) outcome: Result<Outcome<String>, String>,
    pub(super) is_stuck: bool,
    pub(super) said_so: u64,
    pub(super) took: Duration,
    pub(super) problems: Vec<String>,
}

/// Submits, and waits for each result. A run that says it has failed is redriven, or its letters are discarded, or neither.
pub(super) async fn client(
    deployment: Deployment<u64, String>,
    plan: Plan,
    mut random: fastrand::Rng,
) -> Vec<End> {
    let mut ends = Vec::new();
    sleep(plan.after).await;
    for length in plan.lengths.clone() {
        let run = deployment.attach(plan.id);
        // An id can be used again once its record has gone.
        let begin = Instant::now();
        while !ends.is_empty() && run.status().await.is_ok() {
            if begin.elapsed() > STUCK * 3 {
                return ends;
            }
            sleep(Duration::from_secs(10)).await;
        }
        let begin = Instant::now();
        let mut end = End {
            plan: plan.clone(),
            length,
            outcome: Err("it was not submitted".to_owned()),
            is_stuck: false,
            said_so: 0,
            took: Duration::ZERO,
            problems: Vec::new(),
        };
        loop {
            let submitted = match plan.stream {
                true => {
                    let items = futures::stream::iter(0..length);
                    deployment.submit_stream_as(plan.id, items).await
                }
                false => deployment.submit_as(plan.id, 0..length).await,
            };
            match submitted {
                Ok(_) => break,
                Err(error) if error.is_retryable() => sleep(Duration::from_secs(1)).await,
                Err(error) => {
                    end.problems.push(format!("submitting: {error}"));
                    break;
                }
            }
        }
        follow(&run, &mut end, &mut random).await;
        end.took = begin.elapsed();
        ends.push(end);
    }
    ends
}

/// Waits until a run has its result, or has failed for too long.
async fn follow(run: &Run<String>, end: &mut End, random: &mut fastrand::Rng) {
    let begin = Instant::now();
    loop {
        let outcome = timeout(STUCK, run.outcome()).await;
        let is_late = begin.elapsed() > STUCK;
        match outcome {
            Err(_) => {
                end.is_stuck = true;
                end.outcome = Err(format!("no end: {:?}", run.status().await));
                return;
            }
            Ok(Ok(outcome)) => {
                end.outcome = Ok(outcome);
                return;
            }
            Ok(Err(Error::Failed { failure, .. })) => {
                end.said_so += 1;
                if failure.stage.is_empty() || failure.message.is_empty() {
                    end.problems
                        .push(format!("a failure without a name: {failure:?}"));
                }
                if is_late {
                    let letters = run.dead_letters().limit(10).await;
                    end.is_stuck = true;
                    end.outcome = Err(format!("failed for good: {failure:?}: {letters:?}"));
                    return;
                }
                sleep(Duration::from_millis(random.u64(0..60_000))).await;
                // If these fail, the next round repeats them.
                match random.u32(0..3) {
                    0 => drop(run.redrive().await),
                    1 => drop(run.discard().await),
                    _ => {}
                }
            }
            Ok(Err(error)) if error.is_retryable() && !is_late => {}
            Ok(Err(error)) => {
                end.is_stuck = is_late;
                end.outcome = Err(error.to_string());
                return;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}
