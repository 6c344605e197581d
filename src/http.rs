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
//! | `GET /runs/{arrayId}/result?wait=20` | its result, after a wait of at most `wait` seconds, and no longer than [`longest_wait`](HttpOptions::longest_wait) |
//! | `GET /runs/{arrayId}/failures?limit=100&cursor=…` | what failed, or was left out |
//! | `GET /runs/{arrayId}/dead-letters?limit=100&cursor=…&bodies=true` | its dead letters, with their messages only if asked for |
//! | `DELETE /runs/{arrayId}/dead-letters` | discards its dead letters; it stays failed |
//! | `POST /runs/{arrayId}/redrive` | puts its dead letters back on their queues |
//! | `POST /runs/{arrayId}/cancel` | ends it |
//! | `GET /dead-letters?limit=100&cursor=…&bodies=true` | the dead letters of all runs |
//! | `DELETE /dead-letters?letter=…` | discards the dead letters with these ids, with commas between them, or `all` |
//! | `GET /openapi.json` | this API as an OpenAPI 3.1 document, which [`openapi`] is too |
//!
//! An id stands in a path percent-encoded: `/` has to be `%2F`, so that run `invoices/2026-11-21`
//! is `/runs/invoices%2F2026-11-21`. Any other character of an id may be encoded or not, and `+` is
//! no space. A proxy in between must not decode it. `.` and `..` are ids that most clients and
//! proxies take out of a URL.
//!
//! A parameter that is not listed for a request, or is there twice, is refused with `invalid`: one
//! that is misspelt would select everything. A layer of the application that reads parameters of
//! its own takes them off the URL.
//!
//! # Paths
//!
//! The router has no fallback, so that it can be merged into an application that has one, and can be
//! nested under any path. Paths below `/runs` and `/dead-letters` that the table does not have get
//! this API's own answers, as do methods; all other unknown paths are the application's. Merged into a
//! [`Router`] that has yet to get a state, it is `adder.router().with_state(())`. Two deployments
//! have the same paths: nest each under one of its own.
//!
//! ```
//! use axum::Router;
//! use catchment::{Backend, Pipeline};
//!
//! # fn main() -> Result<(), catchment::Error> {
//! let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
//! let adder = adder.deploy("adder", Backend::memory())?;
//! let counter = Pipeline::new().filter(|n: &i64| *n > 0).count();
//! let counter = counter.deploy("counter", Backend::memory())?;
//!
//! let application: Router = Router::new()
//!     .nest("/adder", adder.router())
//!     .nest("/counter", counter.router())
//!     .fallback(async || "what the application says of all other paths");
//! # let _ = application;
//! # Ok(()) }
//! ```
//!
//! # Submissions
//!
//! A submission is answered once every packet is on a queue. If the array is larger than a queue in
//! memory, that takes as long as workers need to make room for it. It is not cut off while it makes
//! [progress](HttpOptions::time_limit), unless the application sets a
//! [limit](HttpOptions::submission_limit).
//!
//! A client whose patience is shorter submits by `PUT` and repeats the request: it goes on where the
//! first one is, and is answered when that is done. Nothing is submitted of a body that did not come
//! whole, within its [time](HttpOptions::body_time_limit). Once it has, all of it is submitted, whether the client waits for the answer or not.
//!
//! # Requests that change something
//!
//! A browser lets any page send requests to any host it can reach, a server on this machine included. Every `POST`, `PUT` and
//! `DELETE` therefore has the header `content-type: application/json`, though it may have no body, or if it has none,
//! `x-requested-with` with any value: a page of another site cannot send either without asking first. A request whose `origin` is not its
//! `host` is refused all the same, unless the application [allows](HttpOptions::allow_origin) that origin. A server on
//! 127.0.0.1 also [says which hosts](HttpOptions::allow_host) it answers for.
//!
//! # Lists
//!
//! A list comes in pages of at most `limit` entries, from 1 to 1,000. `next` in the answer's `data`
//! is the `cursor` of the next page, or null on the last one. A page may have fewer entries than
//! its limit, even none, and still have a `next`: failures end a page at about 4 MiB, and dead
//! letters before 8 MiB, unless one alone is larger. Dead letters come without their messages unless `bodies=true` asks for
//! them. A [few lists](HttpOptions::concurrent_lists) are read and sent at a time. A page costs what it has: only a run's dead
//! letters are looked for among up to a thousand others of each stage. Where a queue service cannot go on from
//! where a page ended, as Amazon SQS, `truncated` is true if there may be more dead letters than
//! are listed: ask with a higher limit, or redrive or discard these first.
//!
//! # Answers
//!
//! Every answer but the OpenAPI document is a JSON object of three members: `status` is one of
//! those below, `message` says on one line what happened and what to do, and `data` is what was
//! asked for, or null. Neither has what a backend's service said, which may name accounts and hosts: `message` has an id under which
//! the log has it.
//!
//! | `status` | code | meaning |
//! | --- | --- | --- |
//! | `success` | 200 | `data` is what was asked for |
//! | `accepted` | 202 | the array is on the queue |
//! | `pending` | 202 | there is no result yet: ask again; `data` is how far the run is |
//! | `invalid` | 400 | the body, an item of it, the id or a parameter cannot be used |
//! | `forbidden` | 403 | a page of another site would have changed something, or the request's `host` is not the server's |
//! | `not_found` | 404 | there is no such run, or nothing at this path below `/runs` or `/dead-letters` |
//! | `method_not_allowed` | 405 | the header `allow` says which methods this path has |
//! | `timeout` | 408 | the body stopped coming, or took longer than the application allows |
//! | `conflict` | 409 | the id was used for another array, or a run that is done was to be cancelled |
//! | `failed` | 409 | there is no result, because the run has failed; `data` is how far the run is; redrive it once the cause is mended |
//! | `cancelled` | 410 | the run was cancelled: there is no result, and no array is submitted under its id |
//! | `too_large` | 413 | the body, or an item of it, is larger than the limit that `message` names |
//! | `unsupported_media_type` | 415 | the request is not said to be `application/json`, or has a `content-encoding` |
//! | `error` | 500 | a mistake that repeating the request does not mend; its cause is in the server's log |
//! | `unavailable` | 503 | the backend does not answer, or not in time, or its queue stays full: repeat the request after the seconds in the header `retry-after` |

