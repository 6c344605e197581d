//! A deployment's HTTP API, as a router for the application's own server (feature `http`).
//!
//! [`Deployment::router`] makes an [`axum::Router`] that is mounted wherever the application wants
//! it. **There is no authentication in it: that is the host application's.**
//!
//! | request | what it does |
//! | --- | --- |
//! | `POST /runs` | submits a JSON array of items under a new id |
//! | `GET /runs?state=failed&since=…&until=…&limit=100&cursor=…` | the runs, newest first |
//! | `PUT /runs/{arrayId}` | the same under an id of the caller's: submitting it twice is one run, and other items under it are a conflict |
//! | `GET /runs/{arrayId}` | how far the run is |
//! | `GET /runs/{arrayId}/result?wait=20` | its result, waiting up to so many seconds for it |
//! | `GET /runs/{arrayId}/failures?limit=100&cursor=…` | what failed, or was left out |
//! | `GET /runs/{arrayId}/dead-letters?limit=100&cursor=…` | its dead letters |
//! | `DELETE /runs/{arrayId}/dead-letters` | discards its dead letters; it stays failed |
//! | `POST /runs/{arrayId}/redrive` | puts its dead letters back on their queues |
//! | `POST /runs/{arrayId}/cancel` | ends it |
//! | `GET /dead-letters?limit=100&cursor=…` | the dead letters of all runs |
//! | `DELETE /dead-letters?letter=…` | discards the dead letters with these ids, with commas between them, or `all` |
//! | `GET /openapi.json` | this API as an OpenAPI 3.1 document, which [`openapi`] is too |
//!
//! An id stands in a path percent-encoded: `/` has to be `%2F`, so that run `invoices/2026-11-21`
//! is `/runs/invoices%2F2026-11-21`. A proxy in between must not decode it. `.` and `..` are ids
//! that no URL can carry.
//!
//! # Lists
//!
//! A list comes in pages of at most `limit` entries, from 1 to 1,000. `next` in the answer's `data`
//! is the `cursor` of the next page, or null on the last one. A page may have fewer entries than
//! its limit, even none, and still have a `next`: failures end a page at about 4 MiB, and dead
//! letters before 8 MiB, unless one alone is larger. A page costs what it has: only a run's dead
//! letters are looked for among up to a thousand others of each stage. Where a queue service cannot go on from
//! where a page ended, as Amazon SQS, `truncated` is true if there may be more dead letters than
//! are listed: ask with a higher limit, or redrive or discard these first.
//!
//! # Answers
//!
//! Every answer but the OpenAPI document is a JSON object of three members: `status` is one of
//! those below, `message` says on one line what happened and what to do, and `data` is what was
//! asked for, or null.
//!
//! | `status` | code | meaning |
//! | --- | --- | --- |
//! | `success` | 200 | `data` is what was asked for |
//! | `accepted` | 202 | the array is on the queue |
//! | `pending` | 202 | there is no result yet: ask again; `data` is how far the run is |
//! | `invalid` | 400 | the body, an item of it, the id or a parameter cannot be used |
//! | `not_found` | 404 | there is no such run, or nothing at this path |
//! | `method_not_allowed` | 405 | the header `allow` says which methods this path has |
//! | `timeout` | 408 | the body stopped coming |
//! | `conflict` | 409 | the id was used for another array, or a run that is done was to be cancelled |
//! | `failed` | 409 | there is no result, because the run has failed; `data` is how far the run is; redrive it once the cause is mended |
//! | `cancelled` | 410 | there is no result, because the run was cancelled |
//! | `too_large` | 413 | the body, or an item of it, is larger than the limit that `message` names |
//! | `unsupported_media_type` | 415 | the body is not said to be `application/json` |
//! | `error` | 500 | a mistake that repeating the request does not mend; its cause is in the server's log |
//! | `unavailable` | 503 | the backend does not answer, or not in time: repeat the request after the seconds in the header `retry-after` |

mod answer;
mod body;
mod endpoint;
mod items;
mod letters;
mod parameters;
mod submit;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde::Serialize;

use crate::deployment::Deployment;
use crate::stage::Data;
use endpoint::Endpoint;

/// The API as an OpenAPI 3.1 document in JSON. The one that the router serves has, beside this, the
/// deployment's name and the path that the router is mounted at.
pub fn openapi() -> &'static str {
    include_str!("http/openapi.json")
}

/// The limits of a [router](Deployment::router_with).
///
/// ```
/// use std::time::Duration;
/// use catchment::http::HttpOptions;
///
/// let options = HttpOptions::new()
///     .body_limit(64 * 1024 * 1024)
///     .longest_wait(Duration::from_secs(50));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    body_limit: usize,
    longest_wait: Duration,
    time_limit: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            body_limit: 10 * 1024 * 1024,
            longest_wait: Duration::from_secs(30),
            time_limit: Duration::from_secs(30),
        }
    }
}

impl HttpOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The largest body, in bytes; 10 MiB by default, which is enough for a million numbers. A
    /// submission takes about as much memory as its body. It is the router's own: axum's
    /// `DefaultBodyLimit` does not change it.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Upper bound on the `wait` parameter of a result request (default 30 s). Keep it below the
    /// idle timeout of whatever stands between the client and the server.
    pub fn longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// Time limit for backend calls per request, excluding the wait for a result, and for each
    /// chunk of a body (default 30 s).
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }
}

/// What every request is handled with.
pub(crate) struct Api<I, R> {
    deployment: Deployment<I, R>,
    options: HttpOptions,
}

impl<I: Data, R: Serialize + Send + 'static> Deployment<I, R> {
    /// This deployment's HTTP API, with the default [limits](HttpOptions): what it has is listed at
    /// [`http`](crate::http). The router has no state left to give, and can be nested, merged and
    /// layered as any other.
    ///
    /// **It does not ask who is calling: authentication and authorization are the host
    /// application's.** Put them around it as a layer, or do not let it be reached by those who may
    /// not submit, read and cancel everybody's runs.
    ///
    /// Workers are not part of it: they run in this process or in others.
    ///
    /// ```no_run
    /// use axum::Router;
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::memory())?;
    /// let worker = adder.worker().start();
    ///
    /// let application = Router::new().nest("/adder", adder.router());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    /// axum::serve(listener, application).await?;
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn router(&self) -> Router {
        self.router_with(HttpOptions::default())
    }

    /// As [`router`](Self::router), with other limits. **Authentication is the host application's**
    /// here, too.
    pub fn router_with(&self, options: HttpOptions) -> Router {
        let api = Arc::new(Api {
            deployment: self.clone(),
            options,
        });
        Endpoint::ALL
            .iter()
            .fold(Router::new(), |router, endpoint| {
                router.route(endpoint.path(), endpoint.handler::<I, R>())
            })
            .fallback(answer::nothing_here)
            .method_not_allowed_fallback(answer::no_such_method)
            .with_state(api)
    }
}
