//! Records of runs.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_result_is_taken_once() {
    let (fake, pad) = start().await;
    let key = run_key();
    assert!(pad.complete(&key, "1".into()).await.unwrap());
    let requests = fake.take();
    // Workers see it by a mark in the other table.
    assert_eq!(operations(&requests), [UPDATE, PUT]);
    assert_eq!(requests[0].text("TableName"), "results");
    assert_eq!(assigned(&requests[0], "result"), &json!({"S": "1"}));
    assert_eq!(
        requests[0].text("ConditionExpression"),
        "attribute_exists(#arrayId) AND #generation = :2 AND attribute_not_exists(#result) AND attribute_not_exists(#cancelled)"
    );
    assert_eq!(requests[1].text("TableName"), "pad");

    fake.replies(UPDATE, [failed_condition(json!({}))]);
    assert!(!pad.complete(&key, "2".into()).await.unwrap());
    assert_eq!(operations(&fake.take()), [UPDATE]);
}

#[tokio::test(start_paused = true)]
async fn workers_hear_that_a_run_is_over_though_the_answer_to_its_result_was_lost() {
    let (fake, pad) = start().await;
    // The result was written, and the client's next try finds it there.
    let there = run_item(json!({"result": {"S": "1"}}));
    fake.replies(
        UPDATE,
        [Reply::CutOff, failed_condition(json!({"Item": there}))],
    );
    pad.complete(&run_key(), "1".into()).await.unwrap();
    let requests = fake.take();
    assert_eq!(operations(&requests), [UPDATE, UPDATE, PUT]);
    assert_eq!(requests[2].text("TableName"), "pad");
}

/// The service removes expired items in no order. If a run's record went before its tree, a run
/// that is submitted under the same id would find its slots taken, and never end.
#[tokio::test(start_paused = true)]
async fn the_record_of_a_run_outlives_its_tree() {
    const DAYS: u64 = 24 * 60 * 60;
    let (fake, pad) = start().await;
    pad.begin(&record()).await.unwrap();
    pad.submitted(&run_key()).await.unwrap();
    pad.arrive(vec![arrival(0, 0, "a")]).await.unwrap();
    let requests = fake.take();
    let seconds = |value: &Value| value["N"].as_str().unwrap().parse::<u64>().unwrap();
    let begun = seconds(&requests[0].body["Item"]["expiresAt"]);
    let submitted = seconds(assigned(&requests[1], "expiresAt"));
    let arrived = seconds(assigned(&requests[2], "expiresAt"));
    // Duplicates may be written for 14 days after the end, and expired items may stay for some
    // days.
    assert!(begun >= arrived + 20 * DAYS, "{begun} {arrived}");
    assert!(submitted >= arrived + 20 * DAYS, "{submitted} {arrived}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_there_comes_back_as_it_stands() {
    let (fake, pad) = start().await;
    assert_eq!(pad.begin(&record()).await.unwrap(), Begun::New);
    let requests = fake.take();
    assert_eq!(operations(&requests), [PUT]);
    assert_eq!(
        requests[0].text("ConditionExpression"),
        "attribute_not_exists(#arrayId)"
    );
    assert_eq!(
        requests[0].text("ReturnValuesOnConditionCheckFailure"),
        "ALL_OLD"
    );

    let there = run_item(json!({"submitted": {"BOOL": true}, "result": {"S": "7"}}));
    let with_item = failed_condition(json!({"Item": there}));
    let without = failed_condition(json!({}));
    for (reply, made) in [(with_item, vec![PUT]), (without, vec![PUT, GET])] {
        fake.replies(PUT, [reply]);
        fake.replies(GET, [Reply::ok(json!({"Item": there}))]);
        let mut other = record();
        other.created_at += Duration::from_millis(1);
        let Begun::Existing(run) = pad.begin(&other).await.unwrap() else {
            panic!("it was there");
        };
        assert_eq!(run.record, record());
        assert!(run.submitted && !run.cancelled);
        assert_eq!(run.result, Some(Bytes::from("7")));
        assert_eq!(operations(&fake.take()), made);
    }
}
