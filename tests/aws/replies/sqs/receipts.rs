//! Acknowledging and extending.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_receipt_is_once_in_a_request_however_often_it_is_given() {
    let fake = start().await;
    let queue = open(&fake).await;
    queue.acknowledge(receipts(["a", "b", "a"])).await.unwrap();
    let twice = receipts(["b", "a", "b"]);
    let stale = queue.extend(twice, MINUTE).await.unwrap();
    assert_eq!(stale, []);
    assert_eq!(
        batches(&fake.take()),
        [(DELETE, strings(["a", "b"])), (HIDE, strings(["b", "a"]))]
    );
}

#[tokio::test(start_paused = true)]
async fn acknowledging_with_a_stale_receipt_is_no_error() {
    let fake = start().await;
    let queue = open(&fake).await;
    for code in ["ReceiptHandleIsInvalid", "InvalidParameterValue"] {
        fake.next(DELETE, but(["b"], Fate::Refused(code)));
        queue.acknowledge(receipts(["a", "b"])).await.unwrap();
        assert_eq!(batches(&fake.take()), [(DELETE, strings(["a", "b"]))]);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_acknowledgement_that_failed_is_repeated() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.next(DELETE, but(["b"], Fate::Failed("InternalError")));
    queue.acknowledge(receipts(["a", "b", "c"])).await.unwrap();
    assert_eq!(
        batches(&fake.take()),
        [(DELETE, strings(["a", "b", "c"])), (DELETE, strings(["b"]))]
    );
}

#[tokio::test(start_paused = true)]
async fn extending_returns_exactly_the_receipts_that_are_stale() {
    let fake = start().await;
    let queue = open(&fake).await;
    // In the words of each of the service's protocols, and of a message that was acknowledged.
    for code in [
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
        "ReceiptHandleIsInvalid",
        "InvalidParameterValue",
    ] {
        fake.next(HIDE, but(["b"], Fate::Refused(code)));
        let stale = queue.extend(receipts(["a", "b", "c"]), MINUTE).await;
        assert_eq!(stale.unwrap(), receipts(["b"]), "{code}");
        let requests = fake.take();
        assert_eq!(batches(&requests), [(HIDE, strings(["a", "b", "c"]))]);
        for entry in requests[0].body["Entries"].as_array().unwrap() {
            assert_eq!(entry["VisibilityTimeout"], 60);
        }
    }
}

/// A message is hidden for 12 hours at most, counted from its receive, in all. Until then it is not lost: with a visibility
/// timeout of 12 hours, work was stopped after 6, at the first heartbeat.
///
/// <https://github.com/mapbox/ecs-watchbot/pull/275>
#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_held_for_longer_is_not_lost_yet() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.next(HIDE, |request| {
        let entry = &request.body["Entries"][0];
        Reply::ok(json!({"Failed": [{
            "Id": entry["Id"],
            "Code": "InvalidParameterValue",
            "Message": "Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds].",
            "SenderFault": true,
        }]}))
    });
    let stale = queue.extend(receipts(["a"]), 12 * 60 * MINUTE).await;
    assert_eq!(stale.unwrap(), []);
    assert_eq!(batches(&fake.take()), [(HIDE, strings(["a"]))]);
}

#[tokio::test(start_paused = true)]
async fn only_the_heartbeat_that_failed_is_repeated() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.next(HIDE, |request| {
        batch(request, |text| match text {
            "stale" => Fate::Refused("MessageNotInflight"),
            "slow" => Fate::Failed("InternalError"),
            _ => Fate::Done,
        })
    });
    let all = ["a", "stale", "slow"];
    let stale = queue.extend(receipts(all), MINUTE).await.unwrap();
    assert_eq!(stale, receipts(["stale"]));
    assert_eq!(
        batches(&fake.take()),
        [(HIDE, strings(all)), (HIDE, strings(["slow"]))]
    );
}
