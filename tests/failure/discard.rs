//! Dead letters that are looked at, put back and discarded, however many there are.

use std::sync::{Arc, Mutex};

use catchment::queue::{Depth, Outgoing, PAGE_BYTES, QueueOptions, Queues};
use catchment::testing::faults::{Crash, When};
use catchment::{Backend, Deployment, Discarded, Error, Pipeline, RunState, Stage, permanent};
use futures::TryStreamExt;
use tokio::time::sleep;

use super::*;
use crate::common::*;

/// A pipeline in which every odd item is bad.
fn evens() -> Sum {
    sum(Pipeline::new()
        .then(|n: u64| async move {
            match n % 2 {
                1 => Err(permanent(format!("{n} is odd"))),
                _ => Ok(n),
            }
        })
        .with(Stage::named("even").packet_size(1)))
}

/// A run over `length` items whose odd ones are dead letters.
async fn failed(store: &Store, deployment: &Deployment<u64, u64>, id: &str, length: u64) {
    let before = store.depth(deployment).await.dead;
    let worker = deployment.worker().start();
    let run = deployment.submit_as(id, 0..length).await.unwrap();
    assert!(soon(run.result()).await.is_err());
    soon(async {
        while store.depth(deployment).await.dead < before + length / 2 {
            sleep(SECOND).await;
        }
    })
    .await;
    worker.shutdown().await;
}

/// Dead letters that belong to no run.
async fn bury(store: &Store, queue: &str, count: usize, body: &[u8]) {
    let queue = store.queue(queue).await;
    let message = Outgoing::new(body.to_vec());
    queue.send(vec![message; count]).await.unwrap();
    for delivery in queue.receive(count, SECOND).await.unwrap() {
        queue.bury(delivery, "made up for a test").await.unwrap();
    }
}

/// A backend that notes how many dead letters are asked for.
fn counted(store: &Store) -> (Backend, Arc<Mutex<Vec<usize>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let hook = On(move |call: &Call<'_>| {
        if let Call::DeadLetters(_, max) = call {
            notes.lock().unwrap().push(*max);
        }
        Act::Go
    });
    (store.hooked(Arc::new(hook)), asked)
}

#[tokio::test(start_paused = true)]
async fn a_look_at_one_dead_letter_of_thousands_costs_one() {
    let store = Store::new();
    let (backend, asked) = counted(&store);
    let deployment = evens().deploy("many", backend).unwrap();
    bury(&store, "many--even", 3_000, b"?").await;
    failed(&store, &deployment, "run", 2).await;
    asked.lock().unwrap().clear();

    let page = deployment.dead_letters().limit(1).await.unwrap();
    assert_eq!((page.len(), page.next.is_some()), (1, true));
    assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), [1]);

    // One run's are looked for among the others: a thousand a page, and the list comes to its end.
    let run = deployment.attach("run");
    let page = run.dead_letters().limit(1).await.unwrap();
    assert_eq!((page.len(), page.next.is_some()), (0, true));
    let read: usize = std::mem::take(&mut *asked.lock().unwrap()).iter().sum();
    assert_eq!(read, 1_000);
    let own: Vec<_> = run
        .dead_letters()
        .limit(1)
        .stream()
        .try_collect()
        .await
        .unwrap();
    assert_eq!((own.len(), own[0].item), (1, Some(1)));
    let calls = asked.lock().unwrap().len();
    assert!(calls < 100, "{calls} calls for 3,001 letters");
}

