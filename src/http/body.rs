//! The body of a submission.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::HttpOptions;
use super::answer::{Answer, Kind, seconds};
use crate::core::clock::after;
use crate::submit::Limits;

/// Reads a whole body that says it is JSON, within a time for all of it: a part that comes now and then is no reason to keep
/// a request open for ever.
pub(super) async fn read(
    request: Request,
    options: &HttpOptions,
    limits: &Limits,
) -> Result<Bytes, Answer> {
    let limit = options.body_limit;
    check_headers(request.headers(), limit)?;
    let mut parts = request.into_body().into_data_stream();
    let mut body = BytesMut::new();
    let whole = Deadline::of_whole(options, limits);
    let mut deadline = whole.or_silence(limits);
    loop {
        let part = match timeout_at(deadline.at, parts.next()).await {
            Ok(Some(Ok(part))) => part,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a body could not be read");
                return Err(Answer::new(
                    Kind::Invalid,
                    format!("the body broke off after {} bytes", body.len()),
                ));
            }
            Ok(None) => return Ok(body.freeze()),
            Err(_) => return Err(deadline.is_over(body.len())),
        };
        if part.len() > limit.saturating_sub(body.len()) {
            return Err(too_large(limit));
        }
        // HTTP/2 has parts without a byte.
        if !part.is_empty() {
            deadline = whole.or_silence(limits);
        }
        body.extend_from_slice(&part);
    }
}

/// When to give up on a body.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    reason: Reason,
}

/// Which limit a deadline comes from.
#[derive(Clone, Copy)]
enum Reason {
    /// Nothing came for this long.
    Silence(Duration),
    /// The time of a whole body.
    Body(Duration),
    /// The time of the submission, of which the body is a part.
    Submission,
}

impl Deadline {
    /// Of the body that begins now.
    fn of_whole(options: &HttpOptions, limits: &Limits) -> Self {
        let time = options.body_time_limit;
        let at = after(Instant::now(), time);
        match limits.total {
            Some(total) if total < at => Self {
                at: total,
                reason: Reason::Submission,
            },
            _ => Self {
                at,
                reason: Reason::Body(time),
            },
        }
    }

    /// Of the next part.
    fn or_silence(self, limits: &Limits) -> Self {
        let at = after(Instant::now(), limits.silence);
        if self.at <= at {
            return self;
        }
        Self {
            at,
            reason: Reason::Silence(limits.silence),
        }
    }

    fn is_over(self, bytes: usize) -> Answer {
        let message = match self.reason {
            Reason::Silence(silence) => {
                let silence = seconds(silence);
                format!("the body stopped after {bytes} bytes, for {silence}")
            }
            Reason::Body(time) => {
                let time = seconds(time);
                format!("the body took too long: {bytes} bytes came within its limit of {time}")
            }
            Reason::Submission => format!(
                "the body took too long: {bytes} bytes came within the time limit of a submission"
            ),
        };
        Answer::new(Kind::Timeout, message)
    }
}

/// What is known of a body before any of it is read.
fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), Answer> {
    if !is_json(headers) {
        return Err(Answer::new(
            Kind::UnsupportedMediaType,
            "send a JSON array, with the header `content-type: application/json`",
        ));
    }
    if let Some(encoding) = encoding(headers) {
        let message = format!(
            "a body with the header `content-encoding: {encoding}` is not read: send it as it is, or have a layer of the application decode it"
        );
        let answer = Answer::new(Kind::UnsupportedMediaType, message);
        let identity = HeaderValue::from_static("identity");
        return Err(answer.header(header::ACCEPT_ENCODING, identity));
    }
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // A client that says so beforehand need not send it.
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    Ok(())
}

/// What the body has been encoded with, if it has been.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let encodings = encodings.map(|one| String::from_utf8_lossy(one.as_bytes()).into_owned());
    let all = encodings.collect::<Vec<_>>().join(", ");
    let is_as_it_is = |one: &str| one.is_empty() || one.eq_ignore_ascii_case("identity");
    let is_none = all.split(',').all(|one| is_as_it_is(one.trim()));
    (!is_none).then_some(all)
}

fn too_large(limit: usize) -> Answer {
    Answer::new(
        Kind::TooLarge,
        format!(
            "the body is larger than the limit of {limit} bytes: submit references to the data instead, or several runs"
        ),
    )
}

/// `application/json` and what is built on it, whatever its parameters.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind.strip_prefix("application/")
        .is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}
