//! From a body to a run.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use serde::Serialize;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Kind, seconds};
use super::items::Items;
use super::source::Pieces;
use super::view::Submitted;
use super::{Api, HttpOptions, body};
use crate::core::clock::after;
use crate::core::id::RunId;
use crate::core::runtime;
use crate::stage::Data;
use crate::submit::{GivenUp, Limits};

/// Submits the items in a request's body, under this id or a new one.
pub(super) async fn submit<I: Data, R: Serialize + Send + 'static>(
    api: Arc<Api<I, R>>,
    id: Option<RunId>,
    request: Request,
) -> Answer {
    if let Err(error) = runtime::check() {
        return error.into();
    }
    let limits = limits(&api.options);
    let body = match body::read(request, &api.options, &limits).await {
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
    let turn = match &id {
        Some(id) => match take_turn(&api, &limits, id).await {
            Ok(turn) => Some(turn),
            Err(answer) => return answer,
        },
        None => None,
    };
    let sent = async move {
        let _turn = turn;
        send(api, limits, id, items).await
    };
    // On a task of its own: a client that goes away does not leave half a run, whose id nobody knows.
    match tokio::spawn(sent).await {
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

/// Waits for another submission of the same id, which is given up if it makes no progress. A client that goes away
/// meanwhile leaves the run to that one.
async fn take_turn<I, R>(
    api: &Api<I, R>,
    limits: &Limits,
    id: &RunId,
) -> Result<OwnedMutexGuard<()>, Answer> {
    let turn = api.turns.take(id);
    let Some(total) = limits.total else {
        return Ok(turn.await);
    };
    let turn = timeout_at(total, turn).await;
    turn.map_err(|_| too_late(GivenUp::Total, &api.options, Some(id)))
}

/// Submits, and returns the run's id.
async fn send<I: Data, R: Serialize + Send + 'static>(
    api: Arc<Api<I, R>>,
    limits: Limits,
    id: Option<RunId>,
    items: Items<I>,
) -> Result<RunId, Answer> {
    let source = Pieces::new(items);
    let sent = api.deployment.submit_within(limits, id.clone(), source);
    match sent.await {
        Ok(Ok(run)) => Ok(run.id().clone()),
        Ok(Err(error)) => Err(error.into()),
        Err(given_up) => Err(too_late(given_up, &api.options, id.as_ref())),
    }
}

/// What bounds a submission that begins now.
fn limits(options: &HttpOptions) -> Limits {
    let total = options.submission_limit;
    Limits {
        silence: options.time_limit,
        full_queue: options.full_queue_limit,
        total: total.map(|total| after(Instant::now(), total)),
    }
}

/// The answer if a submission was given up. A run under an id of the client's stays open.
fn too_late(given_up: GivenUp, options: &HttpOptions, id: Option<&RunId>) -> Answer {
    let reason = match given_up {
        GivenUp::Silence => format!(
            "the backend did not answer for {}",
            seconds(options.time_limit)
        ),
        GivenUp::FullQueue => format!(
            "the queue is full, and no message went from it for {}",
            seconds(options.full_queue_limit)
        ),
        GivenUp::Total => format!(
            "the array did not get on the queue within {}",
            seconds(options.submission_limit.unwrap_or_default())
        ),
    };
    let run = id.map(RunId::as_str);
    tracing::warn!(run, reason, "a submission was given up");
    let outcome = match id {
        None => "the run was withdrawn: submit it again",
        Some(_) => "repeat the request, which goes on from there and completes the run",
    };
    Answer::new(Kind::Unavailable, format!("{reason}; {outcome}"))
}
