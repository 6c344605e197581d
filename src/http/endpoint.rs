//! Every path of the API, and what is done there.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{OriginalUri, Request, State};
use axum::http::header;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{Answer, Kind, within};
use super::letters::{Letters, Unfiltered};
use super::lists::written;
use super::parameters::{Bodies, Filter, Id, Paged, Wait};
use super::sender::{self, Hosts, Origins};
use super::submit::submit;
use super::view::{DeadLetters, Discards, Failures, Finished, Progress, Redrives, Runs};
use super::{Api, known, openapi};
use crate::core::error::Error;
use crate::core::id::RunId;
use crate::deployment::run::{Run, Status};
use crate::queue::PAGE_BYTES;
use crate::scratchpad::{Failure, RunState};
use crate::stage::Data;

type Of<I, R> = State<Arc<Api<I, R>>>;

/// The router is made of these, and of nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Runs,
    Run,
    Result,
    Failures,
    DeadLetters,
    Redrive,
    Cancel,
    AllDeadLetters,
    OpenApi,
}

impl Endpoint {
    pub(super) const ALL: &[Self] = &[
        Self::Runs,
        Self::Run,
        Self::Result,
        Self::Failures,
        Self::DeadLetters,
        Self::Redrive,
        Self::Cancel,
        Self::AllDeadLetters,
        Self::OpenApi,
    ];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Runs => "/runs",
            Self::Run => "/runs/{arrayId}",
            Self::Result => "/runs/{arrayId}/result",
            Self::Failures => "/runs/{arrayId}/failures",
            Self::DeadLetters => "/runs/{arrayId}/dead-letters",
            Self::Redrive => "/runs/{arrayId}/redrive",
            Self::Cancel => "/runs/{arrayId}/cancel",
            Self::AllDeadLetters => "/dead-letters",
            Self::OpenApi => "/openapi.json",
        }
    }

    /// Whether it has a method whose request has a body.
    pub(super) fn takes_body(self) -> bool {
        matches!(self, Self::Runs | Self::Run)
    }

    pub(super) fn handler<I: Data, R: Serialize + Send + 'static>(
        self,
        hosts: &Hosts,
        origins: &Origins,
    ) -> MethodRouter<Arc<Api<I, R>>> {
        let handler = match self {
            Self::Runs => post(submit_new::<I, R>).get(runs::<I, R>),
            Self::Run => put(submit_as::<I, R>).get(status::<I, R>),
            Self::Result => get(result::<I, R>),
            Self::Failures => get(failures::<I, R>),
            Self::DeadLetters => get(dead_letters::<I, R>).delete(discard::<I, R>),
            Self::Redrive => post(redrive::<I, R>),
            Self::Cancel => post(cancel::<I, R>),
            Self::AllDeadLetters => get(all_dead_letters::<I, R>).delete(discard_some::<I, R>),
            Self::OpenApi => get(document::<I, R>),
        };
        let (hosts, origins) = (hosts.clone(), origins.clone());
        handler
            .route_layer(from_fn(move |request, next| {
                known::check(self, request, next)
            }))
            .route_layer(from_fn(move |request, next| {
                sender::check(self, hosts.clone(), origins.clone(), request, next)
            }))
    }
}

impl<I: Data, R: Serialize + Send + 'static> Api<I, R> {
    fn run(&self, id: RunId) -> Run<R> {
        self.deployment.attach(id)
    }

    async fn answer(&self, work: impl Future<Output = Result<Answer, Answer>>) -> Answer {
        within(self.options.time_limit, work).await
    }

    /// As [`answer`](Self::answer), for a list: it waits for its turn before anything is read.
    async fn list(&self, work: impl Future<Output = Result<Answer, Answer>>) -> Answer {
        self.answer(async {
            let place = self.lists.place().await;
            let answer = work.await?;
            Ok(match place {
                Some(place) => answer.at(place),
                None => answer,
            })
        })
        .await
    }
}

async fn submit_new<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    request: Request,
) -> Answer {
    submit(api, None, request).await
}

async fn submit_as<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Id(id): Id,
    request: Request,
) -> Answer {
    submit(api, Some(id), request).await
}

async fn status<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Id(id): Id,
) -> Answer {
    api.answer(async {
        let status = api.run(id.clone()).status().await?;
        Ok(progress(Kind::Success, &id, &status))
    })
    .await
}

fn progress(kind: Kind, id: &RunId, status: &Status) -> Answer {
    let message = match status.state {
        RunState::Failed => format!("run {id} has failed"),
        state => format!("run {id} is {state}"),
    };
    Answer::with(kind, message, Progress::new(id, status))
}

async fn result<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Id(id): Id,
    Wait(wait): Wait,
) -> Answer {
    let wait = Duration::from_secs(wait).min(api.options.longest_wait);
    let limit = wait.saturating_add(api.options.time_limit);
    within(limit, async {
        let (status, outcome) = api.run(id.clone()).look(wait).await?;
        if let Some(outcome) = outcome {
            let message = format!("run {id} is done");
            let id = id.clone();
            let write = move || {
                let data = Finished::new(&id, &outcome);
                Answer::with(Kind::Success, message, data)
            };
            return Ok(written(write).await);
        }
        Ok(match (&status.failure, status.state) {
            (_, RunState::Cancelled) => progress(Kind::Cancelled, &id, &status),
            (Some(failure), _) => {
                let error = Error::Failed {
                    run: id.clone(),
                    failure: Box::new(failure.clone()),
                };
                Answer::with(Kind::Failed, error.to_string(), Progress::new(&id, &status))
            }
            (None, _) => {
                let message = format!("run {id} is {}, and has no result yet", status.state);
                Answer::with(Kind::Pending, message, Progress::new(&id, &status))
            }
        })
    })
    .await
}

