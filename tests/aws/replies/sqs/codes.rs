//! The codes of the service's API model, call by call and entry by entry.

use super::*;
use crate::replies::codes::*;

/// The name of the error in the model, the code of the older protocol that comes with it, and its meaning.
const MODEL: &[(&str, &str, Meaning)] = &[
    ("RequestThrottled", "RequestThrottled", Passing),
    ("OverLimit", "OverLimit", Passing),
    (
        "QueueDeletedRecently",
        "AWS.SimpleQueueService.QueueDeletedRecently",
        Passing,
    ),
    (
        "QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue",
        Missing,
    ),
    ("QueueNameExists", "QueueAlreadyExists", Lasting),
    // Keys.
    ("KmsThrottled", "KMS.ThrottlingException", Passing),
    ("KmsInvalidState", "KMS.InvalidStateException", Passing),
    ("KmsAccessDenied", "KMS.AccessDeniedException", Lasting),
    ("KmsDisabled", "KMS.DisabledException", Lasting),
    (
        "KmsInvalidKeyUsage",
        "KMS.InvalidKeyUsageException",
        Lasting,
    ),
    ("KmsNotFound", "KMS.NotFoundException", Lasting),
    ("KmsOptInRequired", "KMS.OptInRequired", Lasting),
    // The request.
    (
        "BatchEntryIdsNotDistinct",
        "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        Lasting,
    ),
    (
        "BatchRequestTooLong",
        "AWS.SimpleQueueService.BatchRequestTooLong",
        Lasting,
    ),
    (
        "EmptyBatchRequest",
        "AWS.SimpleQueueService.EmptyBatchRequest",
        Lasting,
    ),
    ("InvalidAddress", "InvalidAddress", Lasting),
    ("InvalidAttributeName", "InvalidAttributeName", Lasting),
    ("InvalidAttributeValue", "InvalidAttributeValue", Lasting),
    (
        "InvalidBatchEntryId",
        "AWS.SimpleQueueService.InvalidBatchEntryId",
        Lasting,
    ),
    ("InvalidMessageContents", "InvalidMessageContents", Lasting),
    ("InvalidSecurity", "InvalidSecurity", Lasting),
    (
        "TooManyEntriesInBatchRequest",
        "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        Lasting,
    ),
    (
        "UnsupportedOperation",
        "AWS.SimpleQueueService.UnsupportedOperation",
        Lasting,
    ),
];

/// Makes each kind of call with this as the first answer.
async fn answered(what: &str, meaning: Meaning, code: &str, reply: impl Fn() -> Reply) {
    let fake = start().await;
    let queues = SqsQueues::new(&fake.config());
    let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
    fake.take();
    for operation in ["GetQueueUrl", SEND, DELETE, HIDE, RECEIVE] {
        fake.replies(operation, [reply()]);
        let outcome = repeated(|| async {
            match operation {
                "GetQueueUrl" => queues
                    .open("work", &QueueOptions::default())
                    .await
                    .map(drop),
                SEND => queue.send(bodies(["a"])).await,
                DELETE => queue.acknowledge(receipts(["a"])).await,
                HIDE => queue.extend(receipts(["a"]), MINUTE).await.map(drop),
                _ => queue.receive(1, Duration::ZERO).await.map(drop),
            }
        });
        let outcome = outcome.await;
        let requests = fake.take();
        assert!(requests.iter().all(|it| it.operation == operation));
        let what = format!("{what} to {operation}");
        check(&what, meaning, code, outcome, requests.len());
    }
}

