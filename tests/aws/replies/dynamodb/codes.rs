//! The codes of the service's API model.

use super::*;
use crate::replies::codes::*;

const MODEL: &[Row] = &[
    // Throttling and limits.
    ("ProvisionedThroughputExceededException", 400, Passing),
    ("RequestLimitExceeded", 400, Passing),
    ("LimitExceededException", 400, Passing),
    ("InternalServerError", 500, Passing),
    ("InternalServerError", 400, Passing),
    // Conflicts.
    ("TransactionConflictException", 400, Passing),
    ("TransactionInProgressException", 400, Passing),
    ("ResourceInUseException", 400, Passing),
    ("ResourceNotFoundException", 400, Missing),
    // The request.
    ("ItemCollectionSizeLimitExceededException", 400, Lasting),
    ("InvalidEndpointException", 421, Lasting),
    // Of transactions, which the library does not use: repeated, they would end in the same way.
    ("IdempotentParameterMismatchException", 400, Lasting),
    ("TransactionCanceledException", 400, Lasting),
];

/// Makes each kind of call with this as the first answer.
async fn answered(what: &str, meaning: Meaning, code: &str, reply: impl Fn() -> Reply) {
    let all = [UPDATE, PUT, GET, QUERY, GET_MANY];
    answered_to(&all, what, meaning, code, reply).await;
}

async fn answered_to(
    operations: &[&str],
    what: &str,
    meaning: Meaning,
    code: &str,
    reply: impl Fn() -> Reply,
) {
    let (fake, pad) = start().await;
    let run = RunId::from("run");
    for operation in operations {
        fake.replies(operation, [reply()]);
        let outcome = repeated(|| async {
            match *operation {
                UPDATE => pad.expect(&group(0), 2, true).await.map(drop),
                PUT => pad.begin(&record()).await.map(drop),
                GET => pad.status(&run).await.map(drop),
                QUERY => pad.members(&group(0)).await.map(drop),
                _ => pad.arrived(&[group(0)]).await.map(drop),
            }
        });
        let outcome = outcome.await;
        let requests = fake.take();
        assert!(requests.iter().all(|it| it.operation == *operation));
        let what = format!("{what} to {operation}");
        check(&what, meaning, code, outcome, requests.len());
    }
}

#[tokio::test(start_paused = true)]
async fn every_code_of_the_model_and_every_common_one_is_waited_out_or_named() {
    for (row, (code, status, meaning)) in [MODEL, COMMON].concat().into_iter().enumerate() {
        let kind = spelled(code, row);
        let what = format!("{kind} with {status}");
        let reply = || Reply::refused(status, &kind, "no");
        answered(&what, meaning, code, reply).await;
    }
    // The model has it for writes, and says that it may pass.
    let conflict = "ReplicatedWriteConflictException";
    let reply = || refused(conflict);
    answered_to(&[UPDATE, PUT], conflict, Passing, conflict, reply).await;
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_is_late_is_waited_out_and_a_wrong_one_is_named() {
    for (message, meaning) in SIGNATURES {
        let code = "InvalidSignatureException";
        let reply = || Reply::refused(400, &format!("com.amazon.coral.service#{code}"), message);
        answered(message, *meaning, code, reply).await;
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
    answered("html", Passing, "", || {
        raw(200, "<html>sign in first</html>")
    })
    .await;
}
