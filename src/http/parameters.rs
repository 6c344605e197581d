//! What stands in a request's path and query.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;

use super::answer::{Answer, Kind};
use crate::core::id::RunId;

/// Entries that a list has, unless asked for more or fewer.
const LISTED: usize = 100;
/// Entries that a list has at most.
const MOST_LISTED: usize = 10_000;

/// The run that a path names.
pub(super) struct Id(pub(super) RunId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Answer::new(Kind::Invalid, "the id in the path is not UTF-8"))?;
        let id = RunId::from(id);
        id.validate()?;
        Ok(Self(id))
    }
}

/// `?wait=`: seconds to wait for a result.
pub(super) struct Wait(pub(super) u64);

/// `?limit=`: entries of a list.
pub(super) struct Limit(pub(super) usize);

#[derive(Deserialize)]
struct Parameters {
    wait: Option<String>,
    limit: Option<String>,
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

impl<S: Send + Sync> FromRequestParts<S> for Limit {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        let Some(text) = parameters(parts, state).await?.limit else {
            return Ok(Self(LISTED));
        };
        match text.parse() {
            Ok(limit) if limit <= MOST_LISTED => Ok(Self(limit)),
            _ => Err(Answer::new(
                Kind::Invalid,
                format!("limit={text:?} cannot be used: give a number of at most {MOST_LISTED}"),
            )),
        }
    }
}

async fn parameters<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Parameters, Answer> {
    let query = Query::from_request_parts(parts, state).await;
    let Query(parameters) =
        query.map_err(|rejection| Answer::new(Kind::Invalid, rejection.body_text()))?;
    Ok(parameters)
}
