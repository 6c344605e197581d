//! Making tables, and adding what an earlier version's tables lack.

use catchment::provision::Action;
use catchment::scratchpad::Scratchpad;

use super::*;

const DESCRIBE: &str = "DescribeTable";
const EXPIRY: &str = "DescribeTimeToLive";
const EXPIRE: &str = "UpdateTimeToLive";
const CHANGE: &str = "UpdateTable";
const CREATE: &str = "CreateTable";
const REMOVE: &str = "DeleteTable";
const MISSING: &str = "ResourceNotFoundException";
const BUSY: &str = "ResourceInUseException";

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

/// The description of a table that is being deleted: the service leaves its keys out.
fn deleting(request: &Request) -> Reply {
    let name = request.text("TableName");
    Reply::ok(json!({"Table": {"TableName": name, "TableStatus": "DELETING", "ItemCount": 0}}))
}

/// A table that is there, in this status.
fn in_status(request: &Request, status: &str) -> Reply {
    let Reply::Whole { body, .. } = described(request, Some("ACTIVE")) else {
        panic!("a whole reply")
    };
    let mut body: Value = serde_json::from_str(&body).unwrap();
    body["Table"]["TableStatus"] = json!(status);
    Reply::ok(body)
}

/// A service whose table of results goes through these phases, one per look, and stays in the last; the other table is there.
async fn through<const N: usize>(phases: [fn(&Request) -> Reply; N]) -> (Fake, DynamoDbScratchpad) {
    let (fake, pad) = with_expiry().await;
    let mut looks = 0;
    fake.always(DESCRIBE, move |request| {
        if request.text("TableName") != "results" {
            return described(request, None);
        }
        looks += 1;
        phases[looks.min(N) - 1](request)
    });
    (fake, pad)
}

/// What provisioning did to the table of results, and how often each operation was asked of it.
async fn provisioned(fake: &Fake, pad: &DynamoDbScratchpad) -> (Action, impl Fn(&str) -> usize) {
    let changes = pad.provision().await.unwrap();
    assert_eq!(changes[0].action, Action::Unchanged, "{changes:?}");
    let requests = fake.take();
    let times = move |operation: &str| {
        let of_it = |it: &&Request| it.operation == operation && it.text("TableName") == "results";
        requests.iter().filter(of_it).count()
    };
    (changes[1].action.clone(), times)
}

fn missing(_: &Request) -> Reply {
    refused(MISSING)
}

