//! Reading groups: answers that leave something out, and several pages.

use super::*;

#[tokio::test(start_paused = true)]
async fn groups_that_a_read_leaves_out_are_asked_for_again_and_come_in_order() {
    let (fake, pad) = start().await;
    fake.replies(
        GET_MANY,
        [
            slots(&[2], &[0, 1, 3]),
            slots(&[], &[0, 1, 3]),
            slots(&[3, 0], &[1]),
            slots(&[1], &[]),
        ],
    );
    let groups = [0, 1, 2, 3, 1].map(group);
    let arrived = pad.arrived(&groups).await.unwrap();
    assert_eq!(arrived, [[0], [1], [2], [3], [1]]);
    let requests = fake.take();
    let asked: Vec<Vec<u64>> = requests.iter().map(wanted).collect();
    let all: &[&[u64]] = &[&[0, 1, 2, 3], &[0, 1, 3], &[0, 1, 3], &[1]];
    assert_eq!(asked, all);
    for request in requests {
        let keys = &request.body["RequestItems"]["pad"];
        assert_eq!(keys["ConsistentRead"], true);
        assert!(keys["ProjectionExpression"].is_string());
    }
}

#[tokio::test(start_paused = true)]
async fn many_groups_are_read_by_the_hundred() {
    let (fake, pad) = start().await;
    let mut is_first = true;
    fake.always(GET_MANY, move |request| {
        let wanted = wanted(request);
        let found = if is_first { 60 } else { wanted.len() };
        is_first = false;
        slots(&wanted[..found], &wanted[found..])
    });
    let groups: Vec<GroupId> = (0..250).map(group).collect();
    let arrived = pad.arrived(&groups).await.unwrap();
    let all: Vec<Vec<u32>> = (0..250).map(|slot| vec![slot]).collect();
    assert_eq!(arrived, all);
    let counts: Vec<usize> = fake.take().iter().map(|it| wanted(it).len()).collect();
    assert_eq!(counts, [100, 100, 90]);
}