async fn runs<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Filter(filter): Filter,
    paged: Paged,
) -> Answer {
    api.list(async {
        let runs = paged.of(api.deployment.runs(filter)).await?;
        let message = format!("runs on this page: {}", runs.len());
        Ok(Answer::with(Kind::Success, message, Runs::new(&runs)))
    })
    .await
}

async fn failures<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Id(id): Id,
    paged: Paged,
) -> Answer {
    api.list(async {
        let run = api.run(id.clone());
        let is_first = paged.is_first();
        let listed = paged.of(run.failures());
        let failures = listed.within(PAGE_BYTES, Failure::size).await?;
        if is_first && failures.is_empty() {
            // An unknown run has none either.
            run.status().await?;
        }
        let message = format!("failures of run {id} on this page: {}", failures.len());
        let write = move || Answer::with(Kind::Success, message, Failures::new(&failures));
        Ok(written(write).await)
    })
    .await
}

async fn dead_letters<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Id(id): Id,
    paged: Paged,
    Bodies(bodies): Bodies,
) -> Answer {
    api.list(async {
        let run = api.run(id.clone());
        let is_first = paged.is_first();
        let letters = paged.of(run.dead_letters()).await?;
        if is_first && letters.is_empty() {
            run.status().await?;
        }
        let message = format!("dead letters of run {id} on this page: {}", letters.len());
        let write = move || {
            let data = DeadLetters::new(&letters, bodies);
            Answer::with(Kind::Success, message, data)
        };
        Ok(written(write).await)
    })
    .await
}

async fn redrive<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Id(run): Id,
) -> Answer {
    api.answer(async {
        let outcome = api.run(run.clone()).redrive().await?;
        let message = format!(
            "dead letters of run {run} that are back on their queues: {}",
            outcome.redriven
        );
        let data = Redrives::new(&run, outcome);
        Ok(Answer::with(Kind::Success, message, data))
    })
    .await
}

async fn cancel<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Id(id): Id,
) -> Answer {
    api.answer(async {
        let run = api.run(id.clone());
        let is_cancelled = run.cancel().await?;
        let status = run.status().await?;
        let kind = match is_cancelled {
            true => Kind::Success,
            false => Kind::Conflict,
        };
        Ok(progress(kind, &id, &status))
    })
    .await
}

async fn all_dead_letters<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    paged: Paged,
    Bodies(bodies): Bodies,
) -> Answer {
    api.list(async {
        let letters = paged.of(api.deployment.dead_letters()).await?;
        let message = format!("dead letters of all runs on this page: {}", letters.len());
        let write = move || {
            let data = DeadLetters::new(&letters, bodies);
            Answer::with(Kind::Success, message, data)
        };
        Ok(written(write).await)
    })
    .await
}

async fn discard<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    Id(run): Id,
    Unfiltered: Unfiltered,
) -> Answer {
    api.answer(async {
        let outcome = api.run(run.clone()).discard().await?;
        let message = format!(
            "dead letters of run {run} that were discarded: {}",
            outcome.discarded
        );
        let data = Discards::new(Some(&run), outcome);
        Ok(Answer::with(Kind::Success, message, data))
    })
    .await
}

async fn discard_some<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    letters: Letters,
) -> Answer {
    api.answer(async {
        let outcome = match letters {
            Letters::All => api.deployment.discard().await?,
            Letters::These(letters) => api.deployment.discard_these(letters).await?,
        };
        let message = format!("dead letters that were discarded: {}", outcome.discarded);
        let data = Discards::new(None, outcome);
        Ok(Answer::with(Kind::Success, message, data))
    })
    .await
}

async fn document<I: Data, R: Serialize + Send + 'static>(
    State(api): Of<I, R>,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let path = uri.path();
    let mounted = path.strip_suffix(Endpoint::OpenApi.path());
    let mounted = mounted.filter(|path| !path.is_empty()).unwrap_or("/");
    let document = serde_json::from_str(openapi()).and_then(|mut document: Value| {
        if let Some(members) = document.as_object_mut() {
            members.insert("servers".to_owned(), json!([{ "url": mounted }]));
        }
        if let Some(title) = document.pointer_mut("/info/title") {
            *title = api.deployment.name().into();
        }
        serde_json::to_vec(&document)
    });
    match document {
        Ok(document) => ([(header::CONTENT_TYPE, "application/json")], document).into_response(),
        Err(_) => Answer::new(Kind::Error, "the document cannot be read").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Which methods each has is asked of the router, in `tests/http/document.rs`.
    #[test]
    fn the_document_has_every_path_of_the_router_and_no_other() {
        let document: Value = serde_json::from_str(openapi()).unwrap();
        let documented = document["paths"].as_object().unwrap().keys();
        let documented: BTreeSet<&str> = documented.map(String::as_str).collect();
        let routed: BTreeSet<&str> = Endpoint::ALL.iter().map(|one| one.path()).collect();
        assert_eq!(documented, routed);
    }
}
