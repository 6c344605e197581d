//! What of an error strangers may read. A service's own words name accounts, hosts and users: they are for the log.

use uuid::Uuid;

use super::Error;
use super::permanent::unmarked;
use super::text::{chain, describe};

/// The text of an error for a run's record, which any client may ask for. An error of a backend is "SQS: SendMessage
/// failed", and the id under which the log has the whole of it; any other error is its own text.
pub(crate) fn text_for_strangers(error: &(dyn std::error::Error + 'static)) -> String {
    let withheld = chain(error).find_map(|error| summary(unmarked(error).downcast_ref()?));
    match withheld {
        Some(summary) => logged_under_id(&summary, error),
        None => describe(error),
    }
}

/// As [`text_for_strangers`], for an error of the server's own: nothing but its kind is said of any.
#[cfg(feature = "http")]
pub(crate) fn kind_for_strangers(error: &Error) -> String {
    let summary = summary(error);
    let summary = summary.as_deref();
    logged_under_id(summary.unwrap_or("the request cannot be served"), error)
}

/// Logs the error under a random id, and returns the summary with that id.
fn logged_under_id(summary: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let id = Uuid::new_v4();
    tracing::warn!(%id, error = %describe(error), "the reason of what a client was told");
    format!("{summary}: the log has the reason under id {id}")
}

/// What is said in place of the error's own text, if that may have a service's words.
fn summary(error: &Error) -> Option<String> {
    Some(match error {
        Error::Backend {
            service, operation, ..
        } => format!("{service}: {} failed", name_of(operation)),
        Error::NotProvisioned { .. } => {
            "a queue or table that the deployment needs does not exist".to_owned()
        }
        _ => return None,
    })
}

/// The operation without the queue, table or address that it was asked of: its first word.
fn name_of(operation: &str) -> &str {
    let word = operation.split_whitespace().next().unwrap_or_default();
    let is_name = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name { word } else { "a call" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::error::{BoxError, permanent};

    const SECRET: &str =
        "AccessDenied: User: arn:aws:sts::123456789012:assumed-role/web is not authorized";

    #[test]
    fn of_a_backends_error_service_and_operation_are_said() {
        for (operation, said) in [
            (
                "SendMessage on queue `adder--sum`",
                "SQS: SendMessage failed: ",
            ),
            ("SendMessage", "SQS: SendMessage failed: "),
            ("https://sqs.example/123456789012/a", "SQS: a call failed: "),
            ("", "SQS: a call failed: "),
        ] {
            let error = Error::refused("SQS", operation, SECRET);
            let text = text_for_strangers(&error);
            assert!(text.starts_with(said), "{text}");
            let id = text.rsplit(' ').next().unwrap_or_default();
            assert!(id.parse::<Uuid>().is_ok(), "{text}");
            assert!(!text.contains("123456789012"), "{text}");
        }
        assert_ne!(
            text_for_strangers(&Error::refused("SQS", "a", SECRET)),
            text_for_strangers(&Error::refused("SQS", "a", SECRET)),
            "each has an id of its own"
        );
    }

    #[test]
    fn wrapping_it_or_marking_it_does_not_uncover_it() {
        let refused = || Error::refused("SQS", "SendMessage", SECRET);
        let marked: BoxError = permanent(refused()).into();
        let wrapped: BoxError = anyhow::Error::new(refused()).context("row 3").into();
        let place = "eu-west-1 at http://10.0.0.1:4566";
        let missing: BoxError = Error::not_provisioned("queue `a`", place).into();
        for error in [marked, wrapped, missing] {
            let text = text_for_strangers(error.as_ref());
            assert!(
                !text.contains("arn:") && !text.contains("10.0.0.1"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_of_the_application_is_its_own() {
        let own: BoxError = "no such column".into();
        assert_eq!(text_for_strangers(own.as_ref()), "no such column");
    }
}
