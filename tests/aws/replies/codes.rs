//! Every code by which the two services refuse a call, and what it means for the call: it is repeated and completes, or it
//! fails at once with an error that names the code.
//!
//! Below is what both services answer. The codes of each one's own API model are in `sqs/codes.rs` and `dynamodb/codes.rs`:
//! all that the operations of the library can return, and none of other operations.

use std::fmt::Debug;

use catchment::Error;

use super::*;

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    /// The same call may succeed later: it is repeated.
    Passing,
    /// The same call would be refused for ever: it fails at once.
    Lasting,
    /// There is no such queue or table: it fails at once, and says what to do.
    Missing,
}

pub(super) use Meaning::{Lasting, Missing, Passing};

/// A refusal: its code, the HTTP status and its meaning.
pub(super) type Row = (&'static str, u16, Meaning);

/// What any service of AWS may answer, of which no model knows.
pub(super) const COMMON: &[Row] = &[
    // Throttling.
    ("ThrottlingException", 400, Passing),
    ("Throttling", 400, Passing),
    ("ThrottledException", 400, Passing),
    ("RequestThrottledException", 400, Passing),
    ("TooManyRequestsException", 400, Passing),
    ("BandwidthLimitExceeded", 400, Passing),
    ("PriorRequestNotComplete", 400, Passing),
    ("SlowDown", 400, Passing),
    // Faults of the service.
    ("InternalFailure", 500, Passing),
    ("InternalFailure", 400, Passing),
    ("InternalError", 400, Passing),
    ("ServiceUnavailable", 503, Passing),
    ("ServiceUnavailableException", 400, Passing),
    // The request did not arrive, or not in time.
    ("RequestAbortedException", 400, Passing),
    ("RequestTimeout", 400, Passing),
    ("RequestTimeoutException", 408, Passing),
    // Clocks.
    ("RequestExpired", 400, Passing),
    ("RequestTimeTooSkewed", 403, Passing),
    ("RequestInTheFuture", 403, Passing),
    // Credentials.
    ("ExpiredToken", 403, Passing),
    ("ExpiredTokenException", 400, Passing),
    ("AccessDenied", 403, Lasting),
    ("AccessDeniedException", 400, Lasting),
    ("AuthFailure", 403, Lasting),
    ("IncompleteSignature", 403, Lasting),
    ("IncompleteSignatureException", 400, Lasting),
    ("InvalidClientTokenId", 403, Lasting),
    ("MissingAuthenticationToken", 403, Lasting),
    ("MissingAuthenticationTokenException", 400, Lasting),
    ("NotAuthorized", 401, Lasting),
    ("OptInRequired", 403, Lasting),
    ("UnrecognizedClientException", 403, Lasting),
    // The request.
    ("InvalidAction", 400, Lasting),
    ("InvalidParameterCombination", 400, Lasting),
    ("InvalidParameterValue", 400, Lasting),
    ("MalformedHttpRequestException", 400, Lasting),
    ("MissingParameter", 400, Lasting),
    ("RequestEntityTooLargeException", 413, Lasting),
    ("SerializationException", 400, Lasting),
    ("UnknownOperationException", 404, Lasting),
    ("ValidationError", 400, Lasting),
    ("ValidationException", 400, Lasting),
    // A code that nobody knows, by the status.
    ("BrandNewException", 400, Lasting),
    ("BrandNewException", 429, Passing),
    ("BrandNewException", 500, Passing),
    // What an emulator has not got.
    ("InternalFailure", 501, Lasting),
];

/// Answers without a code: of the service, or of something before it.
const STATUSES: &[(u16, Meaning)] = &[
    (400, Lasting),
    (401, Lasting),
    (403, Lasting),
    (404, Lasting),
    (408, Passing),
    (409, Lasting),
    (413, Lasting),
    (421, Lasting),
    (429, Passing),
    (500, Passing),
    (501, Lasting),
    (502, Passing),
    (503, Passing),
    (504, Passing),
    (505, Lasting),
    (507, Passing),
    (520, Passing),
    (529, Passing),
    (599, Passing),
];

/// Bodies in which there is no code.
const BODIES: &[&str] = &[
    "{}",
    "<html>Bad Gateway</html>",
    "{\"__type\": ",
    "[]",
    "null",
    "{\"__type\": 7}",
];

/// Why a signature does not hold: `InvalidSignatureException` and `SignatureDoesNotMatch` say it in words only.
pub(super) const SIGNATURES: &[(&str, Meaning)] = &[
    (
        "Signature expired: 20261127T101010Z is now earlier than 20261127T102010Z (20261127T102510Z - 5 min.)",
        Passing,
    ),
    (
        "Signature not yet current: 20261127T101010Z is still later than 20261127T100510Z (20261127T100010Z + 5 min.)",
        Passing,
    ),
    (
        "The request signature we calculated does not match the signature you provided.",
        Lasting,
    ),
];

/// A body as it is.
pub(super) fn raw(status: u16, body: &str) -> Reply {
    Reply::Whole {
        status,
        headers: Vec::new(),
        body: body.to_owned(),
    }
}

/// One of the types under which a code comes: which one changes from row to row.
pub(super) fn spelled(code: &str, row: usize) -> String {
    match row % 3 {
        0 => format!("com.amazon.coral.service#{code}"),
        1 => code.to_owned(),
        _ => format!("com.amazonaws.any.v20121105#{code}:http://internal.amazon.com/coral/any/"),
    }
}

/// Each status without a body, and two of them with each of the bodies.
pub(super) fn without_code() -> impl Iterator<Item = (u16, Meaning, &'static str)> {
    let empty = STATUSES
        .iter()
        .map(|(status, meaning)| (*status, *meaning, ""));
    let bodies = BODIES.iter();
    empty.chain(bodies.flat_map(|body| [(400, Lasting, *body), (503, Passing, *body)]))
}

/// Makes a call as the library does: again after an error that may pass.
pub(super) async fn repeated<T, F>(mut call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match call().await {
            Err(error) if error.is_retryable() => {}
            outcome => return outcome,
        }
    }
}

/// Holds the outcome of a call whose first request was refused against what the refusal means.
pub(super) fn check<T: Debug>(
    what: &str,
    meaning: Meaning,
    code: &str,
    outcome: Result<T, Error>,
    requests: usize,
) {
    match (meaning, outcome) {
        (Passing, Ok(_)) => assert_eq!(requests, 2, "{what}: it is asked once more"),
        (Lasting, Err(error)) => {
            let text = said(&error);
            assert!(matches!(error, Error::Backend { .. }), "{what}: {text}");
            assert!(text.contains(code), "{what}: {text}");
            assert_eq!(requests, 1, "{what}: it is not asked again");
        }
        (Missing, Err(error)) => {
            assert!(
                matches!(error, Error::NotProvisioned { .. }),
                "{what}: {error:?}"
            );
            assert_eq!(requests, 1, "{what}: it is not asked again");
        }
        (_, outcome) => panic!("{what}: {outcome:?}"),
    }
}
