//! Throttling, lost connections and refusals.

use catchment::scratchpad::{Checkpoint, Fingerprint};

use super::*;

/// Transient refusals, and how often the client itself tries.
fn passing() -> Vec<(fn() -> Reply, usize)> {
    vec![
        (|| refused("ProvisionedThroughputExceededException"), 3),
        (|| refused("ThrottlingException"), 3),
        (|| refused("RequestLimitExceeded"), 3),
        (|| refused("TransactionConflictException"), 1),
        (
            || Reply::refused(500, &format!("{TABLES}#InternalServerError"), "no"),
            3,
        ),
        (|| Reply::bare(503), 3),
        (|| Reply::CutOff, 3),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_passes_is_waited_out_by_the_client_or_told_to_the_caller() {
    for (reply, tries) in passing() {
        let what = format!("{:?}", reply());
        let (fake, pad) = start().await;
        fake.replies(UPDATE, [reply()]);
        fake.always(UPDATE, |_| {
            Reply::ok(json!({"Attributes": attributes(&[0])}))
        });
        let arrived = pad.arrive(vec![arrival(0, 0, "a")]).await;
        match tries {
            1 => assert!(arrived.unwrap_err().is_retryable(), "{what}"),
            _ => assert_eq!(arrived.unwrap(), [state(1)], "{what}"),
        }
        assert_eq!(fake.take().len(), tries.min(2), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_goes_on_is_an_error_that_may_pass_and_never_an_answer() {
    let (run, key) = (RunId::from("run"), run_key());
    let end = Checkpoint::new(1, 1, Fingerprint::default());
    for (reply, tries) in passing() {
        let (fake, pad) = start().await;
        for operation in [UPDATE, PUT, GET, QUERY, GET_MANY, WRITE_MANY] {
            fake.always(operation, move |_| reply());
        }
        let outcomes = [
            (UPDATE, pad.arrive(vec![arrival(0, 0, "a")]).await.err()),
            (UPDATE, pad.expect(&group(0), 2, true).await.err()),
            (UPDATE, pad.retire(&group(0)).await.err()),
            (QUERY, pad.members(&group(0)).await.err()),
            (GET_MANY, pad.arrived(&[group(0)]).await.err()),
            (PUT, pad.begin(&record()).await.err()),
            (UPDATE, pad.checkpoint(&key, &end).await.err()),
            (UPDATE, pad.measure(&key, &end).await.err()),
            (UPDATE, pad.submitted(&key).await.err()),
            (UPDATE, pad.complete(&key, "1".into()).await.err()),
            (UPDATE, pad.cancel(&run).await.err()),
            (GET, pad.status(&run).await.err()),
            (GET, pad.is_over(&key).await.err()),
            (GET, pad.list_failures(&run, None, 10).await.err()),
            (UPDATE, pad.record(&report(1, Verdict::Skip)).await.err()),
        ];
        let mut made = Vec::new();
        for (operation, error) in outcomes {
            let error = error.unwrap();
            let text = said(&error);
            assert!(error.is_retryable(), "{text}");
            assert!(text.contains(operation), "{text}");
            // Dead letters and skipped items are read concurrently.
            if operation != QUERY {
                made.extend(vec![operation; tries]);
            }
        }
        let requests = fake.take();
        let others = operations(&requests);
        let others: Vec<&str> = others.into_iter().filter(|it| *it != QUERY).collect();
        assert_eq!(others, made);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_closed_again_and_again_are_an_error_that_may_pass() {
    let (fake, pad) = start().await;
    fake.always(UPDATE, |_| Reply::Closed);
    let error = pad.arrive(vec![arrival(0, 0, "a")]).await.unwrap_err();
    assert_eq!(operations(&fake.take()), [UPDATE; 3]);
    assert!(error.is_retryable(), "{}", said(&error));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_missing_is_named_with_what_to_do() {
    let (run, key) = (RunId::from("run"), run_key());
    let (fake, pad) = start().await;
    for operation in [UPDATE, PUT, GET, QUERY, GET_MANY] {
        fake.always(operation, |_| refused("ResourceNotFoundException"));
    }
    let outcomes = [
        ("pad", pad.arrive(vec![arrival(0, 0, "a")]).await.err()),
        ("pad", pad.members(&group(0)).await.err()),
        ("pad", pad.arrived(&[group(0)]).await.err()),
        ("results", pad.begin(&record()).await.err()),
        ("results", pad.status(&run).await.err()),
        ("results", pad.complete(&key, "1".into()).await.err()),
    ];
    for (table, error) in outcomes {
        let error = error.unwrap();
        assert!(matches!(error, Error::NotProvisioned { .. }), "{error:?}");
        assert!(!error.is_retryable());
        let text = said(&error);
        let table = format!("DynamoDB table `{table}`");
        for part in [&table, fake.region(), &fake.endpoint(), "provision"] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(
        operations(&fake.take()),
        [UPDATE, QUERY, GET_MANY, PUT, GET, UPDATE]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_named_and_not_tried_again() {
    let (fake, pad) = start().await;
    fake.always(UPDATE, |_| {
        let kind = "com.amazon.coral.service#AccessDeniedException";
        // Here the message's name begins with a capital.
        let body = json!({"__type": kind, "Message": "you are not allowed to do this"});
        Reply::Whole {
            status: 400,
            headers: Vec::new(),
            body: body.to_string(),
        }
    });
    let arrived = pad.arrive(vec![arrival(0, 0, "a")]).await;
    let error = arrived.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(
        said(&error),
        "DynamoDB: UpdateItem on table `pad` failed: AccessDeniedException: you are not allowed to do this"
    );
    assert_eq!(operations(&fake.take()), [UPDATE]);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_counted() {
    let (fake, pad) = start().await;
    let busy = || refused("ProvisionedThroughputExceededException");
    fake.replies(UPDATE, [busy(), busy()]);
    fake.replies(GET, [Reply::Closed, Reply::bare(500)]);
    // It answers with no attributes, so the state is read.
    let states = pad.arrive(vec![arrival(0, 0, "a")]).await.unwrap();
    assert_eq!(states, [state(0)]);
    let counts = pad.requests().by_kind();
    let counts: Vec<(&str, u64)> = counts.iter().map(|(kind, n)| (&**kind, *n)).collect();
    assert_eq!(
        counts,
        [("DynamoDB GetItem", 3), ("DynamoDB UpdateItem", 3)]
    );
    assert_eq!(fake.take().len(), 6);
}
