//! From a body to a run.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use serde::Serialize;

use super::answer::{Answer, Kind, seconds};
use super::items::Items;
use super::view::Submitted;
use super::{Api, HttpOptions, body};
use crate::core::id::RunId;
use crate::stage::Data;

/// Submits the items in a request's body, under this id or a new one.
pub(super) async fn submit<I: Data, R: Serialize + Send + 'static>(
    api: Arc<Api<I, R>>,
    id: Option<RunId>,
    request: Request,
) -> Answer {
    let HttpOptions {
        body_limit,
        time_limit,
        ..
    } = api.options;
    let body = match body::read(request, body_limit, time_limit).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    // Megabytes of JSON take their time, and how an item is read is the application's.
    let items = match tokio::task::spawn_blocking(|| Items::<I>::check(body)).await {
        Ok(Ok(items)) => items,
        Ok(Err(problem)) => return Answer::new(Kind::Invalid, problem),
        Err(_) => return Answer::panicked(),
    };
    let is_new = id.is_none();
    // On a task of its own: a client that goes away does not leave half a run, whose id nobody knows.
    match tokio::spawn(send(api, id, items)).await {
        Ok(Ok(id)) => {
            let message = format!("run {id} is submitted");
            let answer = Answer::with(Kind::Accepted, message, Submitted { run: &id });
            // A run under the client's id has a path already: the one that the request was sent to.
            match HeaderValue::from_str(&format!("runs/{id}")) {
                Ok(location) if is_new => answer.header(header::LOCATION, location),
                _ => answer,
            }
        }
        Ok(Err(answer)) => answer,
        Err(_) => Answer::panicked(),
    }
}

/// Submits, and returns the run's id.
async fn send<I: Data, R: Serialize + Send + 'static>(
    api: Arc<Api<I, R>>,
    id: Option<RunId>,
    items: Items<I>,
) -> Result<RunId, Answer> {
    let limit = api.options.time_limit;
    let sent = api.deployment.submit_within(limit, id.clone(), items);
    match sent.await {
        Ok(Ok(run)) => Ok(run.id().clone()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(too_late(limit, id.as_ref())),
    }
}

/// The answer if the backend takes too long. A run under an id of the client's stays open.
fn too_late(limit: Duration, id: Option<&RunId>) -> Answer {
    tracing::warn!(
        run = id.map(RunId::as_str),
        ?limit,
        "a submission was given up: the backend takes too long"
    );
    let outcome = match id {
        None => ", and was withdrawn: submit it again",
        Some(_) => ": repeat the request, which completes the run",
    };
    let limit = seconds(limit);
    let message = format!("the array did not get on the queue within {limit}{outcome}");
    Answer::new(Kind::Unavailable, message)
}