mod answer;
mod body;
mod endpoint;
mod items;
mod known;
mod letters;
mod lists;
mod parameters;
mod sender;
mod source;
mod submit;
mod turns;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get};
use serde::Serialize;

use crate::deployment::Deployment;
use crate::stage::Data;
use endpoint::Endpoint;
use lists::Lists;
use sender::{Hosts, Origins};
use turns::Turns;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    body_limit: usize,
    longest_wait: Duration,
    time_limit: Duration,
    body_time_limit: Duration,
    full_queue_limit: Duration,
    submission_limit: Option<Duration>,
    concurrent_lists: usize,
    origins: Vec<String>,
    hosts: Vec<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            body_limit: 10 * 1024 * 1024,
            longest_wait: Duration::from_secs(30),
            time_limit: Duration::from_secs(30),
            body_time_limit: Duration::from_secs(5 * 60),
            full_queue_limit: Duration::from_secs(10 * 60),
            submission_limit: None,
            concurrent_lists: 4,
            origins: Vec::new(),
            hosts: Vec::new(),
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

    /// How long a request may go without progress (default 30 s).
    ///
    /// A submission makes progress with each chunk of its body, which has a
    /// [time limit of its own](Self::body_time_limit), and with each answer of the backend, so that it takes as long as it has
    /// to: [`submission_limit`](Self::submission_limit) bounds the whole of it. Any other request is over within this time,
    /// excluding the wait for a result.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Time limit for the whole body of a submission, and for sending a large list to a client (default 5 min), however
    /// steadily their parts come: a connection is not kept busy by one byte now and then. What comes after the body is not bounded by it. Set it higher if larger bodies come over
    /// slow connections: with the default, 10 MiB need 35 kB/s.
    pub fn body_time_limit(mut self, limit: Duration) -> Self {
        self.body_time_limit = limit;
        self
    }

    /// How long a submission waits for room on a full queue from which no message goes meanwhile
    /// (default 10 min). Set it higher than the time that workers need for one packet.
    pub fn full_queue_limit(mut self, limit: Duration) -> Self {
        self.full_queue_limit = limit;
        self
    }

    /// Time limit for a whole submission, from the first byte of its body to its last packet,
    /// whether it makes progress or not. There is none by default: a worker that is slow then keeps a request open, and its
    /// body in memory, for as long as it takes to make room on the queue.
    ///
    /// A `PUT` request that is repeated goes on where an earlier one was given up.
    pub fn submission_limit(mut self, limit: Duration) -> Self {
        self.submission_limit = Some(limit);
        self
    }

    /// The number of lists (runs, failures and dead letters) that are read, written and sent at one time (default 4, at least
    /// 1). It bounds their memory: each takes up to about 40 MB, if it has dead letters with their bodies. Others wait for their turn,
    /// within [`time_limit`](Self::time_limit).
    pub fn concurrent_lists(mut self, lists: usize) -> Self {
        self.concurrent_lists = lists;
        self
    }

    /// Lets pages of this origin, such as `https://console.example.com`, send requests that change something. By default, only
    /// pages of the server's own origin may: those whose `origin` has the request's `host`. It sets no CORS headers, which let
    /// such pages read answers: those are a layer of the application's.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Answers requests to this host, such as `localhost`, and refuses those to a host that was not given, reads included. A
    /// port does not count. By default, requests to any host are answered.
    ///
    /// Set it for a server without authentication that listens on 127.0.0.1: a page whose name leads to 127.0.0.1 (DNS
    /// rebinding) is of the server's own origin for its browser, and reads and changes what it likes.
    ///
    /// ```
    /// use catchment::http::HttpOptions;
    ///
    /// let local = HttpOptions::new()
    ///     .allow_host("localhost")
    ///     .allow_host("127.0.0.1");
    /// # let _ = local;
    /// ```
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }
}

