//! The one shape of every answer, and which error is which.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use axum::body::Body;
use axum::extract::OriginalUri;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use serde::Serialize;

use super::lists::Place;
use crate::core::error::{Error, describe, kind_for_strangers};
use crate::core::printable::into_printable;
use crate::core::runtime;
use crate::packet::strict::{self, Checked, JsonUpTo};

/// When a client is asked to come back after an outage, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// What a client sent may be quoted in a message, and be as long as a body.
const LONGEST_MESSAGE: usize = 500;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Success,
    Accepted,
    Pending,
    Invalid,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Timeout,
    Conflict,
    Failed,
    Cancelled,
    TooLarge,
    UnsupportedMediaType,
    Error,
    Unavailable,
}

impl Kind {
    pub(super) fn code(self) -> StatusCode {
        match self {
            Self::Success => StatusCode::OK,
            Self::Accepted | Self::Pending => StatusCode::ACCEPTED,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::Failed => StatusCode::CONFLICT,
            Self::Cancelled => StatusCode::GONE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Error => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An answer, written already.
#[derive(Debug)]
pub(super) struct Answer {
    kind: Kind,
    body: Vec<u8>,
    header: Option<(HeaderName, HeaderValue)>,
    place: Option<Box<Place>>,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    status: Kind,
    message: &'a str,
    data: T,
}

impl Answer {
    /// An answer with nothing but its message.
    pub(super) fn new(kind: Kind, message: impl AsRef<str>) -> Self {
        Self::with(kind, message, ())
    }

    pub(super) fn with(kind: Kind, message: impl AsRef<str>, data: impl Serialize) -> Self {
        let message = one_line(message.as_ref());
        let envelope = Envelope {
            status: kind,
            message: &message,
            data,
        };
        // The result's type is the application's, and so is how it is written.
        let body = match catch_unwind(AssertUnwindSafe(|| write(&envelope))) {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                tracing::error!(error = %describe(&error), "an answer cannot be written as JSON");
                return Self::new(Kind::Error, "the answer cannot be written as JSON");
            }
            Err(_) => return Self::panicked(),
        };
        let header = match kind {
            Kind::Unavailable => Some((header::RETRY_AFTER, RETRY_AFTER)),
            _ => None,
        };
        Self {
            kind,
            body,
            header,
            place: None,
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// The answer, which keeps a place among the lists until it is sent.
    pub(super) fn at(mut self, place: Place) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    /// A function of the application panicked while the request was handled.
    pub(super) fn panicked() -> Self {
        Self::new(
            Kind::Error,
            "code of the application panicked while it handled this request: its log says where",
        )
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            // How far a run is changes by the moment.
            (header::CACHE_CONTROL, "no-store"),
        ];
        let length = self.body.len();
        let body = match self.place {
            Some(place) => place.send(self.body),
            None => Body::from(self.body),
        };
        let mut response = (self.kind.code(), headers, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length.into());
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Every result that the store can keep, within the levels of the envelope.
type Rules = JsonUpTo<{ strict::JSON_NESTING + 2 }>;

/// Writes an answer, in which a result of another codec may have what JSON has not, such as NaN.
fn write<T: Serialize>(envelope: &Envelope<'_, T>) -> Result<Vec<u8>, Error> {
    let written = strict::checked(envelope, |checked: &Checked<'_, _, Rules>| {
        serde_json::to_vec(checked)
    });
    written.map_err(|unwritable| unwritable.into_error("an answer"))
}

/// What a service said may name hosts and accounts: of an error of the server's own, the client has the kind and an id, under
/// which the log has the rest.
impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::InvalidArgument { .. } | Error::InvalidRunId { .. } | Error::Encode { .. } => {
                Kind::Invalid
            }
            Error::NoSuchRun { .. } => Kind::NotFound,
            Error::Submission { .. } => Kind::Conflict,
            Error::Failed { .. } => Kind::Failed,
            Error::Cancelled { .. } => Kind::Cancelled,
            Error::TooLarge { .. } => Kind::TooLarge,
            Error::Backend {
                retryable: true, ..
            } => Kind::Unavailable,
            Error::Backend { .. }
            | Error::NoRuntime { .. }
            | Error::LostThreads { .. }
            | Error::NotProvisioned { .. }
            | Error::InvalidPipeline { .. }
            | Error::Integrity { .. }
            // What a request submits has been read before.
            | Error::Input { .. }
            | Error::Decode { .. } => Kind::Error,
        };
        match kind {
            Kind::Error | Kind::Unavailable => Self::new(kind, kind_for_strangers(&error)),
            _ => Self::new(kind, error.to_string()),
        }
    }
}

/// Does the work of a request in its time, whatever it does.
pub(super) async fn within(
    limit: Duration,
    work: impl Future<Output = Result<Answer, Answer>>,
) -> Answer {
    if let Err(error) = runtime::check() {
        return Answer::from(error);
    }
    let work = AssertUnwindSafe(tokio::time::timeout(limit, work)).catch_unwind();
    match work.await {
        Ok(Ok(Ok(answer) | Err(answer))) => answer,
        Ok(Err(_)) => {
            tracing::warn!(?limit, "a request was given up: the backend takes too long");
            Answer::new(
                Kind::Unavailable,
                format!(
                    "the backend did not finish within {}: repeat the request, which goes on from there",
                    seconds(limit)
                ),
            )
        }
        Err(_) => Answer::panicked(),
    }
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// For every path below those of the API that it does not have. All others are the application's.
pub(super) async fn nothing_here(OriginalUri(uri): OriginalUri) -> Answer {
    let message = format!(
        "there is nothing at {}: an id's `/` is written as %2F, and openapi.json lists what there is",
        uri.path()
    );
    Answer::new(Kind::NotFound, message)
}

/// For every method that a path of the API does not have.
pub(super) async fn no_such_method(method: Method, OriginalUri(uri): OriginalUri) -> Answer {
    let message = format!(
        "{} does not take {method}: the header `allow` says what it takes",
        uri.path()
    );
    Answer::new(Kind::MethodNotAllowed, message)
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = into_printable(words.join(" "));
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Oversized;

    fn kind(error: Error) -> Kind {
        Answer::from(error).kind
    }

    #[test]
    fn each_error_has_its_status() {
        let id = || crate::RunId::from("a");
        let source = || "10.0.0.1 refused".into();
        let backend = |retryable| Error::Backend {
            service: "sqs",
            operation: "SendMessage".into(),
            retryable,
            source: source(),
        };
        let answer = Answer::from(backend(true));
        assert_eq!(answer.kind, Kind::Unavailable);
        assert_eq!(answer.header, Some((header::RETRY_AFTER, RETRY_AFTER)));
        let text = String::from_utf8(answer.body).unwrap();
        assert!(
            text.contains("sqs: SendMessage failed") && !text.contains("10.0.0.1"),
            "{text}"
        );
        assert_eq!(kind(backend(false)), Kind::Error);
        assert_eq!(kind(Error::Cancelled { run: id() }), Kind::Cancelled);
        assert_eq!(kind(Error::decode("a result", source())), Kind::Error);
        assert_eq!(kind(Error::encode("item 3", source())), Kind::Invalid);
        let too_large = Error::too_large(Oversized::Item, "packet 0", 2, 1);
        assert_eq!(kind(too_large), Kind::TooLarge);
        let missing = Error::not_provisioned("queue `a`", "eu-west-1 at 10.0.0.1");
        let answer = Answer::from(missing);
        assert_eq!(answer.kind, Kind::Error);
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains("10.0.0.1"), "{text}");
    }

    #[test]
    fn a_message_is_one_short_line() {
        assert_eq!(one_line("a\n  b\r\nc\u{1b}"), "a b c\\u{1b}");
        let long = one_line(&"ä".repeat(100_000));
        assert_eq!(long.chars().count(), LONGEST_MESSAGE + 2);
    }

    #[test]
    fn what_cannot_be_written_is_an_answer_too() {
        struct Panics;
        impl Serialize for Panics {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("made up for a test")
            }
        }
        assert_eq!(Answer::with(Kind::Success, "", Panics).kind, Kind::Error);
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert_eq!(Answer::with(Kind::Success, "", keys).kind, Kind::Error);
        // JSON would write `null`, which is another result.
        assert_eq!(Answer::with(Kind::Success, "", f64::NAN).kind, Kind::Error);
        assert_eq!(Answer::with(Kind::Success, "", Some(())).kind, Kind::Error);
    }
}
