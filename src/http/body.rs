//! The body of a submission.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Kind, seconds};
use crate::core::clock::after;
use crate::submit::Limits;

/// Reads a whole body that says it is JSON. It makes progress with each byte.
pub(super) async fn read(request: Request, limit: usize, limits: &Limits) -> Result<Bytes, Answer> {
    check_headers(request.headers(), limit)?;
    let mut parts = request.into_body().into_data_stream();
    let mut body = BytesMut::new();
    let mut deadline = Deadline::new(limits);
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
            deadline = Deadline::new(limits);
        }
        body.extend_from_slice(&part);
    }
}

/// When to give up on a body.
struct Deadline {
    at: Instant,
    /// The limit that it comes from, if that is not the total.
    silence: Option<Duration>,
}

impl Deadline {
    /// Of the next part.
    fn new(limits: &Limits) -> Self {
        let at = after(Instant::now(), limits.silence);
        match limits.total {
            Some(total) if total < at => Self {
                at: total,
                silence: None,
            },
            _ => Self {
                at,
                silence: Some(limits.silence),
            },
        }
    }

    fn is_over(&self, bytes: usize) -> Answer {
        let message = match self.silence {
            Some(silence) => {
                let silence = seconds(silence);
                format!("the body stopped after {bytes} bytes, for {silence}")
            }
            None => format!(
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
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind.strip_prefix("application/")
        .is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}
