//! Dead letters: whoever can write to their queue can write their reasons.

use catchment::{Error, RunState};

use super::*;

/// A run of which one packet has failed, and its dead letter.
async fn failed(store: &Store, codec: Codec) -> (Deployment<u64, u64>, Arc<AtomicU64>, DeadLetter) {
    let plain = Plain::new("adder", store.backend(), codec);
    let calls = Arc::clone(&plain.calls);
    let adder = plain.signed(KEY);
    let run = adder.submit_as("run", [1, 13]).await.unwrap();
    let worker = adder.worker().start();
    let error = soon(run.result()).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    worker.shutdown().await;
    let letter = letters(&adder).await.pop().unwrap();
    (adder, calls, letter)
}

/// The reason that is beside the only dead letter of a queue.
async fn reason(store: &Store, queue: &str) -> String {
    let queue = store.queue(queue).await;
    let page = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(page.items.len(), 1);
    page.items[0].reason.clone()
}

async fn bury(store: &Store, queue: &str, body: Bytes, reason: &str) {
    put(store, queue, [body.clone()]).await;
    let queue = store.queue(queue).await;
    // Messages of the run may be there as well.
    for delivery in queue.receive(100, Duration::ZERO).await.unwrap() {
        match delivery.body == body {
            true => queue.bury(delivery, reason).await.unwrap(),
            false => {
                let others = vec![delivery.receipt];
                queue.release(others, Duration::ZERO).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_genuine_letter_says_what_failed_and_is_redriven() {
    for codec in CODECS {
        let store = Store::new();
        let (adder, calls, letter) = failed(&store, *codec).await;
        assert_eq!(letter.error, "it is thirteen");
        assert_eq!((letter.item, letter.attempts.len()), (Some(1), 1));
        assert_eq!(letter.run.as_ref().map(|run| run.as_str()), Some("run"));
        assert_eq!(letter.message.as_deref(), Some("packet 1"));
        let run = adder.attach("run");
        assert_eq!(run.dead_letters().await.unwrap().len(), 1);
        let before = calls.load(SeqCst);
        assert_eq!(run.redrive().await.unwrap().redriven, 1);
        assert_eq!(run.status().await.unwrap().state, RunState::Running);
        let worker = adder.worker().start();
        assert!(soon(run.result()).await.is_err());
        assert_eq!(calls.load(SeqCst), before + 1);
        worker.shutdown().await;
    }
}

/// With the id of the failure on record, a forged letter would clear it: the run would look healthy and never end.
#[tokio::test(start_paused = true)]
async fn a_forged_reason_is_shown_as_such_and_clears_no_failure() {
    for codec in CODECS {
        let store = Store::new();
        let (adder, _, letter) = failed(&store, *codec).await;
        let genuine = reason(&store, "adder--double").await;
        let run = adder.attach("run");
        assert_eq!(run.discard().await.unwrap().discarded, 1);
        // A genuine message of the same run whose reason says that it is the one that failed.
        let (_, body) = genuine.split_once(',').unwrap();
        let forged = [
            format!("{{{body}"),
            genuine.replace("thirteen", "fourteen"),
            format!("{{\"tag\":\"{}\",{body}", "0".repeat(64)),
            "it is\u{1b}[2J nobody's".to_owned(),
        ];
        for reason in &forged {
            bury(&store, "adder--double", letter.body.clone(), reason).await;
        }
        // The reason is genuine, and is beside another message.
        let mut other = letter.body.to_vec();
        *other.last_mut().unwrap() ^= 1;
        bury(&store, "adder--double", other.into(), &genuine).await;
        // What the queue itself has moved has no reason.
        bury(&store, "adder--double", letter.body.clone(), "").await;

        let shown = letters(&adder).await;
        let errors: Vec<_> = shown.iter().map(|letter| &*letter.error).collect();
        let unverified = "unverified, since it is not signed by this deployment: ";
        let says = |what: &str| format!("{unverified}{what}");
        assert_eq!(
            errors,
            [
                says("it is thirteen"),
                says("it is fourteen"),
                says("it is thirteen"),
                says("it is\\u{1b}[2J nobody's"),
                says("it is thirteen"),
                "the queue's own limit of deliveries was reached".to_owned(),
            ]
        );
        for letter in &shown {
            assert_eq!((letter.item, &letter.label), (None, &None));
            assert!(letter.attempts.is_empty());
        }
        // The messages that are genuine are the run's, and go back; the failure on record was another letter's.
        assert_eq!(run.dead_letters().await.unwrap().len(), 5);
        let redriven = run.redrive().await.unwrap().redriven;
        assert_eq!(redriven, 5);
        assert_eq!(run.status().await.unwrap().state, RunState::Failed);
    }
}

/// Moved to another stage's dead letters, the reason is nobody's there.
#[tokio::test(start_paused = true)]
async fn a_letter_belongs_to_its_queue() {
    let store = Store::new();
    let (adder, _, letter) = failed(&store, Codec::Json).await;
    let genuine = reason(&store, "adder--double").await;
    adder.discard().await.unwrap();
    bury(&store, "adder--next", letter.body.clone(), &genuine).await;
    let moved = letters(&adder).await.pop().unwrap();
    assert!(moved.error.starts_with("unverified"), "{}", moved.error);
    assert_eq!((moved.run, moved.item), (None, None));
    // Back where it was, it is the one that failed.
    adder.discard().await.unwrap();
    bury(&store, "adder--double", letter.body.clone(), &genuine).await;
    let run = adder.attach("run");
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    assert_eq!(run.status().await.unwrap().state, RunState::Running);
}

/// From before the deployment had keys.
#[tokio::test(start_paused = true)]
async fn a_letter_without_a_tag_is_believed_while_keys_are_introduced() {
    let store = Store::new();
    let plain = json("adder", &store).deployment;
    let run = plain.submit_as("run", [1, 13]).await.unwrap();
    let worker = plain.worker().start();
    assert!(soon(run.result()).await.is_err());
    worker.shutdown().await;
    let strict = plain.clone().signed(KEY);
    assert!(letters(&strict).await[0].error.starts_with("unverified"));
    let lenient = plain.signed(Keys::new(KEY).accept_unsigned());
    let letter = letters(&lenient).await.pop().unwrap();
    assert_eq!((&*letter.error, letter.item), ("it is thirteen", Some(1)));
    let run = lenient.attach("run");
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    assert_eq!(run.status().await.unwrap().state, RunState::Running);
}
