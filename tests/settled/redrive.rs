//! Redriving a run while other messages of it are still under way, and once none is.

use super::*;

/// 38 of 40 items fail, one after the other.
fn crawl() -> (Sum, Arc<AtomicBool>) {
    slow(|n| n >= 2)
}

#[tokio::test(start_paused = true)]
async fn an_early_redrive_says_how_many_messages_are_not_there_yet() {
    let (pipeline, broken) = crawl();
    let deployment = pipeline.deploy("crawl", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..40).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    sleep(27 * MINUTE + 30 * SECOND).await;
    let early = run.redrive().await.unwrap();
    assert_eq!((early.redriven, early.under_way), (28, 10));
    // The cause was not fixed when these began: the run fails again.
    assert!(soon(run.result()).await.is_err());

    let status = soon(run.settled()).await.unwrap();
    assert_eq!((status.items_failed, status.items_done), (38, 2));
    broken.store(false, SeqCst);
    let all = run.redrive().await.unwrap();
    assert_eq!((all.redriven, all.under_way), (38, 0));
    assert_eq!(soon(run.result()).await.unwrap(), (0..40).sum::<u64>());
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_redrive_that_waits_puts_all_dead_letters_back_at_once() {
    let (pipeline, broken) = crawl();
    let deployment = pipeline.deploy("crawl", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..40).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    let waits = async {
        let all = soon(run.redrive_settled()).await.unwrap();
        assert_eq!((all.redriven, all.under_way), (38, 0));
    };
    let fixes = async {
        sleep(39 * MINUTE).await;
        broken.store(false, SeqCst);
    };
    tokio::join!(waits, fixes);
    assert_eq!(soon(run.result()).await.unwrap(), (0..40).sum::<u64>());
    // There is nothing left.
    let again = run.redrive_settled().await.unwrap();
    assert_eq!((again.redriven, again.under_way), (0, 0));
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_redriven_run_is_under_way_again() {
    let (pipeline, broken) = slow(|n| n == 2);
    let deployment = pipeline.deploy("again", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..4).await.unwrap();
    soon(run.settled()).await.unwrap();
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    let status = run.status().await.unwrap();
    assert_eq!((status.state, status.settled), (RunState::Running, false));
    assert_eq!((status.items_failed, status.messages_failed), (0, 0));
    let status = soon(run.settled()).await.unwrap();
    assert_eq!((status.state, status.settled), (RunState::Failed, true));
    broken.store(false, SeqCst);
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    assert_eq!(soon(run.settled()).await.unwrap().state, RunState::Done);
    drop(worker);
}

/// The record of a discarded letter stays: its packet never arrives, and nothing waits for it.
#[tokio::test(start_paused = true)]
async fn a_run_whose_dead_letters_were_discarded_stays_settled() {
    let (pipeline, _) = slow(|n| n == 1);
    let deployment = pipeline.deploy("gone", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..4).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    sleep(SECOND).await;
    assert_eq!(run.discard().await.unwrap().discarded, 1);
    assert!(!run.status().await.unwrap().settled, "others go on");
    let status = soon(run.settled()).await.unwrap();
    assert_eq!(
        (status.state, status.messages_failed),
        (RunState::Failed, 1)
    );
    let redriven = run.redrive().await.unwrap();
    assert_eq!((redriven.redriven, redriven.under_way), (0, 0));
    assert!(run.status().await.unwrap().settled);
    drop(worker);
}
