//! Runs whose submission was not completed.

use super::*;

/// Gives the first `sent` numbers, and then waits without end, like a submitter that is slow or dead.
fn broken_off(sent: u64) -> impl futures::Stream<Item = u64> {
    use futures::StreamExt;
    futures::stream::iter(0..sent).chain(futures::stream::pending())
}

#[tokio::test(start_paused = true)]
async fn an_open_run_is_settled_once_it_is_completed_or_cancelled() {
    let (pipeline, _) = slow(|n| n == 1);
    let deployment = pipeline.deploy("open", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    for completes in [true, false] {
        let id = format!("open {completes}").replace(' ', "-");
        let items = broken_off(3);
        let submission = deployment.submit_stream_as(id.as_str(), items);
        assert!(timeout(10 * MINUTE, submission).await.is_err());
        let run = deployment.attach(id.as_str());
        assert_eq!(run.status().await.unwrap().state, RunState::Failed);
        assert!(goes_on(&run).await);
        let redriven = run.redrive().await.unwrap();
        assert_eq!((redriven.redriven, redriven.under_way), (1, 1));
        match completes {
            true => {
                let items = futures::stream::iter(0..3);
                deployment
                    .submit_stream_as(id.as_str(), items)
                    .await
                    .unwrap();
            }
            false => assert!(run.cancel().await.unwrap()),
        }
        let status = soon(run.settled()).await.unwrap();
        let expected = [RunState::Cancelled, RunState::Failed][usize::from(completes)];
        assert_eq!((status.state, status.settled), (expected, true));
    }
    drop(worker);
}

/// A submission that has failed for good sends nothing more, and says so in the record.
#[tokio::test(start_paused = true)]
async fn a_run_whose_submission_failed_is_settled_when_what_was_sent_is_done() {
    let (pipeline, _) = slow(|_| false);
    let store = Store::new();
    let refuses = On(|call: &Call<'_>| match call {
        Call::Measure => Act::Fail(Error::refused("the store", "measure", "no")),
        _ => Act::Go,
    });
    let deployment = pipeline
        .deploy("refused", store.hooked(Arc::new(refuses)))
        .unwrap();
    let worker = deployment.worker().start();
    let begin = Instant::now();
    let items = futures::stream::iter(0..8);
    assert!(deployment.submit_stream_as("run", items).await.is_err());
    let run = deployment.attach("run");
    let status = run.status().await.unwrap();
    assert_eq!((status.state, status.settled), (RunState::Failed, false));
    let status = soon(run.settled()).await.unwrap();
    assert_eq!((status.state, status.items_done), (RunState::Failed, 8));
    assert!(begin.elapsed() >= 7 * MINUTE);
    assert_eq!((status.items_failed, status.messages_failed), (0, 1));
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_no_items_is_settled_by_its_root() {
    let (pipeline, _) = slow(|_| false);
    let deployment = pipeline.deploy("none", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..0).await.unwrap();
    assert_eq!(soon(run.settled()).await.unwrap().state, RunState::Done);
    drop(worker);
}