/// What every request is handled with.
pub(crate) struct Api<I, R> {
    deployment: Deployment<I, R>,
    options: HttpOptions,
    turns: Turns,
    lists: Lists,
}

impl<I: Data, R: Serialize + Send + 'static> Deployment<I, R> {
    /// This deployment's HTTP API, with the default [limits](HttpOptions): what it has is listed at
    /// [`http`](crate::http). The router has no state left to give and no fallback, and can be
    /// [nested, merged](crate::http#paths) and layered as any other.
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
        let (hosts, origins) = (Hosts::new(&options.hosts), Origins::new(&options.origins));
        let api = Arc::new(Api {
            deployment: self.clone(),
            lists: Lists::new(options.concurrent_lists, options.body_time_limit),
            options,
            turns: Turns::default(),
        });
        Endpoint::ALL
            .iter()
            .fold(Router::new(), |router, endpoint| {
                router.route(endpoint.path(), endpoint.handler::<I, R>(&hosts, &origins))
            })
            // A fallback would be the whole application's. An empty id is not an unknown path.
            .route("/runs/", get(parameters::no_id).put(parameters::no_id))
            .route("/runs/{arrayId}/", any(answer::nothing_here))
            .route("/runs/{arrayId}/{*rest}", any(answer::nothing_here))
            .route("/dead-letters/", any(answer::nothing_here))
            .route("/dead-letters/{*rest}", any(answer::nothing_here))
            .method_not_allowed_fallback(answer::no_such_method)
            .with_state(api)
    }
}
