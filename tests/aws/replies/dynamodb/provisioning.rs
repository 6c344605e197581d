//! Making tables, and adding what an earlier version's tables lack.

use catchment::provision::Action;
use catchment::scratchpad::Scratchpad;

use super::*;

const DESCRIBE: &str = "DescribeTable";
const EXPIRY: &str = "DescribeTimeToLive";
const CHANGE: &str = "UpdateTable";

/// A table that is there, with its index in this status if it has one.
fn described(request: &Request, index: Option<&str>) -> Reply {
    let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
    let is_results = request.text("TableName") == "results";
    let keys = match is_results {
        true => json!([key("arrayId", "HASH")]),
        false => json!([key("groupId", "HASH"), key("slot", "RANGE")]),
    };
    let mut table = json!({"TableStatus": "ACTIVE", "KeySchema": keys});
    if let (true, Some(status)) = (is_results, index) {
        let keys = json!([key("listed", "HASH"), key("listedAt", "RANGE")]);
        let index = json!({"IndexName": "runs", "IndexStatus": status, "KeySchema": keys});
        table["GlobalSecondaryIndexes"] = json!([index]);
    }
    Reply::ok(json!({"Table": table}))
}

async fn with_expiry() -> (Fake, DynamoDbScratchpad) {
    let (fake, pad) = start().await;
    fake.always(EXPIRY, |_| {
        let expiry = json!({"TimeToLiveStatus": "ENABLED", "AttributeName": "expiresAt"});
        Reply::ok(json!({"TimeToLiveDescription": expiry}))
    });
    (fake, pad)
}

#[tokio::test(start_paused = true)]
async fn a_table_without_an_index_gets_one_and_is_waited_for() {
    let (fake, pad) = with_expiry().await;
    let mut looks = 0;
    fake.always(DESCRIBE, move |request| {
        looks += usize::from(request.text("TableName") == "results");
        described(
            request,
            [None, None, Some("CREATING"), Some("ACTIVE")][looks],
        )
    });
    let changes = pad.provision().await.unwrap();
    let actions: Vec<Action> = changes.iter().map(|change| change.action.clone()).collect();
    assert!(matches!(actions[0], Action::Unchanged), "{changes:?}");
    assert!(
        changes[1].to_string().contains("index of runs"),
        "{}",
        changes[1]
    );
    let requests = fake.take();
    let changed: Vec<&Request> = requests
        .iter()
        .filter(|it| it.operation == CHANGE)
        .collect();
    let [change] = changed[..] else {
        panic!("{changed:?}")
    };
    assert_eq!(change.text("TableName"), "results");
    let create = &change.body["GlobalSecondaryIndexUpdates"][0]["Create"];
    assert_eq!(create["IndexName"], "runs");
    assert_eq!(create["Projection"]["ProjectionType"], "INCLUDE");
    let included = create["Projection"]["NonKeyAttributes"].as_array().unwrap();
    assert!(included.contains(&json!("record")) && !included.contains(&json!("result")));
}

#[tokio::test(start_paused = true)]
async fn an_index_that_is_there_or_made_by_another_process_is_left_alone() {
    for code in ["ResourceInUseException", "LimitExceededException"] {
        let (fake, pad) = with_expiry().await;
        let mut looks = 0;
        fake.always(DESCRIBE, move |request| {
            looks += usize::from(request.text("TableName") == "results");
            described(request, [None, None, Some("ACTIVE")][looks])
        });
        fake.always(CHANGE, |_| refused(code));
        let changes = pad.provision().await.unwrap();
        assert!(
            changes
                .iter()
                .all(|it| matches!(it.action, Action::Unchanged)),
            "{changes:?}"
        );
    }
    let (fake, pad) = with_expiry().await;
    fake.always(DESCRIBE, |request| described(request, Some("ACTIVE")));
    let changes = pad.provision().await.unwrap();
    assert!(
        changes
            .iter()
            .all(|it| matches!(it.action, Action::Unchanged)),
        "{changes:?}"
    );
    assert!(!operations(&fake.take()).contains(&CHANGE));
}
