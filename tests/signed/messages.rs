//! What comes off a queue.

use catchment::{Fate, RunState};
use tokio::time::sleep;

use super::*;

#[tokio::test(start_paused = true)]
async fn signed_runs_have_their_results_in_both_codecs() {
    for codec in CODECS {
        let store = Store::new();
        let adder = Plain::new("adder", store.backend(), *codec).signed(KEY);
        let worker = adder.worker().start();
        let run = adder.submit(1..=12).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap(), 168);
        let outcome = run.outcome().await.unwrap();
        assert_eq!((outcome.contains, outcome.skipped), (12, 0));
        assert_eq!(run.status().await.unwrap().state, RunState::Done);
        assert!(letters(&adder).await.is_empty());
        worker.shutdown().await;
    }
}

/// Every byte of a message in turn, every shorter one and a longer one.
#[tokio::test(start_paused = true)]
async fn whatever_is_altered_is_buried_unread() {
    for codec in CODECS {
        let store = Store::new();
        let plain = Plain::new("adder", store.backend(), *codec);
        let calls = Arc::clone(&plain.calls);
        let adder = plain.signed(KEY);
        let run = adder.submit_as("run", [7]).await.unwrap();
        let [body] = &taken(&store, "adder--double").await[..] else {
            panic!("one packet");
        };
        let mut altered = Vec::new();
        for place in 0..body.len() {
            // The other case of a letter, too.
            for bit in [1, 0x20, 0x80] {
                let mut bytes = body.to_vec();
                bytes[place] ^= bit;
                altered.push(Bytes::from(bytes));
            }
            altered.push(body.slice(..place));
        }
        altered.push([body, &b" "[..]].concat().into());
        altered.push([&b" "[..], body].concat().into());
        put(&store, "adder--double", altered.clone()).await;

        let worker = adder.worker().start();
        sleep(MINUTE).await;
        assert_eq!(calls.load(SeqCst), 0, "{codec:?}");
        all_buried(&adder, altered.len(), &[UNSIGNED, FORGED]).await;
        // The run knows of none, and goes on.
        let status = run.status().await.unwrap();
        assert_eq!((status.state, status.failure), (RunState::Running, None));
        put(&store, "adder--double", [body.clone()]).await;
        assert_eq!(soon(run.result()).await.unwrap(), 15);
        assert_eq!(calls.load(SeqCst), 1);
        worker.shutdown().await;
    }
}

/// A message that everything but the tag is right of, and which would be somebody's result without keys.
#[tokio::test(start_paused = true)]
async fn a_forger_without_the_key_changes_nothing() {
    let forged = r#""version":1,"kind":"map","deployment":"adder","stage":"next","arrayId":"victim","fanIn":3,"packetId":"0/0","packetOffset":0,"arrayLength":2,"packetContains":1,"packetValue":[1000000]}"#;
    let forged = |generation: &str| {
        forged.replacen(
            "\"fanIn\"",
            &format!("\"generation\":\"{generation}\",\"fanIn\""),
            1,
        )
    };
    let store = Store::new();
    let adder = json("adder", &store).signed(KEY);
    let run = adder.submit_as("victim", [1, 2]).await.unwrap();
    let generation = generation(&store, &adder, "victim").await;
    let forged_now = forged(&generation);
    let bodies = [
        format!("{{{forged_now}"),
        format!("{{\"tag\":\"{}\",{forged_now}", "0".repeat(64)),
        format!("{{\"tag\":\"{}\",{forged_now}", "secret".repeat(20)),
        format!("{{\"tag\":null,{forged_now}"),
    ];
    let bodies = bodies.map(Bytes::from);
    put(&store, "adder--next", bodies.clone()).await;
    let worker = adder.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 8);
    sleep(MINUTE).await;
    all_buried(&adder, bodies.len(), &[UNSIGNED, FORGED]).await;
    for letter in letters(&adder).await {
        assert!(!letter.error.contains("secret"), "{}", letter.error);
    }
    worker.shutdown().await;

    // Without keys the first of them is the run's: what this is about.
    let store = Store::new();
    let adder = json("adder", &store).deployment;
    let run = adder.submit_as("victim", [1, 2]).await.unwrap();
    let bare = format!(
        "{{{}",
        forged(&self::generation(&store, &adder, "victim").await)
    );
    put(&store, "adder--next", [Bytes::from(bare)]).await;
    let stolen = adder.worker().stages(["next"]).start();
    sleep(MINUTE).await;
    stolen.shutdown().await;
    let worker = adder.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 1_000_006);
    worker.shutdown().await;
}

