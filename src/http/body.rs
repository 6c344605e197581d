//! The body of a submission.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::answer::{Answer, Kind, seconds};

/// Reads a whole body that says it is JSON. `patience` is how long the next part of it may be away.
pub(super) async fn read(
    request: Request,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Answer> {
    let headers = request.headers();
    if !is_json(headers) {
        return Err(Answer::new(
            Kind::UnsupportedMediaType,
            "send JSON, with the header `content-type: application/json`",
        ));
    }
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // Who says so beforehand need not send it.
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let mut parts = request.into_body().into_data_stream();
    let mut body = BytesMut::new();
    loop {
        let part = match tokio::time::timeout(patience, parts.next()).await {
            Ok(Some(Ok(part))) => part,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a body could not be read");
                return Err(Answer::new(
                    Kind::Invalid,
                    format!("the body broke off after {} bytes", body.len()),
                ));
            }
            Ok(None) => return Ok(body.freeze()),
            Err(_) => {
                let (bytes, patience) = (body.len(), seconds(patience));
                return Err(Answer::new(
                    Kind::Timeout,
                    format!("the body stopped after {bytes} bytes, for {patience}"),
                ));
            }
        };
        if part.len() > limit.saturating_sub(body.len()) {
            return Err(too_large(limit));
        }
        body.extend_from_slice(&part);
    }
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
