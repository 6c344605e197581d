//! From a body to a run.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use serde::Serialize;
use tokio::time::timeout;

use super::answer::{Answer, Kind, seconds};
use super::items::Items;
use super::view::Submitted;
use super::{Api, HttpOptions, body};
use crate::core::id::RunId;
use crate::deployment::Deployment;
use crate::stage::Data;

/// How long a run whose submission failed is tried to be cancelled, while the client waits.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

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
    let id = id.unwrap_or_else(RunId::random);
    // On a task of its own: a client that goes away does not leave half a run, whose id nobody knows.
    let sent = tokio::spawn(send(api, id.clone(), is_new, items));
    match sent.await {
        Ok(Ok(())) => {
            let message = format!("run {id} is submitted");
            let answer = Answer::with(Kind::Accepted, message, Submitted { run: &id });
            // Where a run has a path of its own already, that is where the client sent it.
            match HeaderValue::from_str(&format!("runs/{id}")) {
                Ok(location) if is_new => answer.header(header::LOCATION, location),
                _ => answer,
            }
        }
        Ok(Err(answer)) => answer,
        Err(_) => Answer::panicked(),
    }
}

async fn send<I: Data, R: Serialize + Send + 'static>(
    api: Arc<Api<I, R>>,
    id: RunId,
    is_new: bool,
    items: Items<I>,
) -> Result<(), Answer> {
    let Api {
        deployment,
        options,
    } = api.as_ref();
    let limit = options.time_limit;
    let answer = match timeout(limit, deployment.submit_as(id.clone(), items)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.into(),
        Err(_) => {
            tracing::warn!(run = %id, ?limit, "a submission was given up: the backend takes too long");
            let limit = seconds(limit);
            Answer::new(
                Kind::Unavailable,
                match is_new {
                    true => format!(
                        "the array did not get on the queue within {limit}, and was withdrawn: submit it again"
                    ),
                    false => format!(
                        "the array did not get on the queue within {limit}: repeat the request, which completes the run"
                    ),
                },
            )
        }
    };
    if is_new {
        cancel(deployment, id).await;
    }
    Err(answer)
}

/// Nobody knows the id of the run, so nobody could complete it.
async fn cancel<I: Data, R: Send + 'static>(deployment: &Deployment<I, R>, id: RunId) {
    let run = deployment.attach(id);
    let problem = match timeout(CANCEL_WITHIN, run.cancel()).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the backend takes too long".to_owned(),
    };
    tracing::warn!(run = %run.id(), problem, "could not cancel a run whose submission failed");
}
