//! Lists: the index of runs, and failures in two partitions.

use catchment::scratchpad::{Cursor, RunFilter, RunState, RunSummary};

use super::*;

/// An entry of the index.
fn entry(at: u64, id: &str, partition: &str) -> Value {
    let mut record = record();
    record.run = id.into();
    json!({
        "arrayId": {"S": id},
        "record": {"S": serde_json::to_string(&record).unwrap()},
        "listed": {"S": partition},
        "listedAt": {"S": format!("{at:020}#{id}")},
        "submitted": {"BOOL": true},
    })
}

/// Answers queries of an index with these entries as the service would, filters aside.
fn index(entries: Vec<Value>) -> impl FnMut(&Request) -> Reply + Send {
    move |request| {
        let values = &request.body["ExpressionAttributeValues"];
        let value = |name: &str| values[name]["S"].as_str().unwrap().to_owned();
        let (partition, low, high) = (value(":0"), value(":1"), value(":2"));
        let text = |entry: &Value, name: &str| entry[name]["S"].as_str().unwrap().to_owned();
        let mut found: Vec<Value> = entries
            .iter()
            .filter(|entry| text(entry, "listed") == partition)
            .filter(|entry| (&low..=&high).contains(&&text(entry, "listedAt")))
            .cloned()
            .collect();
        found.sort_by_key(|entry| std::cmp::Reverse(text(entry, "listedAt")));
        let limit = request.body["Limit"].as_u64().unwrap() as usize;
        let mut answer = json!({});
        if found.len() >= limit {
            found.truncate(limit);
            answer["LastEvaluatedKey"] = found[limit - 1].clone();
        }
        answer["Count"] = json!(found.len());
        answer["Items"] = json!(found);
        Reply::ok(answer)
    }
}

async fn pages(pad: &DynamoDbScratchpad, filter: &RunFilter, limit: usize) -> Vec<RunSummary> {
    let mut runs = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = pad.list_runs(filter, cursor.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        runs.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return runs;
        }
    }
}

