//! Arrivals at groups.

use super::*;

#[tokio::test(start_paused = true)]
async fn siblings_that_arrive_together_are_one_write() {
    let (fake, pad) = start().await;
    fake.replies(
        UPDATE,
        [Reply::ok(json!({"Attributes": attributes(&[0, 1, 2, 3])}))],
    );
    let arrivals = (0..4).map(|slot| arrival(0, slot, "small"));
    let states = pad.arrive(arrivals.collect()).await.unwrap();
    assert_eq!(states, [state(4); 4]);
    let requests = fake.take();
    assert_eq!(operations(&requests), [UPDATE]);
    let update = &requests[0];
    assert_eq!(update.text("TableName"), "pad");
    assert_eq!(update.body["Key"], key(0));
    assert_eq!(update.text("ReturnValues"), "UPDATED_NEW");
    assert!(
        update
            .text("UpdateExpression")
            .starts_with("ADD #arrived :0 SET ")
    );
    assert_eq!(
        update.body["ExpressionAttributeValues"][":0"],
        json!({"NS": ["0", "1", "2", "3"]})
    );
    for slot in 0..4 {
        assert_eq!(
            assigned(update, &format!("s{slot}")),
            &json!({"S": "small"})
        );
    }
    assert_eq!(
        update.text("ConditionExpression"),
        "attribute_not_exists(#retired)"
    );
}

#[tokio::test(start_paused = true)]
async fn arrivals_at_two_groups_are_two_writes() {
    let (fake, pad) = start().await;
    fake.always(UPDATE, |request| {
        let slots: &[u32] = match request.body["Key"] == key(7) {
            true => &[5],
            false => &[1, 2],
        };
        Reply::ok(json!({"Attributes": attributes(slots)}))
    });
    let arrivals = vec![arrival(0, 1, "a"), arrival(7, 5, "b"), arrival(0, 2, "c")];
    let states = pad.arrive(arrivals).await.unwrap();
    assert_eq!(states, [state(2), state(1), state(2)]);
    let requests = fake.take();
    assert_eq!(operations(&requests), [UPDATE; 2]);
    let keys: Vec<&Value> = requests.iter().map(|it| &it.body["Key"]).collect();
    assert!(keys.contains(&&key(0)) && keys.contains(&&key(7)));
}

#[tokio::test(start_paused = true)]
async fn a_large_value_is_written_before_its_slot_whoever_was_first() {
    for is_taken in [false, true] {
        let (fake, pad) = start().await;
        if is_taken {
            fake.replies(PUT, [failed_condition(json!({}))]);
        }
        fake.always(UPDATE, |_| {
            Reply::ok(json!({"Attributes": attributes(&[3, 4])}))
        });
        let large = "x".repeat(513);
        let just_small = "y".repeat(512);
        let arrivals = vec![arrival(0, 3, &large), arrival(0, 4, &just_small)];
        assert_eq!(pad.arrive(arrivals).await.unwrap(), [state(2); 2]);
        let requests = fake.take();
        assert_eq!(operations(&requests), [PUT, UPDATE]);
        let [put, update] = &requests[..] else {
            unreachable!()
        };
        assert_eq!(put.body["Item"]["slot"], json!({"S": "slot#0000000003"}));
        assert_eq!(put.body["Item"]["value"], json!({"S": large}));
        assert_eq!(
            put.text("ConditionExpression"),
            "attribute_not_exists(#groupId)"
        );
        assert_eq!(assigned(update, "s3"), &json!({"NULL": true}));
        assert_eq!(assigned(update, "s4"), &json!({"S": just_small}));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_not_added_when_its_large_value_could_not_be_written() {
    let (fake, pad) = start().await;
    fake.always(PUT, |_| refused("ThrottlingException"));
    let large = "x".repeat(513);
    let arrived = pad.arrive(vec![arrival(0, 3, &large)]).await;
    assert!(arrived.unwrap_err().is_retryable());
    assert_eq!(operations(&fake.take()), [PUT; 3]);
}

#[tokio::test(start_paused = true)]
async fn arriving_at_a_retired_group_reports_it_as_retired() {
    let (fake, pad) = start().await;
    let mut old = attributes(&[0, 1]);
    old["retired"] = json!({"BOOL": true});
    fake.replies(UPDATE, [failed_condition(json!({"Item": old}))]);
    let states = pad.arrive(vec![arrival(0, 1, "late")]).await.unwrap();
    let mut retired = state(2);
    retired.retired = true;
    assert_eq!(states, [retired]);
    let requests = fake.take();
    assert_eq!(operations(&requests), [UPDATE]);
    assert_eq!(
        requests[0].text("ReturnValuesOnConditionCheckFailure"),
        "ALL_OLD"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_leaves_out_what_did_not_change_is_completed_by_a_look() {
    let mut old = attributes(&[0, 1]);
    old["expected"] = json!({"N": "2"});
    old["root"] = json!({"BOOL": true});
    let mut full = state(2);
    full.expected = Some(2);
    full.root = true;
    let mut retired = full;
    retired.retired = true;
    // A write that changed the time of expiry only, and a refusal without the item.
    let written = Reply::ok(json!({"Attributes": {"expiresAt": {"N": "1"}}}));
    let late = failed_condition(json!({}));
    for (reply, wanted) in [(written, full), (late, retired)] {
        let (fake, pad) = start().await;
        if wanted.retired {
            old["retired"] = json!({"BOOL": true});
        }
        fake.replies(UPDATE, [reply]);
        fake.replies(GET, [Reply::ok(json!({"Item": old}))]);
        let states = pad.arrive(vec![arrival(0, 1, "again")]).await.unwrap();
        assert_eq!(states, [wanted]);
        let requests = fake.take();
        assert_eq!(operations(&requests), [UPDATE, GET]);
        assert_eq!(requests[1].body["Key"], key(0));
        assert_eq!(requests[1].body["ConsistentRead"], true);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_beyond_the_size_of_an_item_is_refused_before_anything_is_written() {
    let (fake, pad) = start().await;
    let large = "x".repeat(500_000);
    let arrivals = vec![arrival(0, 0, "small"), arrival(0, 1, &large)];
    let arrived = pad.arrive(arrivals).await.unwrap_err();
    let completed = pad.complete(&run_key(), Bytes::from(large)).await;
    for error in [arrived, completed.unwrap_err()] {
        assert!(!error.is_retryable());
        let Error::TooLarge {
            what, size, limit, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(size, 500_000);
        assert!(limit < ITEM && limit > ITEM - 8 * 1024, "{limit}");
        assert!(what.contains("run"), "{what}");
    }
    assert!(fake.take().is_empty());
}