#[tokio::test(start_paused = true)]
async fn a_page_of_large_dead_letters_has_few_of_them() {
    let store = Store::new();
    let deployment = evens().deploy("large", store.backend()).unwrap();
    bury(&store, "large--even", 40, &[b'x'; 256 * 1024]).await;
    let page = deployment.dead_letters().limit(10_000).await.unwrap();
    let bytes: usize = page.iter().map(|letter| letter.body.len()).sum();
    assert!(bytes <= 2 * PAGE_BYTES && page.len() > 1, "{bytes} bytes");
    let all = deployment.dead_letters().limit(10_000).stream();
    assert_eq!(all.try_collect::<Vec<_>>().await.unwrap().len(), 40);
    // One that is larger than a page is a page.
    bury(&store, "large--reduce-1", 2, &vec![b'x'; 2 * PAGE_BYTES]).await;
    let all = deployment.dead_letters().limit(10_000).stream();
    assert_eq!(all.try_collect::<Vec<_>>().await.unwrap().len(), 42);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_dead_letters_were_discarded_stays_failed() {
    let store = Store::new();
    let deployment = evens().deploy("evens", store.backend()).unwrap();
    failed(&store, &deployment, "run", 10).await;
    failed(&store, &deployment, "other", 6).await;
    let run = deployment.attach("run");
    let outcome = run.discard().await.unwrap();
    assert_eq!(
        (outcome.discarded, outcome.passed_over, outcome.more),
        (5, 0, false)
    );
    assert_eq!(store.depth(&deployment).await, Depth::new().dead(3));
    assert!(run.dead_letters().await.unwrap().is_empty());
    assert_eq!(
        deployment
            .attach("other")
            .dead_letters()
            .await
            .unwrap()
            .len(),
        3
    );

    let status = run.status().await.unwrap();
    assert_eq!(
        (status.state, status.messages_failed),
        (RunState::Failed, 5)
    );
    assert_eq!(run.failures().await.unwrap().len(), 5);
    let failure = failure(run.result().await.unwrap_err());
    assert_eq!(failure.item, Some(1));
    assert_eq!(
        run.redrive().await.unwrap().redriven,
        0,
        "there is nothing left to redrive"
    );
    assert_eq!(run.discard().await.unwrap(), Discarded::default());

    let all = deployment.discard().await.unwrap();
    assert_eq!((all.discarded, all.more), (3, false));
    assert_eq!(store.depth(&deployment).await, Depth::new());
    assert_eq!(deployment.discard().await.unwrap(), Discarded::default());
    let unknown = deployment.attach("unknown").discard().await;
    assert!(
        matches!(unknown, Err(Error::NoSuchRun { .. })),
        "{unknown:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn some_dead_letters_are_discarded_and_the_others_redriven() {
    let store = Store::new();
    let deployment = evens().deploy("evens", store.backend()).unwrap();
    failed(&store, &deployment, "run", 6).await;
    failed(&store, &deployment, "other", 2).await;
    bury(&store, "evens--even", 1, b"?").await;
    let (run, other) = (deployment.attach("run"), deployment.attach("other"));
    let letters = deployment.dead_letters().await.unwrap();
    assert_eq!(letters.len(), 5);

    let own = letters
        .iter()
        .find(|letter| letter.item == Some(3))
        .unwrap();
    let foreign = other.dead_letters().await.unwrap()[0].id();
    // Named twice, it is one.
    let named = [own.id(), own.id(), foreign.clone()];
    let outcome = run.discard_these(named).await.unwrap();
    assert_eq!((outcome.discarded, outcome.passed_over), (1, 1));
    let items: Vec<_> = run
        .dead_letters()
        .await
        .unwrap()
        .iter()
        .map(|letter| letter.item)
        .collect();
    assert_eq!(items, [Some(1), Some(5)]);
    assert_eq!(
        other.dead_letters().await.unwrap().len(),
        1,
        "it is another run's"
    );

    let unreadable = letters.iter().find(|letter| letter.run.is_none()).unwrap();
    let outcome = deployment
        .discard_these([foreign, unreadable.id(), own.id()])
        .await
        .unwrap();
    assert_eq!((outcome.discarded, outcome.passed_over), (2, 1));
    // A deployment with the same stages has other dead letters, and one that lost a stage none of it.
    let namesake = evens().deploy("namesake", store.backend()).unwrap();
    let refused = namesake.discard_these([own.id()]).await.unwrap_err();
    let error = "a dead letter of deployment `evens` cannot be discarded by deployment `namesake`";
    assert!(refused.to_string().contains(error), "{refused}");
    let changed = sum(Pipeline::new().then(ok::<u64>));
    let changed = changed.deploy("evens", store.backend()).unwrap();
    let refused = changed.discard_these([own.id()]).await;
    assert!(refused.unwrap_err().to_string().contains("stage `even`"));

    assert_eq!(deployment.redrive().await.unwrap(), 2);
    assert_eq!(store.depth(&deployment).await, Depth::new().ready(2));
    // Without item 3, the run has no failure that would stand but that one, and never a result.
    assert_eq!(run.status().await.unwrap().messages_failed, 1);
}

/// What fails again at once becomes another dead letter while others are still being put back.
#[tokio::test(start_paused = true)]
async fn thousands_of_dead_letters_go_back_once_each() {
    let store = Store::new();
    let deployment = evens().deploy("evens", store.backend()).unwrap();
    failed(&store, &deployment, "run", 3_000).await;
    let slow = On(|call: &Call<'_>| match call {
        Call::DeadLetters(..) => Act::Late(60 * SECOND),
        _ => Act::Go,
    });
    let looks = evens()
        .deploy("evens", store.hooked(Arc::new(slow)))
        .unwrap();
    let worker = deployment.worker().start();
    assert_eq!(
        soon(looks.attach("run").redrive()).await.unwrap().redriven,
        1_500
    );
    assert_eq!(soon(looks.redrive()).await.unwrap(), 1_500);
    drop(worker);
}

/// Discarding breaks off at any of its calls, is repeated, and the rest is as it was.
#[tokio::test(start_paused = true)]
async fn discarding_that_broke_off_is_completed_by_repeating_it() {
    let mut schedules = 0;
    for when in [When::Before, When::After] {
        for at in 1.. {
            let store = Store::new();
            let crash = Crash::new(Some(at), when);
            let doomed = evens().deploy("evens", store.crashing(&crash, at)).unwrap();
            let healthy = evens().deploy("evens", store.backend()).unwrap();
            failed(&store, &healthy, "run", 20).await;
            failed(&store, &healthy, "other", 2).await;
            let breaks_off = doomed.attach("run");
            let died = tokio::select! {
                discarded = breaks_off.discard() => discarded.is_err(),
                () = crash.crashed() => true,
            };
            let run = healthy.attach("run");
            run.discard().await.unwrap();
            assert_eq!(
                store.depth(&healthy).await,
                Depth::new().dead(1),
                "dies {when:?} call {at}"
            );
            assert_eq!(run.status().await.unwrap().messages_failed, 10);
            schedules += 1;
            if !died {
                break;
            }
        }
    }
    assert!(schedules >= 6, "{schedules} schedules");
}

/// Many runs that failed, in memory: neither their records nor their dead letters stay for ever.
#[tokio::test(start_paused = true)]
async fn failed_runs_in_memory_are_let_go_with_their_dead_letters() {
    let store = Store::new();
    let deployment = evens().deploy("evens", store.backend()).unwrap();
    let worker = deployment.worker().start();
    for n in 0..200 {
        let run = deployment.submit_as(format!("{n}"), [1]).await.unwrap();
        assert!(soon(run.result()).await.is_err());
        sleep(MINUTE).await;
    }
    let dead = store.depth(&deployment).await.dead;
    assert!((59..=60).contains(&dead), "{dead}");
    // The last ones can still be redriven.
    assert_eq!(
        deployment.attach("199").redrive().await.unwrap().redriven,
        1
    );
    let options = QueueOptions::default();
    let queue = store.queues.open("evens--even", &options).await.unwrap();
    sleep(120 * MINUTE).await;
    assert_eq!(queue.depth().await.unwrap().dead, 0);
    drop(worker);
}
