//! What a scratchpad keeps: partial results in their slots, and results.

use catchment::Error;
use catchment::scratchpad::Arrival;
use tokio::time::sleep;

use super::*;

const TAMPERED: &str = "its tag does not verify";
const BARE: &str = "it has no tag at its beginning";

/// What a deployment of this name has on its queue, in its slots and as its result on the way of a run of two items.
struct Written {
    messages: Vec<Bytes>,
    slots: Vec<Bytes>,
    result: Bytes,
}

impl Written {
    async fn by(name: &str, run: &str, codec: Codec, keys: Option<Keys>) -> Self {
        let store = Store::new();
        let plain = Plain::new(name, store.backend(), codec);
        let adder = match keys {
            Some(keys) => plain.signed(keys),
            None => plain.deployment,
        };
        adder.submit_as(run, [5, 6]).await.unwrap();
        let messages = taken(&store, &format!("{name}--double")).await;
        put(&store, &format!("{name}--double"), messages.clone()).await;
        let worker = adder.worker().stages(["double", "next"]).start();
        sleep(MINUTE).await;
        worker.shutdown().await;
        let slots = slots(&store, &adder, run).await;
        let worker = adder.worker().start();
        soon(adder.attach(run).wait(MINUTE)).await.unwrap();
        worker.shutdown().await;
        let result = store.recorded(&adder, run).await.result.unwrap();
        Self {
            messages,
            slots,
            result,
        }
    }
}

/// A run whose slot 1 a stranger has filled before its own value arrives ends with a failure that says so.
async fn is_refused(what: &str, codec: Codec, value: Bytes, why: &str) {
    let store = Store::new();
    let adder = Plain::new("one", store.backend(), codec).signed(KEY);
    let run = adder.submit_as("run", [1, 2]).await.unwrap();
    let group = group(&store, &adder, "run").await;
    let bound = store.scratchpad.bind("one").unwrap();
    let arrival = Arrival::new(group.clone(), 1, value);
    bound.arrive(vec![arrival]).await.unwrap();
    let worker = adder.worker().start();
    let failure = match soon(run.result()).await {
        Err(Error::Failed { failure, .. }) => failure,
        other => panic!("{what}: {other:?}"),
    };
    worker.shutdown().await;
    let named = "cannot decode slot 1 of group 1/0: ";
    assert!(failure.error.starts_with(named), "{what}: {failure}");
    assert!(failure.error.contains(why), "{what}: {failure}");
    // The message that asks for the reduction is genuine, and so is its reason.
    let letters = letters(&adder).await;
    assert_eq!(letters.len(), 1, "{what}");
    assert_eq!(letters[0].message.as_deref(), Some("group 1/0"));
    assert_eq!(letters[0].error, failure.error);
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_in_a_slot_that_is_not_its_own_fails_the_reduction() {
    for codec in CODECS {
        let signed = |name, run| Written::by(name, run, *codec, Some(Keys::new(KEY)));
        let own = signed("one", "run").await;
        is_refused("another slot", *codec, own.slots[0].clone(), TAMPERED).await;
        is_refused("a message", *codec, own.messages[1].clone(), TAMPERED).await;
        is_refused("a result", *codec, own.result, TAMPERED).await;
        let other = signed("one", "other").await;
        is_refused("another run", *codec, other.slots[1].clone(), TAMPERED).await;
        let other = signed("two", "run").await;
        is_refused("another's", *codec, other.slots[1].clone(), TAMPERED).await;
        let other = Written::by("one", "run", *codec, Some(Keys::new(OTHER))).await;
        is_refused("another key", *codec, other.slots[1].clone(), TAMPERED).await;
        let other = Written::by("one", "run", *codec, None).await;
        is_refused("no key", *codec, other.slots[1].clone(), BARE).await;
        let mut altered = own.slots[1].to_vec();
        *altered.iter_mut().nth_back(1).unwrap() ^= 1;
        is_refused("altered", *codec, altered.into(), TAMPERED).await;
        is_refused("bytes", *codec, Bytes::from_static(b"12"), BARE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_value_is_no_message() {
    for codec in CODECS {
        let own = Written::by("one", "run", *codec, Some(Keys::new(KEY))).await;
        let store = Store::new();
        let adder = Plain::new("one", store.backend(), *codec).signed(KEY);
        for queue in ["one--double", "one--next", "one--sum"] {
            put(&store, queue, [own.slots[0].clone(), own.result.clone()]).await;
        }
        let worker = adder.worker().start();
        sleep(MINUTE).await;
        all_buried(&adder, 6, &[FORGED]).await;
        worker.shutdown().await;
    }
}

/// Of everybody who may read it: no other result is shown, and none takes its place.
#[tokio::test(start_paused = true)]
async fn a_forged_result_is_an_error() {
    for codec in CODECS {
        let own = Written::by("one", "run", *codec, Some(Keys::new(KEY))).await;
        let other = Written::by("one", "other", *codec, Some(Keys::new(KEY))).await;
        let bare = Written::by("one", "run", *codec, None).await;
        for (forged, why) in [
            (other.result, TAMPERED),
            (own.slots[0].clone(), TAMPERED),
            (own.messages[0].clone(), TAMPERED),
            (bare.result, BARE),
            (Bytes::from_static(b"{}"), BARE),
        ] {
            let store = Store::new();
            let adder = Plain::new("one", store.backend(), *codec).signed(KEY);
            let run = adder.submit_as("run", [1, 2]).await.unwrap();
            let bound = store.scratchpad.bind("one").unwrap();
            let key = store.recorded(&adder, "run").await.record.key();
            assert!(bound.complete(&key, forged).await.unwrap());
            let worker = adder.worker().start();
            for error in [
                soon(run.result()).await.unwrap_err(),
                soon(run.outcome()).await.unwrap_err(),
                run.status().await.unwrap_err(),
            ] {
                assert!(matches!(error, Error::Decode { .. }), "{error:?}");
                let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
                assert!(said.contains(why), "{said}");
            }
            worker.shutdown().await;
        }
    }
}