#[tokio::test(start_paused = true)]
async fn what_others_have_written_is_read_consistently() {
    let (fake, pad) = start().await;
    let (run, key) = (RunId::from("run"), run_key());
    let item = run_item(json!({"failures": {"BOOL": true}}));
    fake.always(GET, move |_| Reply::ok(json!({"Item": item})));
    pad.members(&group(0)).await.unwrap();
    pad.arrived(&[group(0)]).await.unwrap();
    pad.status(&run).await.unwrap();
    pad.wait(&run, Duration::ZERO).await.unwrap();
    pad.list_failures(&run, None, 10).await.unwrap();
    let stage = "parse";
    let cleared = pad.clear(&key, stage, "packet 3", DeadLetterId::random());
    cleared.await.unwrap();
    let requests = fake.take();
    let mut reads = 0;
    for request in &requests {
        let read = match request.operation.as_str() {
            UPDATE => continue,
            GET_MANY => &request.body["RequestItems"]["pad"],
            _ => &request.body,
        };
        assert_eq!(read["ConsistentRead"], true, "{request:?}");
        reads += 1;
    }
    // members, arrived, twice the run with two queries each, list with a look at the run, clear
    assert_eq!(reads, 1 + 1 + 3 + 3 + 3 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_several_pages_is_read_to_its_end() {
    let (fake, pad) = start().await;
    let page = |items: Value, last: Option<&str>| {
        let mut answer = json!({"Items": items});
        if let Some(slot) = last {
            answer["LastEvaluatedKey"] =
                json!({"groupId": {"S": "run#0000000000000000#sum#1#0"}, "slot": {"S": slot}});
        }
        Reply::ok(answer)
    };
    let mut own = attributes(&[2, 10, 0]);
    own["slot"] = json!({"S": "group"});
    own["s0"] = json!({"S": "zero"});
    own["s2"] = json!({"NULL": true});
    own["s10"] = json!({"NULL": true});
    let value = |slot: &str, value: &str| json!({"slot": {"S": slot}, "value": {"S": value}});
    fake.replies(
        QUERY,
        [
            page(json!([own]), Some("group")),
            // A page may be empty, and the next one not.
            page(json!([]), Some("slot#0000000001")),
            page(
                json!([value("slot#0000000002", "two")]),
                Some("slot#0000000002"),
            ),
            page(json!([value("slot#0000000010", "ten")]), None),
        ],
    );
    let members = pad.members(&group(0)).await.unwrap();
    let values = vec![
        (0, Bytes::from("zero")),
        (2, Bytes::from("two")),
        (10, Bytes::from("ten")),
    ];
    assert_eq!(members, Members::present(state(3), values));
    let requests = fake.take();
    assert_eq!(operations(&requests), [QUERY; 4]);
    let starts = requests.iter().map(|it| {
        let slot = &it.body["ExclusiveStartKey"]["slot"]["S"];
        slot.as_str().unwrap_or_default()
    });
    assert_eq!(
        starts.collect::<Vec<_>>(),
        ["", "group", "slot#0000000001", "slot#0000000002"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_count_of_several_pages_is_summed() {
    let (fake, pad) = start().await;
    let item = run_item(json!({"failures": {"BOOL": true}}));
    fake.always(GET, move |_| Reply::ok(json!({"Item": item})));
    let mut pages = 0;
    fake.always(QUERY, move |request| {
        if request.text("Select") != "COUNT" {
            return Reply::ok(json!({"Items": []}));
        }
        pages += 1;
        let mut answer = json!({"Count": pages});
        if pages < 3 {
            answer["LastEvaluatedKey"] = json!({"slot": {"S": "on"}});
        }
        Reply::ok(answer)
    });
    let status = pad.status(&"run".into()).await.unwrap().unwrap();
    assert_eq!(status.skipped, 1 + 2 + 3);
    assert_eq!(fake.take().len(), 1 + 1 + 3);
}

/// Every answer leaves everything to be done.
#[tokio::test(start_paused = true)]
async fn what_is_left_unprocessed_again_and_again_is_an_error_that_may_pass() {
    let (fake, pad) = start().await;
    fake.always(GET_MANY, |_| slots(&[], &[0]));
    fake.always(WRITE_MANY, |request| {
        Reply::ok(json!({"UnprocessedItems": request.body["RequestItems"]}))
    });
    let skip = report(1, Verdict::Skip);
    let outcomes = [
        pad.arrived(&[group(0)]).await.err(),
        pad.record(&skip).await.err(),
    ];
    for (operation, error) in [GET_MANY, WRITE_MANY].into_iter().zip(outcomes) {
        let error = error.unwrap();
        let text = said(&error);
        assert!(error.is_retryable(), "{text}");
        assert!(text.contains(operation), "{text}");
        assert!(
            text.contains("1 entries were left unprocessed 15 times"),
            "{text}"
        );
        assert_eq!(
            error.to_string(),
            format!("DynamoDB: {operation} on table `pad` failed")
        );
    }
    let requests = fake.take();
    for operation in [GET_MANY, WRITE_MANY] {
        let made = requests.iter().filter(|it| it.operation == operation);
        assert_eq!(made.count(), 15);
    }
}

/// One of a hundred keys with each answer, and keys that have no item: that is progress too.
#[tokio::test(start_paused = true)]
async fn a_call_that_gets_on_slowly_goes_on_for_as_long_as_it_takes() {
    let (fake, pad) = start().await;
    fake.always(GET_MANY, |request| slots(&[], &wanted(request)[1..]));
    let groups: Vec<GroupId> = (0..100).map(group).collect();
    let arrived = pad.arrived(&groups).await.unwrap();
    assert!(arrived.iter().all(Vec::is_empty));
    assert_eq!(operations(&fake.take()), vec![GET_MANY; 100]);
}