fn ids(runs: &[RunSummary]) -> Vec<&str> {
    runs.iter().map(|run| run.record.run.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn runs_of_all_partitions_are_merged() {
    let (fake, pad) = start().await;
    let phases = ["open", "done", "cancelled"];
    // Many of one partition, and several of one millisecond.
    let place = |number: u64| (number / 3, number % 7 % 4, phases[number as usize % 5 % 3]);
    let entries = (0..60).map(|number| {
        let (at, shard, phase) = place(number);
        entry(at, &format!("run-{number:02}"), &format!("{phase}#{shard}"))
    });
    fake.always(QUERY, index(entries.collect()));
    let newest: Vec<String> = (0..60)
        .rev()
        .map(|number| format!("run-{number:02}"))
        .collect();
    for limit in [1, 2, 7, 59, 60, 100] {
        let runs = pages(&pad, &RunFilter::new(), limit).await;
        assert_eq!(ids(&runs), newest, "{limit} per page");
    }
    for (state, phase) in [
        (RunState::Running, "open"),
        (RunState::Done, "done"),
        (RunState::Cancelled, "cancelled"),
    ] {
        let runs = pages(&pad, &RunFilter::new().state(state), 2).await;
        let expected: Vec<String> = (0..60)
            .rev()
            .filter(|number| place(*number).2 == phase)
            .map(|number| format!("run-{number:02}"))
            .collect();
        assert_eq!(ids(&runs), expected, "{state}");
        assert!(runs.iter().all(|run| run.state == state));
    }
    let (since, until) = (5, 9);
    let time = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
    let filter = RunFilter::new().since(time(since)).until(time(until));
    let runs = pages(&pad, &filter, 2).await;
    assert_eq!(ids(&runs), &newest[33..45]);
}

#[tokio::test(start_paused = true)]
async fn a_page_reads_no_more_than_it_needs() {
    let (fake, pad) = start().await;
    let entries = (0..500).map(|at| entry(at, &format!("run-{at}"), &format!("done#{}", at % 4)));
    fake.always(QUERY, index(entries.collect()));
    let all = RunFilter::new();
    for (filter, queries, limit) in [
        (all.clone(), 12, 3),
        (all.clone().state(RunState::Done), 4, 3),
        (all.clone().state(RunState::Failed), 4, 100),
        (all.state(RunState::Open), 4, 100),
    ] {
        pad.list_runs(&filter, None, 1).await.unwrap();
        let requests = fake.take();
        assert_eq!(operations(&requests), vec![QUERY; queries], "{filter:?}");
        for request in requests {
            assert_eq!(request.text("TableName"), "results");
            assert_eq!(request.text("IndexName"), "runs");
            assert_eq!(request.body["ScanIndexForward"], false);
            assert_eq!(request.body["Limit"], limit);
            assert!(request.body.get("ExclusiveStartKey").is_none());
        }
    }
}

/// A run that ends between the two requests that might have it is met once, as it is then.
#[tokio::test(start_paused = true)]
async fn a_run_that_ends_meanwhile_is_met_once() {
    let (fake, pad) = start().await;
    fake.always(
        QUERY,
        index(vec![entry(1, "a", "open#1"), entry(1, "a", "done#1")]),
    );
    let page = pad.list_runs(&RunFilter::new(), None, 10).await.unwrap();
    assert_eq!(ids(&page), ["a"]);
    assert_eq!(page[0].state, RunState::Done);
}

/// Only a run with failures on record may have dead letters, which the scratchpad's table knows.
#[tokio::test(start_paused = true)]
async fn whether_a_run_has_failed_is_looked_up() {
    let (fake, pad) = start().await;
    let mut entries = vec![
        entry(1, "a", "open#1"),
        entry(2, "b", "open#1"),
        entry(3, "c", "open#2"),
    ];
    for entry in &mut entries[1..] {
        entry["failures"] = json!({"BOOL": true});
    }
    let mut runs = index(entries);
    fake.always(QUERY, move |request| match request.text("TableName") {
        "results" => runs(request),
        _ => {
            assert_eq!(request.body["Limit"], 1);
            let of_b =
                request.body["ExpressionAttributeValues"][":0"]["S"] == "b#0000000000000000#dead";
            Reply::ok(json!({"Count": u8::from(of_b)}))
        }
    });
    let page = pad.list_runs(&RunFilter::new(), None, 10).await.unwrap();
    let states: Vec<RunState> = page.iter().map(|run| run.state).collect();
    assert_eq!(
        states,
        [RunState::Running, RunState::Failed, RunState::Running]
    );
    let looked = fake.take().len();
    assert_eq!(looked, 12 + 2);
    for (state, expected) in [
        (RunState::Failed, &["b"] as &[&str]),
        (RunState::Running, &["c", "a"]),
    ] {
        let filter = RunFilter::new().state(state);
        assert_eq!(ids(&pages(&pad, &filter, 1).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_without_its_index_says_what_to_do() {
    let (fake, pad) = start().await;
    let filter = RunFilter::new();
    let kind = format!("{TABLES}#ValidationException");
    let missing = kind.clone();
    fake.always(QUERY, move |_| {
        Reply::refused(
            400,
            &missing,
            "The table does not have the specified index: runs",
        )
    });
    let error = pad.list_runs(&filter, None, 1).await.unwrap_err();
    assert!(matches!(error, Error::NotProvisioned { .. }), "{error:?}");
    let text = said(&error);
    assert!(
        text.contains("index `runs` of DynamoDB table `results`"),
        "{text}"
    );
    assert!(text.contains("provision()"), "{text}");

    let (fake, pad) = start().await;
    fake.always(QUERY, move |_| {
        Reply::refused(
            400,
            &kind,
            "Cannot read from backfilling global secondary index: runs",
        )
    });
    let error = pad.list_runs(&filter, None, 1).await.unwrap_err();
    assert!(error.is_retryable(), "{}", said(&error));
}

#[tokio::test(start_paused = true)]
async fn a_run_moves_in_the_index_when_it_ends() {
    let (fake, pad) = start().await;
    let (run, key) = (RunId::from("run"), run_key());
    pad.begin(&record()).await.unwrap();
    pad.complete(&key, "1".into()).await.unwrap();
    pad.cancel(&run).await.unwrap();
    let requests = fake.take();
    let item = &requests[0].body["Item"];
    // The sum of the id's bytes, by the number of shards.
    assert_eq!(item["listed"]["S"], "open#1");
    assert_eq!(item["listedAt"]["S"], "00000001700000000000#run");
    let updates: Vec<&Request> = requests
        .iter()
        .filter(|it| it.operation == UPDATE)
        .collect();
    assert_eq!(assigned(updates[0], "listed")["S"], "done#1");
    assert_eq!(assigned(updates[1], "listed")["S"], "cancelled#1");
}

/// A failure on record, as an item of one of the two partitions.
fn failed(message: &str, item: Option<u64>, dead: bool) -> Value {
    let number = message.strip_prefix("packet ").unwrap();
    let mut slot = format!("parse#packet {number:0>20}");
    let mut found =
        json!({"stage": {"S": "parse"}, "message": {"S": message}, "error": {"S": "bad"}});
    if let Some(item) = item {
        found["item"] = json!({"N": item.to_string()});
    }
    if dead {
        found["id"] = json!({"S": DeadLetterId::random().to_string()});
    } else {
        slot = format!("{slot}#{:020}", item.unwrap());
    }
    found["slot"] = json!({"S": slot});
    found
}

#[tokio::test(start_paused = true)]
async fn failures_of_both_partitions_are_merged_from_where_a_page_ended() {
    let (fake, pad) = start().await;
    let dead = vec![
        failed("packet 1", Some(12), true),
        failed("packet 3", None, true),
        failed("packet 4", Some(40), true),
    ];
    let mut skipped = vec![
        failed("packet 1", Some(11), false),
        failed("packet 1", Some(12), false),
        failed("packet 3", Some(30), false),
        failed("packet 5", Some(50), false),
        failed("packet 10", Some(100), false),
        failed("packet 10", Some(101), false),
    ];
    // Those of packets 1 and 3 have dead letters in their place. An item that is none is passed over, also where it fills a page.
    let mut odd = failed("packet 2", Some(20), false);
    odd["stage"] = json!({"N": "1"});
    skipped.insert(2, odd);
    let slot = |item: &Value| item["slot"]["S"].as_str().unwrap().to_owned();
    fake.always(QUERY, move |request| {
        let group = request.body["ExpressionAttributeValues"][":0"]["S"]
            .as_str()
            .unwrap();
        let items = if group == "run#0000000000000000#dead" {
            &dead
        } else {
            &skipped
        };
        let start = &request.body["ExclusiveStartKey"];
        let after = start["slot"]["S"].as_str().unwrap_or_default();
        assert!(start.is_null() || start["groupId"]["S"] == group);
        let limit = request.body["Limit"].as_u64().unwrap() as usize;
        let rest = items.iter().filter(|item| slot(item).as_str() > after);
        let found: Vec<Value> = rest.take(limit).cloned().collect();
        let mut answer = json!({"Items": found});
        if found.len() == limit {
            answer["LastEvaluatedKey"] =
                json!({"groupId": {"S": group}, "slot": found[limit - 1]["slot"]});
        }
        Reply::ok(answer)
    });
    let expected = [
        ("packet 1", Some(12), false),
        ("packet 3", None, false),
        ("packet 4", Some(40), false),
        ("packet 5", Some(50), true),
        ("packet 10", Some(100), true),
        ("packet 10", Some(101), true),
    ];
    fake.always(GET, |_| Reply::ok(json!({"Item": run_item(json!({}))})));
    let run = RunId::from("run");
    for limit in [1, 2, 3, 100] {
        let mut failures = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = pad
                .list_failures(&run, cursor.as_ref(), limit)
                .await
                .unwrap();
            assert!(page.len() <= limit);
            failures.extend(page.items);
            let requests = fake.take().len();
            assert_eq!(
                requests, 3,
                "two queries for each page, and a look at the run"
            );
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let listed: Vec<_> = failures
            .iter()
            .map(|it| (it.message.as_str(), it.item, it.is_skipped()))
            .collect();
        assert_eq!(listed, expected, "{limit} per page");
    }
}