/// On a queue of another stage, and of another deployment with the same key.
#[tokio::test(start_paused = true)]
async fn a_genuine_message_is_refused_where_it_does_not_belong() {
    for codec in CODECS {
        for queue in ["one--next", "one--sum", "two--double"] {
            let store = Store::new();
            let plain = ["one", "two"].map(|name| Plain::new(name, store.backend(), *codec));
            let calls = plain.each_ref().map(|plain| Arc::clone(&plain.calls));
            let [one, two] = plain.map(|plain| plain.signed(KEY));
            let run = one.submit_as("run", [7]).await.unwrap();
            let bodies = taken(&store, "one--double").await;
            put(&store, queue, bodies.clone()).await;
            let workers = [one.worker().start(), two.worker().start()];
            sleep(MINUTE).await;
            let misplaced = "the message cannot be read: it belongs to stage `double` of deployment `one`, by its tag, and came to another queue";
            let there = if queue.starts_with("one") { &one } else { &two };
            all_buried(there, 1, &[misplaced]).await;
            assert_eq!(run.status().await.unwrap().failure, None);
            assert_eq!(calls.each_ref().map(|calls| calls.load(SeqCst)), [0, 0]);
            // A redrive puts it back where it was, and it is buried once more.
            assert_eq!(there.redrive().await.unwrap(), 1);
            sleep(MINUTE).await;
            all_buried(there, 1, &[misplaced]).await;
            put(&store, "one--double", bodies).await;
            assert_eq!(soon(run.result()).await.unwrap(), 15);
            for worker in workers {
                worker.shutdown().await;
            }
        }
    }
}

/// The other way round, the message would be read: keys are for those who have them.
#[tokio::test(start_paused = true)]
async fn what_has_no_tag_is_refused() {
    for codec in CODECS {
        let store = Store::new();
        let plain = Plain::new("adder", store.backend(), *codec).deployment;
        let adder = plain.clone().signed(KEY);
        let run = plain.submit([7]).await.unwrap();
        let worker = adder.worker().start();
        sleep(MINUTE).await;
        all_buried(&adder, 1, &[UNSIGNED]).await;
        worker.shutdown().await;
        // A process without keys takes it from there.
        let unsigned = plain.worker().start();
        assert_eq!(plain.redrive().await.unwrap(), 1);
        assert_eq!(soon(run.result()).await.unwrap(), 15);
        unsigned.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_without_keys_reads_what_is_signed() {
    for codec in CODECS {
        let store = Store::new();
        let plain = Plain::new("adder", store.backend(), *codec).deployment;
        let run = plain.clone().signed(KEY).submit([7, 8]).await.unwrap();
        let worker = plain.worker().start();
        let run = plain.attach(run.id().clone());
        assert_eq!(soon(run.result()).await.unwrap(), 32);
        assert!(letters(&plain).await.is_empty());
        worker.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_handler_refuses_what_a_worker_refuses() {
    let store = Store::new();
    let plain = json("adder", &store);
    let calls = Arc::clone(&plain.calls);
    let adder = plain.signed(KEY);
    let run = adder.submit_as("run", [7]).await.unwrap();
    let [body] = &taken(&store, "adder--double").await[..] else {
        panic!("one packet");
    };
    let altered = String::from_utf8(body.to_vec()).unwrap();
    let altered = altered.replace("[7]", "[9]");
    put(&store, "adder--double", [altered.into(), body.clone()]).await;
    let handler = adder.handler("double").unwrap();
    let queue = store.queue(handler.queue_name()).await;
    let deliveries = queue.receive(10, Duration::ZERO).await.unwrap();
    let fates = handler.handle(deliveries.clone(), MINUTE).await;
    assert_eq!(fates, [Fate::Acknowledge, Fate::Acknowledge]);
    let receipts = deliveries.into_iter().map(|delivery| delivery.receipt);
    queue.acknowledge(receipts.collect()).await.unwrap();
    all_buried(&adder, 1, &[FORGED]).await;
    assert_eq!(calls.load(SeqCst), 1);
    let worker = adder.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 15);
    worker.shutdown().await;
}