#[tokio::test(start_paused = true)]
async fn every_code_of_the_model_is_waited_out_or_named() {
    for (row, (name, code, meaning)) in MODEL.iter().enumerate() {
        let reply = || refused(400, name, code);
        answered(code, *meaning, code, reply).await;
        // As an emulator answers that does not know the older protocol.
        let kind = spelled(name, row);
        let reply = || Reply::refused(400, &kind, "no");
        answered(&kind, *meaning, name, reply).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_common_code_is_waited_out_or_named() {
    for (row, (code, status, meaning)) in COMMON.iter().enumerate() {
        let kind = spelled(code, row);
        let what = format!("{kind} with {status}");
        let reply = || Reply::refused(*status, &kind, "no");
        answered(&what, *meaning, code, reply).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_is_late_is_waited_out_and_a_wrong_one_is_named() {
    for (message, meaning) in SIGNATURES {
        for code in ["InvalidSignatureException", "SignatureDoesNotMatch"] {
            let reply = || Reply::refused(403, code, message);
            answered(message, *meaning, code, reply).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_code_is_judged_by_its_status() {
    for (status, meaning, body) in without_code() {
        let what = format!("{status} {body}");
        let reply = || raw(status, body);
        answered(&what, meaning, &format!("HTTP status {status}"), reply).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_cannot_be_read_is_asked_for_again() {
    for body in ["<html>sign in first</html>", "{\"Successful\": [", "[]"] {
        let fake = start().await;
        let queue = open(&fake).await;
        fake.replies(SEND, [raw(200, body)]);
        queue.send(bodies(["a"])).await.unwrap();
        assert_eq!(operations(&fake.take()), [SEND; 2], "{body}");
    }
}

/// The meaning of an entry's failure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Again,
    Stale,
    Refused,
    Missing,
}

/// Each batch with an entry that fails so.
async fn entry(operation: &'static str, fate: Fate, code: &str, meaning: Entry) {
    let what = format!("{operation} {code}");
    let fake = start().await;
    let queue = open(&fake).await;
    fake.next(operation, but(["b"], fate));
    let outcome = match operation {
        SEND => queue.send(bodies(["a", "b"])).await.map(|()| Vec::new()),
        DELETE => queue
            .acknowledge(receipts(["a", "b"]))
            .await
            .map(|()| Vec::new()),
        _ => queue.extend(receipts(["a", "b"]), MINUTE).await,
    };
    let requests = fake.take();
    let first = (operation, strings(["a", "b"]));
    let expected = match meaning {
        Entry::Again => vec![first, (operation, strings(["b"]))],
        _ => vec![first],
    };
    assert_eq!(batches(&requests), expected, "{what}");
    match (meaning, outcome) {
        (Entry::Again, Ok(stale)) => assert_eq!(stale, [], "{what}"),
        (Entry::Stale, Ok(stale)) if operation == DELETE => assert_eq!(stale, []),
        (Entry::Stale, Ok(stale)) => assert_eq!(stale, receipts(["b"]), "{what}"),
        (Entry::Refused, Err(error)) => {
            assert!(!error.is_retryable(), "{what}");
            assert!(said(&error).contains(code), "{what}: {}", said(&error));
        }
        (Entry::Missing, Err(error)) => {
            assert!(
                matches!(error, Error::NotProvisioned { .. }),
                "{what}: {error:?}"
            );
        }
        (_, outcome) => panic!("{what}: {outcome:?}"),
    }
}

/// What says it, whoever is said to be at fault.
const ENTRIES: &[(&[&str], &[&str], Entry)] = &[
    (
        &[SEND, DELETE, HIDE],
        &[
            "InternalError",
            "InternalFailure",
            "ServiceUnavailable",
            "RequestThrottled",
            "AWS.SimpleQueueService.RequestThrottled",
            "ThrottlingException",
            "com.amazonaws.sqs#RequestThrottled",
            "OverLimit",
            "KMS.ThrottlingException",
            "KmsThrottled",
            "KMS.InvalidStateException",
        ],
        Entry::Again,
    ),
    (
        &[DELETE, HIDE],
        &[
            "ReceiptHandleIsInvalid",
            "MessageNotInflight",
            "AWS.SimpleQueueService.MessageNotInflight",
            "com.amazonaws.sqs#MessageNotInflight",
            "InvalidParameterValue",
            "InvalidParameterValueException",
        ],
        Entry::Stale,
    ),
    (
        &[SEND],
        &[
            "InvalidMessageContents",
            "InvalidParameterValue",
            "InvalidParameterValueException",
            "InvalidAttributeValue",
        ],
        Entry::Refused,
    ),
    (
        &[SEND, DELETE, HIDE],
        &[
            "AccessDenied",
            "AccessDeniedException",
            "InvalidAddress",
            "InvalidSecurity",
            "MissingParameter",
            "UnsupportedOperation",
            "AWS.SimpleQueueService.UnsupportedOperation",
            "KMS.AccessDeniedException",
            "KMS.DisabledException",
            "KMS.InvalidKeyUsageException",
            "KMS.NotFoundException",
            "KMS.OptInRequired",
            "KmsAccessDenied",
            "KmsDisabled",
            "KmsInvalidKeyUsage",
            "KmsNotFound",
            "KmsOptInRequired",
        ],
        Entry::Refused,
    ),
    (
        &[SEND, DELETE, HIDE],
        &[
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
        ],
        Entry::Missing,
    ),
];

#[tokio::test(start_paused = true)]
async fn the_code_of_an_entry_decides_whoever_is_said_to_be_at_fault() {
    for (operations, codes, meaning) in ENTRIES {
        for operation in *operations {
            for code in *codes {
                entry(operation, Fate::Failed(code), code, *meaning).await;
                entry(operation, Fate::Refused(code), code, *meaning).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_with_an_unknown_code_is_judged_by_who_is_at_fault() {
    for operation in [SEND, DELETE, HIDE] {
        let code = "BrandNew";
        entry(operation, Fate::Failed(code), code, Entry::Again).await;
        entry(operation, Fate::Refused(code), code, Entry::Refused).await;
    }
}
