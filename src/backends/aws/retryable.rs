//! Whether a failed request may succeed later.
//!
//! The SDK's own retry classifiers are asked first, so that what they learn is known here too. The lists below have only
//! what the classifiers do not know. A code that neither knows is judged by the HTTP status.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_smithy_runtime::client::retries::classifiers::HttpStatusCodeClassifier;
use aws_smithy_runtime_api::client::interceptors::context::{
    Error as ErasedError, Input, InterceptorContext,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::result::{SdkError, ServiceError};
use aws_smithy_runtime_api::client::retries::classifiers::ClassifyRetry;
use aws_smithy_types::error::metadata::{ErrorMetadata, ProvideErrorMetadata};
use aws_smithy_types::retry::{ErrorKind, ProvideErrorKind};

/// Whether the same request may succeed later. `has_sent`: whether a request of this client has left it before, for which
/// there were credentials.
pub(super) fn is_retryable<E>(error: SdkError<E, HttpResponse>, has_sent: bool) -> bool
where
    E: ProvideErrorMetadata + ProvideErrorKind + StdError + 'static,
{
    match error {
        SdkError::ServiceError(refusal) => is_retryable_refusal(refusal),
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
        SdkError::DispatchFailure(ref failure) => {
            // Among others, a connection that was closed before an answer came.
            let other = failure.as_other();
            failure.is_io()
                || failure.is_timeout()
                || other.is_some_and(|kind| kind != ErrorKind::ClientError)
                || credentials_problem(&error)
                    .is_some_and(|problem| has_sent || !is_lasting(problem))
        }
        _ => false,
    }
}

fn is_retryable_refusal<E>(refusal: ServiceError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata + ProvideErrorKind,
{
    let error = refusal.err();
    let is_modeled = error.retryable_error_kind().is_some();
    let code = error.meta().code().map(bare).unwrap_or_default().to_owned();
    let message = error.meta().message().unwrap_or_default().to_owned();
    let status = refusal.raw().status().as_u16();
    if is_modeled || ask(&code, Some(refusal.into_raw())) {
        return true;
    }
    match status {
        // It is not there and will not be, whatever the code: emulators answer so for what they lack.
        501 | 505 => false,
        // No service sends a success that cannot be read. It came from something before the service, such as a proxy.
        200..=299 => true,
        // The request did not arrive in time; there were too many.
        408 | 429 => true,
        // The classifiers know the four usual ones. Proxies and load balancers have further ones.
        500..=599 => true,
        _ => is_known(&code, &message),
    }
}

/// Whether an error with this code, of an entry of a batch, may pass. The entry has no status of its own.
#[cfg(feature = "sqs")]
pub(in crate::backends) fn is_retryable_code(code: &str) -> bool {
    let code = bare(code);
    ask(code, None) || is_known(code, "")
}

/// A code without what stands before and after its name: `KMS.ThrottlingException`,
/// `AWS.SimpleQueueService.OverLimit`, `com.amazonaws.sqs#OverLimit`, `OverLimit:http://…`. The classifiers know names only.
pub(in crate::backends) fn bare(code: &str) -> &str {
    let (code, _) = code.split_once(':').unwrap_or((code, ""));
    let (_, code) = code.rsplit_once('#').unwrap_or(("", code));
    code.rsplit_once('.').map_or(code, |(_, name)| name)
}

/// Asks the SDK's classifiers.
///
/// Its classifier of skewed clocks is left out. It takes any refused signature or access for one that a wrong clock caused,
/// if the clock is wrong; but before the error comes here, the client has already repeated the request with the right time.
/// What is refused then would be refused for ever.
fn ask(code: &str, response: Option<HttpResponse>) -> bool {
    let named = ErrorMetadata::builder().code(code).build();
    let mut context = InterceptorContext::new(Input::erase(()));
    if let Some(response) = response {
        context.set_response(response);
    }
    let error = OrchestratorError::operation(ErasedError::erase(named));
    context.set_output_or_error(Err(error));
    let by_code = AwsErrorCodeClassifier::<ErrorMetadata>::new();
    let by_status = HttpStatusCodeClassifier::default();
    by_code.classify_retry(&context).should_retry()
        || by_status.classify_retry(&context).should_retry()
}

/// Errors that may pass, and that the SDK's classifiers do not know.
fn is_known(code: &str, message: &str) -> bool {
    match code {
        // DynamoDB: another write to the same item is under way.
        "TransactionConflictException" => true,
        // DynamoDB: the table is being created, changed or deleted, which ends.
        "ResourceInUseException" => true,
        // SQS: 120,000 messages of the queue are in flight, until some are acknowledged.
        "OverLimit" => true,
        // SQS: a queue of this name was deleted less than a minute ago.
        "QueueDeletedRecently" => true,
        // SQS: the key's own throttling, under the name that it has in the model. By the code of the older protocol,
        // `KMS.ThrottlingException`, the classifiers know it.
        "KmsThrottled" => true,
        // SQS: the key is being created, updated or imported, its key store is disconnected, or its deletion is scheduled.
        // The first ones end by themselves. The last can be undone for a week at least, and until then a dead letter cannot
        // be written either. A key that is disabled, gone or denied stays so until a person acts: those are lasting.
        "KmsInvalidState" | "InvalidStateException" => true,
        // Faults of the service, also where the status does not say it: an entry of a batch has none.
        "InternalError" | "InternalFailure" | "InternalServerError" => true,
        "ServiceUnavailable" | "ServiceUnavailableException" => true,
        // The connection broke before the service had the whole request.
        "RequestAbortedException" => true,
        // The request was on its way for too long, as when the process was suspended, or the clock is wrong. The next one
        // has a new time, which the client corrects by the service's.
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => true,
        // The same, which only the message tells apart from a wrong secret.
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            message.starts_with("Signature expired") || message.starts_with("Signature not yet")
        }
        // Credentials are fetched anew when their time is up.
        "ExpiredToken" | "ExpiredTokenException" => true,
        _ => false,
    }
}

/// The problem with credentials that made a request fail, if it was one.
pub(super) fn credentials_problem<'a>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a CredentialsError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let problem = error.downcast_ref::<CredentialsError>();
        if problem.is_some() {
            return problem;
        }
        cause = error.source();
    }
    None
}

/// Whether there are no credentials at all, rather than some that could not be had at this moment. A provider that cannot
/// be reached says the same: after credentials have been there, it is a problem of the moment.
pub(super) fn is_lasting(problem: &CredentialsError) -> bool {
    matches!(
        problem,
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_by_its_name() {
        for code in [
            "OverLimit",
            "AWS.SimpleQueueService.OverLimit",
            "com.amazonaws.sqs#OverLimit",
            "com.amazonaws.sqs#OverLimit:http://internal.amazon.com/coral/com.amazonaws.sqs/",
        ] {
            assert_eq!(bare(code), "OverLimit");
        }
        assert_eq!(bare(""), "");
    }

    /// What the SDK has learned need not be in the list.
    #[test]
    fn the_list_has_only_what_the_sdk_does_not_know() {
        let source = include_str!("retryable.rs");
        let (_, list) = source.split_once("fn is_known").unwrap();
        let (list, _) = list.split_once("\n}\n").unwrap();
        let codes = list.split('"').skip(1).step_by(2);
        let codes: Vec<&str> = codes
            .filter(|code| !code.contains(' ') && !code.is_empty())
            .collect();
        assert!(codes.len() > 15, "{codes:?}");
        for code in codes {
            assert!(!ask(code, None), "the SDK knows {code}");
        }
    }
}
