//! Keys that are introduced, replaced and removed while runs are under way.

use catchment::Error;
use tokio::time::sleep;

use super::*;

/// In the order that `Keys` describes: whichever step a process is at, it reads what its neighbours wrote.
#[tokio::test(start_paused = true)]
async fn neighbouring_steps_of_a_rotation_read_each_other() {
    let steps: [fn(Plain) -> Deployment<u64, u64>; 6] = [
        |plain| plain.deployment,
        |plain| plain.signed(Keys::new(OTHER).accept_unsigned()),
        |plain| plain.signed(OTHER),
        |plain| plain.signed(Keys::new(OTHER).also(KEY)),
        |plain| plain.signed(Keys::new(KEY).also(OTHER)),
        |plain| plain.signed(KEY),
    ];
    for codec in CODECS {
        for pair in steps.windows(2) {
            // Both ways, each with workers of both.
            for turned in [false, true] {
                let store = Store::new();
                let both = [pair[usize::from(turned)], pair[usize::from(!turned)]];
                let both = both.map(|step| step(Plain::new("adder", store.backend(), *codec)));
                let run = both[0].submit([1, 2, 3, 4]).await;
                // The last pair of the introduction: nothing is signed by one without keys any more by then.
                let run = run.unwrap();
                let first = both[1].worker().stages(["double", "sum"]).start();
                let second = both[0].worker().stages(["next"]).start();
                assert_eq!(soon(run.result()).await.unwrap(), 24);
                let there = both[1].attach(run.id().clone());
                assert_eq!(soon(there.result()).await.unwrap(), 24);
                assert!(letters(&both[0]).await.is_empty());
                first.shutdown().await;
                second.shutdown().await;
            }
        }
    }
}

/// What only the removed key has signed is refused, and nothing of it is lost.
#[tokio::test(start_paused = true)]
async fn a_key_that_was_removed_too_early_comes_back() {
    for codec in CODECS {
        let store = Store::new();
        let with = |keys: Keys| Plain::new("adder", store.backend(), *codec).signed(keys);
        let (old, new) = (with(Keys::new(OTHER)), with(Keys::new(KEY)));
        // One message is refused on its queue, and one was a partial result by then.
        let run = old.submit_as("run", [7, 8]).await.unwrap();
        let mut bodies = taken(&store, "adder--double").await;
        let late = bodies.split_off(1);
        put(&store, "adder--double", bodies).await;
        let worker = old.worker().stages(["double", "next"]).start();
        sleep(MINUTE).await;
        worker.shutdown().await;
        put(&store, "adder--double", late).await;
        let worker = new.worker().start();
        sleep(MINUTE).await;
        all_buried(&new, 1, &[FORGED]).await;
        worker.shutdown().await;

        let worker = with(Keys::new(KEY).also(OTHER)).worker().start();
        assert_eq!(new.redrive().await.unwrap(), 1);
        assert_eq!(
            soon(new.attach(run.id().clone()).result()).await.unwrap(),
            32
        );
        let error = old.attach(run.id().clone()).result().await.unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{error}");
        worker.shutdown().await;
    }
}

/// The introduction accepts what has no tag, and never a wrong one.
#[tokio::test(start_paused = true)]
async fn who_accepts_the_unsigned_refuses_the_forged() {
    let store = Store::new();
    let plain = json("adder", &store);
    let calls = Arc::clone(&plain.calls);
    let forger = plain.deployment.clone().signed(OTHER);
    let adder = plain.signed(Keys::new(KEY).accept_unsigned());
    let forged = forger.submit_as("forged", [7]).await.unwrap();
    let worker = adder.worker().start();
    sleep(MINUTE).await;
    all_buried(&adder, 1, &[FORGED]).await;
    assert_eq!(calls.load(SeqCst), 0);
    assert_eq!(forged.status().await.unwrap().failure, None);
    worker.shutdown().await;
}

#[test]
fn no_key_is_shown() {
    let text = "8f0c1e5ad26b49377c91e4f0b2d85a6313f7c0a9e86d542b1f39d07ab4c6e852";
    let key: Key = text.parse().unwrap();
    let keys = Keys::from(key.clone()).also(Key::from_hex(&text.to_uppercase()).unwrap());
    let shown = format!("{key:?} {keys:?} {keys:#?}");
    assert!(!shown.contains("8f") && !shown.contains("143"), "{shown}");
    for wrong in [
        "",
        "8f0c",
        &text[1..],
        &format!("{text}0"),
        &text.replace('8', "g"),
    ] {
        let error = Key::from_hex(wrong).unwrap_err();
        assert!(matches!(
            error,
            Error::InvalidArgument {
                argument: "key",
                ..
            }
        ));
        let said = format!("{error} {error:?}");
        assert!(wrong.is_empty() || !said.contains(wrong), "{said}");
    }
    assert!(Key::from_hex(&format!(" {text}\n")).is_ok());
}
