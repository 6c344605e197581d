//! Records of failures, and the size of an item that limits them.

use super::*;

fn too_large() -> Reply {
    let kind = "com.amazon.coral.validate#ValidationException";
    let message = "Item size to update has exceeded the maximum allowed size";
    Reply::refused(400, kind, message)
}

#[tokio::test(start_paused = true)]
async fn skipped_items_that_a_write_leaves_out_are_written_again() {
    fn items(request: &Request) -> Vec<u64> {
        let writes = request.body["RequestItems"]["pad"].as_array().unwrap();
        let number = |write: &Value| {
            let item = &write["PutRequest"]["Item"];
            assert_eq!(
                item["groupId"],
                json!({"S": "run#0000000000000000#skipped"})
            );
            item["item"]["N"].as_str().unwrap().parse().unwrap()
        };
        writes.iter().map(number).collect()
    }

    let (fake, pad) = start().await;
    let left = |request: &Request, from: usize| {
        let writes = &request.body["RequestItems"]["pad"].as_array().unwrap()[from..];
        Reply::ok(json!({"UnprocessedItems": {"pad": writes}}))
    };
    fake.next(WRITE_MANY, move |it| left(it, 20));
    fake.next(WRITE_MANY, move |it| left(it, 0));
    fake.replies(QUERY, [Reply::ok(json!({"Count": 60, "ScannedCount": 60}))]);
    let log = pad.record(&report(60, Verdict::Skip)).await.unwrap();
    assert_eq!(log.skipped, 60);
    let requests = fake.take();
    assert_eq!(
        operations(&requests),
        [
            UPDATE, UPDATE, WRITE_MANY, WRITE_MANY, WRITE_MANY, WRITE_MANY, QUERY
        ]
    );
    assert_eq!(requests[0].text("TableName"), "results");
    assert_eq!(requests[1].text("TableName"), "pad");
    let written: Vec<Vec<u64>> = requests[2..6].iter().map(items).collect();
    let wanted: [Vec<u64>; 4] = [
        (0..25).collect(),
        (20..45).collect(),
        (20..45).collect(),
        (45..60).collect(),
    ];
    assert_eq!(written, wanted);
    assert_eq!(requests[6].body["ConsistentRead"], true);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_has_become_too_large_is_shortened() {
    let (fake, pad) = start().await;
    let text = |number| serde_json::to_string(&attempt(number, 0, "x".repeat(4_000))).unwrap();
    let old: Vec<Value> = (1..=97).map(|number| json!({"S": text(number)})).collect();
    fake.replies(UPDATE, [too_large()]);
    fake.replies(GET, [Reply::ok(json!({"Item": {"attempts": {"L": old}}}))]);
    let mut report = report(0, Verdict::Retry);
    report.attempts = vec![attempt(98, 0, "y".repeat(4_000))];
    let log = pad.record(&report).await.unwrap();
    assert_eq!(log.attempts.last(), report.attempts.last());
    let numbers: Vec<u32> = log.attempts.iter().map(|it| it.number).collect();
    let first = numbers[0];
    assert!(first > 1 && numbers.iter().copied().eq(first..=98));
    let requests = fake.take();
    assert_eq!(operations(&requests), [UPDATE, GET, UPDATE, QUERY]);
    assert_eq!(requests[1].body["ConsistentRead"], true);
    let update = &requests[2];
    let kept = assigned(update, "attempts")["L"].as_array().unwrap();
    assert_eq!(kept.len(), numbers.len());
    assert!(update.body.to_string().len() < ITEM);
    // Only if nothing has been added to it since.
    let values = &update.body["ExpressionAttributeValues"];
    let condition = update.text("ConditionExpression");
    let (size, count) = condition.split_once(" = ").unwrap();
    assert_eq!(
        (size, &values[count]),
        ("size(#attempts)", &json!({"N": "97"}))
    );
}

/// Records five attempts at a hundred items that fail with this error, on a service that keeps to
/// its limit.
async fn fail_again_and_again(error: &str) {
    let (fake, pad) = start().await;
    let history = Arc::<Mutex<Vec<Value>>>::default();
    let old = Arc::clone(&history);
    fake.always(GET, move |_| {
        Reply::ok(json!({"Item": {"attempts": {"L": *old.lock().unwrap()}}}))
    });
    fake.always(UPDATE, move |request| {
        let mut history = history.lock().unwrap();
        let values = &request.body["ExpressionAttributeValues"];
        let condition = request.text("ConditionExpression");
        if let Some((_, most)) = condition.split_once("size(#attempts) <= ") {
            let (most, _) = most.split_once(')').unwrap();
            let most: usize = values[most]["N"].as_str().unwrap().parse().unwrap();
            if history.len() > most {
                return failed_condition(json!({}));
            }
        }
        let is_append = request.text("UpdateExpression").contains("list_append");
        let before = match is_append {
            true => stored(&json!(*history)),
            false => 0,
        };
        if before + stored(values) > ITEM {
            return too_large();
        }
        if is_append {
            let lists = values.as_object().unwrap().values();
            let lists = lists.filter_map(|value| value["L"].as_array());
            history.extend(lists.flatten().cloned());
        } else if condition.contains("size") {
            let list = assigned(request, "attempts")["L"].as_array();
            *history = list.unwrap().clone();
        }
        Reply::ok(json!({"Attributes": {"attempts": {"L": *history}}}))
    });
    for number in 1..=5 {
        let verdict = match number {
            5 => Verdict::Dead(DeadLetterId::random()),
            _ => Verdict::Retry,
        };
        let mut report = report(0, verdict);
        let items = (0..100).map(|item| attempt(number, item, error));
        report.attempts = items.collect();
        let log = pad.record(&report).await.unwrap();
        assert_eq!(log.attempts.last(), report.attempts.last());
    }
}

/// The longest error that the library records.
const LONGEST_ERROR: usize = 2_000;

#[tokio::test(start_paused = true)]
async fn long_errors_of_many_items_can_be_written_down() {
    for text in ["x", "\"", "\u{1f30a}"] {
        fail_again_and_again(&text.repeat(LONGEST_ERROR)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn long_errors_of_control_characters_can_be_written_down() {
    fail_again_and_again(&"\0".repeat(LONGEST_ERROR)).await;
}

/// The minimum that a value counts towards the limit of an item.
fn stored(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(stored).sum(),
        Value::Object(values) => values.values().map(stored).sum(),
        _ => 0,
    }
}

/// The client repeats a write whose answer was lost: the second one finds the attempt on record, and changes nothing.
#[tokio::test(start_paused = true)]
async fn an_attempt_is_on_record_once_although_the_answer_to_its_write_was_lost() {
    let (fake, pad) = start().await;
    let report = report(2, Verdict::Retry);
    let texts: Vec<String> = report
        .attempts
        .iter()
        .map(|attempt| serde_json::to_string(attempt).unwrap())
        .collect();
    let list: Vec<Value> = texts.iter().map(|text| json!({"S": text})).collect();
    fake.replies(UPDATE, [Reply::Closed, failed_condition(json!({}))]);
    fake.replies(GET, [Reply::ok(json!({"Item": {"attempts": {"L": list}}}))]);
    let log = pad.record(&report).await.unwrap();
    assert_eq!(log.attempts, report.attempts);
    let requests = fake.take();
    assert_eq!(operations(&requests), [UPDATE, UPDATE, GET, UPDATE, QUERY]);
    // The delivery's end, which is written down in any case, and once however often that is.
    assert!(!requests[3].text("UpdateExpression").contains("list_append"));
    let condition = requests[0].text("ConditionExpression");
    let (_, last) = condition.split_once("NOT contains(#attempts, ").unwrap();
    let (last, _) = last.split_once(')').unwrap();
    let values = &requests[0].body["ExpressionAttributeValues"];
    assert_eq!(values[last], json!({"S": texts[1]}));
}

/// A version that writes attempts in another form must not make this one wait for ever.
#[tokio::test(start_paused = true)]
async fn a_history_that_cannot_all_be_read_is_shortened_all_the_same() {
    let (fake, pad) = start().await;
    let mut stored = vec![json!({"S": "{\"of\": \"another version\"}"})];
    let readable = |number| {
        let text = serde_json::to_string(&attempt(number, 0, "older")).unwrap();
        json!({"S": text})
    };
    stored.extend((1..100).map(readable));
    let item = json!({"attempts": {"L": stored}});
    fake.always(GET, move |_| Reply::ok(json!({"Item": item})));
    fake.replies(UPDATE, [failed_condition(json!({}))]);
    // As the service would, which compares the number of entries; a few times, so that this test ends.
    let mut refusals = 0;
    fake.always(UPDATE, move |request| {
        let (_, count) = request
            .text("ConditionExpression")
            .split_once(" = ")
            .unwrap();
        let is_same = request.body["ExpressionAttributeValues"][count] == json!({"N": "100"});
        refusals += usize::from(!is_same);
        match is_same || refusals > 3 {
            true => Reply::ok(json!({})),
            false => failed_condition(json!({})),
        }
    });
    let log = pad.record(&report(1, Verdict::Retry)).await.unwrap();
    assert_eq!(
        log.attempts.last(),
        report(1, Verdict::Retry).attempts.last()
    );
    assert_eq!(operations(&fake.take()), [UPDATE, GET, UPDATE, QUERY]);
}

/// The counts of the items are entries of a set, so that none has to be read first: a report is one write.
#[tokio::test(start_paused = true)]
async fn a_report_counts_for_its_items_in_one_write() {
    let (fake, pad) = start().await;
    let mut report = report(0, Verdict::Retry).delivery(DeliveryId::from(7));
    report.attempts = [(1, 30), (2, 30), (1, 31)]
        .map(|(number, item)| attempt(number, item, "bad"))
        .to_vec();
    report.attempts.push(Attempt::new(4, time(), "as a whole"));
    pad.record(&report).await.unwrap();
    let requests = fake.take();
    assert_eq!(operations(&requests), [UPDATE, QUERY]);
    let expression = requests[0].text("UpdateExpression");
    assert!(expression.ends_with(" REMOVE #at_7"), "{expression}");
    let values = requests[0].body["ExpressionAttributeValues"].as_object();
    let sets: Vec<&Value> = values.unwrap().values().collect();
    assert!(sets.contains(&&json!({"SS": ["30:2", "31:1"]})), "{sets:?}");
    for number in ["4", "7"] {
        assert!(sets.contains(&&json!({"NS": [number]})), "{sets:?}");
    }
}

/// The set of counts is bounded: when it is full, the highest ones take the place of all.
#[tokio::test(start_paused = true)]
async fn a_set_of_counts_that_is_full_is_replaced_by_the_highest() {
    let (fake, pad) = start().await;
    let entries: Vec<String> = (0..1_000)
        .flat_map(|item| [format!("{item}:1"), format!("{item}:2")])
        .collect();
    fake.replies(UPDATE, [failed_condition(json!({}))]);
    let item = json!({"attempts": {"L": []}, "failedItems": {"SS": entries}});
    fake.replies(GET, [Reply::ok(json!({"Item": item}))]);
    let mut report = report(0, Verdict::Retry);
    report.attempts = vec![attempt(3, 5_000, "bad")];
    pad.record(&report).await.unwrap();
    let requests = fake.take();
    assert_eq!(operations(&requests), [UPDATE, GET, UPDATE, QUERY]);
    let kept = assigned(&requests[2], "failedItems")["SS"].as_array();
    let kept: Vec<&str> = kept.unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(kept.len(), 1_000);
    assert!(
        kept.contains(&"5000:3") && kept.contains(&"0:2"),
        "{kept:?}"
    );
    assert!(
        !kept.contains(&"999:2") && !kept.contains(&"0:1"),
        "{kept:?}"
    );
    let condition = requests[2].text("ConditionExpression");
    assert!(condition.contains("size(#failedItems) = "), "{condition}");
}

/// Without items that were left out, a dead letter costs what it did.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_looks_for_skipped_items_only_if_there_are_any() {
    for skipped in [0, 3] {
        let (fake, pad) = start().await;
        let counts = [skipped, 2].map(|count| Reply::ok(json!({"Count": count})));
        fake.replies(QUERY, counts);
        let dead = Verdict::Dead(DeadLetterId::random());
        let log = pad.record(&report(1, dead)).await.unwrap();
        let expected: &[&str] = match skipped {
            0 => &[UPDATE, UPDATE, QUERY, UPDATE],
            _ => &[UPDATE, UPDATE, QUERY, QUERY, UPDATE],
        };
        let requests = fake.take();
        assert_eq!(operations(&requests), expected);
        let replaced = assigned(requests.last().unwrap(), "replaced");
        assert_eq!(
            replaced,
            &json!({"N": if skipped == 0 { "0" } else { "2" }})
        );
        assert_eq!(log.skipped, skipped);
    }
}
