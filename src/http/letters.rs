//! Which dead letters a request discards.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;

use super::answer::{Answer, Kind};
use crate::deployment::dead_letter::LetterId;

/// `?letter=all`, or the ids of some, with commas between them. A request that names none discards none: a parameter that
/// was forgotten or misspelt must not remove everything.
pub(super) enum Letters {
    All,
    These(Vec<LetterId>),
}

/// No parameters: all dead letters of what the path names.
pub(super) struct Unfiltered;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    letter: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

const ADVICE: &str = "give letter=all, or the `id` of listed letters with commas between them";

impl<S: Send + Sync> FromRequestParts<S> for Letters {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let named = Query::<Named>::from_request_parts(parts, state).await;
        let Query(Named { letter }) = named.map_err(|rejection| {
            let message = format!("{}: {ADVICE}", rejection.body_text());
            Answer::new(Kind::Invalid, message)
        })?;
        let letter = letter.ok_or_else(|| {
            let message = format!("the parameter letter is missing: {ADVICE}");
            Answer::new(Kind::Invalid, message)
        })?;
        if letter == "all" {
            return Ok(Self::All);
        }
        let ids: Result<Vec<LetterId>, _> = letter.split(',').map(str::parse).collect();
        let ids = ids.map_err(|error| Answer::new(Kind::Invalid, format!("{error}: {ADVICE}")))?;
        Ok(Self::These(ids))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Unfiltered {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let named = Query::<Nothing>::from_request_parts(parts, state).await;
        let Query(Nothing {}) = named.map_err(|rejection| {
            let message = format!(
                "{}: all dead letters of a run are discarded; DELETE /dead-letters?letter=… discards some",
                rejection.body_text()
            );
            Answer::new(Kind::Invalid, message)
        })?;
        Ok(Self)
    }
}
