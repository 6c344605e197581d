//! What stands in a request's path and query.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::answer::{Answer, Kind};
use crate::core::id::RunId;
use crate::core::page::Cursor;
use crate::deployment::listing::Listing;
use crate::scratchpad::{RunFilter, RunState};

/// Entries of a page, unless the request sets another limit.
const LISTED: usize = 100;
/// Entries that a page has at most.
const MOST_LISTED: usize = 1_000;

/// The run that a path names.
pub(super) struct Id(pub(super) RunId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let parameters = RawPathParams::from_request_parts(parts, state).await;
        let parameters = parameters
            .map_err(|_| Answer::new(Kind::Invalid, "the id in the path is not UTF-8"))?;
        // The application may have mounted the router under a path with parameters of its own. Ours is the last one.
        let id = parameters.iter().last().map(|(_, id)| id);
        let id = RunId::from(id.unwrap_or_default());
        id.validate()?;
        Ok(Self(id))
    }
}

/// For a path that ends where the id should be.
pub(super) async fn no_id() -> Answer {
    match RunId::from("").validate() {
        Err(error) => error.into(),
        Ok(()) => Answer::new(Kind::Invalid, "the path has no id"),
    }
}

/// `?wait=`: seconds to wait for a result.
pub(super) struct Wait(pub(super) u64);

/// `?limit=` and `?cursor=`: which page of a list.
pub(super) struct Paged {
    limit: usize,
    cursor: Option<Cursor>,
}

impl Paged {
    /// Whether it is the list's first page.
    pub(super) fn is_first(&self) -> bool {
        self.cursor.is_none()
    }

    pub(super) fn of<T: Send + 'static>(self, list: Listing<T>) -> Listing<T> {
        list.limit(self.limit).after(self.cursor)
    }
}

/// `?bodies=`: whether dead letters come with their messages.
pub(super) struct Bodies(pub(super) bool);

/// `?state=`, `?since=` and `?until=`: which runs.
pub(super) struct Filter(pub(super) RunFilter);

#[derive(Deserialize)]
struct Parameters {
    wait: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
    bodies: Option<String>,
    state: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Wait {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let Some(text) = parameters(parts, state).await?.wait else {
            return Ok(Self(0));
        };
        let wait = text.parse().map_err(|_| {
            let message =
                format!("wait={text:?} cannot be used: give whole seconds, as in wait=20");
            Answer::new(Kind::Invalid, message)
        })?;
        Ok(Self(wait))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Paged {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let Parameters { limit, cursor, .. } = parameters(parts, state).await?;
        let limit = match limit {
            None => LISTED,
            Some(text) => match text.parse() {
                Ok(limit) if (1..=MOST_LISTED).contains(&limit) => limit,
                _ => {
                    return Err(unusable(
                        "limit",
                        &text,
                        &format!("give a number from 1 to {MOST_LISTED}"),
                    ));
                }
            },
        };
        let cursor = cursor.map(Cursor::new);
        Ok(Self { limit, cursor })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Bodies {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        match parameters(parts, state).await?.bodies.as_deref() {
            None | Some("false") => Ok(Self(false)),
            Some("true") => Ok(Self(true)),
            Some(text) => Err(unusable("bodies", text, "give true or false")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Filter {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let parameters = parameters(parts, state).await?;
        let mut filter = RunFilter::new();
        filter.since = time("since", parameters.since)?;
        filter.until = time("until", parameters.until)?;
        if let Some(text) = parameters.state {
            let state = RunState::deserialize(text.as_str().into_deserializer());
            let state = state.map_err(|_: serde::de::value::Error| {
                let advice = "give open, running, done, failed or cancelled";
                unusable("state", &text, advice)
            })?;
            filter.state = Some(state);
        }
        Ok(Self(filter))
    }
}

/// A time in milliseconds since 1970, as answers have them.
fn time(name: &str, text: Option<String>) -> Result<Option<SystemTime>, Answer> {
    let Some(text) = text else { return Ok(None) };
    let milliseconds = text.parse().ok().map(Duration::from_millis);
    let time = milliseconds.and_then(|since| UNIX_EPOCH.checked_add(since));
    let advice = "give milliseconds since 1970-01-01 UTC, as in 1700000000000";
    time.map(Some).ok_or_else(|| unusable(name, &text, advice))
}

fn unusable(name: &str, text: &str, advice: &str) -> Answer {
    Answer::new(
        Kind::Invalid,
        format!("{name}={text:?} cannot be used: {advice}"),
    )
}

async fn parameters<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Parameters, Answer> {
    let query = Query::from_request_parts(parts, state).await;
    let Query(parameters) =
        query.map_err(|rejection| Answer::new(Kind::Invalid, rejection.body_text()))?;
    Ok(parameters)
}