fn there(request: &Request) -> Reply {
    in_status(request, "ACTIVE")
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_being_deleted_is_made_again_once_it_is_gone() {
    let (fake, pad) = through([
        deleting,
        deleting,
        missing,
        |it| in_status(it, "CREATING"),
        there,
    ])
    .await;
    let (action, times) = provisioned(&fake, &pad).await;
    assert_eq!(action, Action::Created);
    assert_eq!((times(DESCRIBE), times(CREATE)), (5, 1));
}

/// `DescribeTable` and `CreateTable` need not see the same at one moment.
#[tokio::test(start_paused = true)]
async fn a_table_is_waited_for_though_looks_lag() {
    // Gone for the look, and still there for the create; then made, and not seen yet.
    let (fake, pad) = through([missing, missing, missing, missing, there]).await;
    fake.next(CREATE, |_| refused(BUSY));
    fake.next(CREATE, |_| Reply::ok(json!({})));
    fake.always(CREATE, |_| refused(BUSY));
    let (action, times) = provisioned(&fake, &pad).await;
    assert_eq!(action, Action::Created);
    assert_eq!((times(DESCRIBE), times(CREATE)), (5, 4));
    // The table was seen; asking for its time to live still says that there is none.
    let (fake, pad) = through([missing, there]).await;
    fake.replies(
        EXPIRY,
        [refused(MISSING), refused(MISSING), refused(MISSING)],
    );
    assert_eq!(provisioned(&fake, &pad).await.0, Action::Created);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_another_process_makes_is_waited_for() {
    let creating: fn(&Request) -> Reply = |it| in_status(it, "CREATING");
    let (fake, pad) = through([creating, creating, there]).await;
    let (action, times) = provisioned(&fake, &pad).await;
    assert_eq!(action, Action::Unchanged);
    assert_eq!((times(DESCRIBE), times(CREATE)), (3, 0));
    // Made between our look and our request.
    let (fake, pad) = through([missing, creating, there]).await;
    fake.always(CREATE, |_| refused(BUSY));
    assert_eq!(provisioned(&fake, &pad).await.0, Action::Unchanged);
}

/// A replica that is added or a capacity that changes may take hours, and the table can be used.
#[tokio::test(start_paused = true)]
async fn a_table_that_changes_and_has_all_it_needs_is_not_waited_for() {
    let (fake, pad) = through([|it| in_status(it, "UPDATING")]).await;
    let (action, times) = provisioned(&fake, &pad).await;
    assert_eq!((action, times(DESCRIBE)), (Action::Unchanged, 1));
}

#[tokio::test(start_paused = true)]
async fn too_many_changes_at_once_are_waited_out() {
    for code in [BUSY, "LimitExceededException"] {
        let (fake, pad) = through([missing, missing, missing, there]).await;
        if code != BUSY {
            fake.next(CREATE, move |_| refused(code));
            fake.next(CREATE, move |_| refused(code));
        }
        fake.always(EXPIRY, |_| {
            let expiry = json!({"TimeToLiveStatus": "DISABLED"});
            Reply::ok(json!({"TimeToLiveDescription": expiry}))
        });
        for _ in 0..4 {
            fake.next(EXPIRE, move |_| refused(code));
        }
        let changes = pad.provision().await.unwrap();
        let actions: Vec<_> = changes.into_iter().map(|change| change.action).collect();
        let updated = Action::Updated("time to live".into());
        assert_eq!(actions, [updated, Action::Created], "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_that_is_being_removed_is_made_again() {
    let removed: fn(&Request) -> Reply = |it| described(it, Some("DELETING"));
    let bare: fn(&Request) -> Reply = |it| described(it, None);
    let (fake, pad) = through([removed, removed, bare, there]).await;
    let (action, times) = provisioned(&fake, &pad).await;
    assert_eq!(action, Action::Updated("index of runs".into()));
    assert_eq!(times(CHANGE), 1);
}

/// What is said about the table of results, which was waited for so long.
async fn gives_up(phase: fn(&Request) -> Reply) -> (String, Duration) {
    let (_fake, pad) = through([phase]).await;
    let begin = tokio::time::Instant::now();
    let error = pad.provision().await.unwrap_err();
    assert_eq!(error.is_retryable(), begin.elapsed() > Duration::ZERO);
    println!("{}", said(&error));
    (said(&error), begin.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_and_says_what_it_was_for() {
    for (phase, part) in [
        (deleting as fn(&Request) -> Reply, "still being deleted"),
        (|it| in_status(it, "CREATING"), "still being created"),
        (
            |it| described(it, Some("CREATING")),
            "index `runs` is still being filled",
        ),
    ] {
        let (text, waited) = gives_up(phase).await;
        for part in [
            "table `results`",
            part,
            "after 300 s of waiting",
            "provision()",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(waited < Duration::from_secs(310), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_no_wait_brings_back_is_told_at_once() {
    for (phase, parts) in [
        (
            (|it| in_status(it, "INACCESSIBLE_ENCRYPTION_CREDENTIALS")) as fn(&Request) -> Reply,
            ["KMS", "Enable the key"],
        ),
        (
            |it| in_status(it, "ARCHIVING"),
            ["ARCHIVING", "Restore the backup"],
        ),
        (
            |it| in_status(it, "ARCHIVED"),
            ["ARCHIVED", "Restore the backup"],
        ),
    ] {
        let (text, waited) = gives_up(phase).await;
        for part in ["table `results`"].iter().chain(&parts) {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(waited, Duration::ZERO, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_that_is_being_turned_off_is_told_at_once() {
    let (fake, pad) = through([there]).await;
    fake.always(EXPIRY, |_| {
        let expiry = json!({"TimeToLiveStatus": "DISABLING", "AttributeName": "expiresAt"});
        Reply::ok(json!({"TimeToLiveDescription": expiry}))
    });
    let error = pad.provision().await.unwrap_err();
    let text = said(&error);
    assert!(error.is_retryable() && text.contains("an hour"), "{text}");
    assert!(!operations(&fake.take()).contains(&EXPIRE));
}

/// The tables that were removed.
async fn removed(pad: &DynamoDbScratchpad) -> Vec<String> {
    let changes = pad.deprovision().await.unwrap();
    changes.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_table_is_removed_in_every_phase() {
    const BOTH: [&str; 2] = [
        "DynamoDB table `pad`: deleted",
        "DynamoDB table `results`: deleted",
    ];
    // One that is being made or changed, and then can be deleted; too much at once.
    let (fake, pad) = through([|it| in_status(it, "CREATING"), there]).await;
    for code in ["LimitExceededException", BUSY, BUSY] {
        fake.next(REMOVE, move |_| refused(code));
    }
    assert_eq!(removed(&pad).await, BOTH);
    // One that another process is deleting: the service takes the request, and others refuse it.
    let (fake, pad) = through([deleting]).await;
    fake.always(REMOVE, |it| match it.text("TableName") {
        "results" => refused(BUSY),
        _ => Reply::ok(json!({})),
    });
    assert_eq!(removed(&pad).await, BOTH[..1]);
    // One that is gone, at once or by the time it is looked at.
    let (fake, pad) = through([missing]).await;
    fake.always(REMOVE, |it| match it.text("TableName") {
        "results" => refused(BUSY),
        _ => refused(MISSING),
    });
    assert!(removed(&pad).await.is_empty());
    // One that another process never stops changing.
    let (fake, pad) = through([|it| in_status(it, "UPDATING")]).await;
    fake.always(REMOVE, |_| refused(BUSY));
    let text = said(&pad.deprovision().await.unwrap_err());
    for part in [
        "table `pad`",
        "still being changed",
        "after 300 s of waiting",
        "deprovision()",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
