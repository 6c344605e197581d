//! Queues and a scratchpad in a PostgreSQL database: for an application that has one and wants nothing else.
//!
//! Queues, dead letters, runs and their trees are tables of one schema (`catchment` unless another is named), which
//! [`provision`](crate::Deployment::provision) makes and migrates. Deployments share the tables.
//!
//! # How it works
//!
//! Each operation is one statement, which takes everything of its batch as arrays. It is sent as an unnamed statement with
//! the types of its parameters, and uses nothing of a session: no prepared statement, no `SET`, no session lock, and `LISTEN`
//! only if it is asked to. So it works through PgBouncer in transaction mode, and a few connections that are shared by all callers and
//! pipelined are enough. One that breaks is made again; an error that is transient by the server's own code is repeated for
//! a second or two, and then returned as retryable, so that a worker waits out a restart or a failover. Only the server's
//! clock counts.
//!
//! # Why the tables are small
//!
//! A queue in a table dies of its own garbage: each claim and each acknowledgement leaves a dead version of a row, and until
//! vacuum has removed it, every claim steps over it. With an old transaction open anywhere in the database, vacuum removes
//! nothing. Three ways out were read and two of them measured:
//!
//! - **Append, rotate and truncate** (PgQ, and awa since 0.6): events are only inserted, progress is kept by snapshots or
//!   sequences, and a table is truncated when nobody needs it any more. Nothing dies, so an old transaction costs nothing.
//!   But truncating takes an exclusive lock and an elected maintainer, one message that is late keeps its whole table,
//!   and each message that is extended, released, delayed or delivered again needs a record elsewhere: awa has a dozen tables
//!   for it. catchment's messages have visibility timeouts of their own and are handed back often.
//! - **Update in place** (pgmq, River, graphile-worker): a claim writes a new version of the row with its body, and an index
//!   entry for each index. pgmq asks for what is due by `clock_timestamp()`, which no index can answer.
//! - **Small rows that are updated, bodies that are not** is what is done here. `messages` has what a claim and a heartbeat
//!   write: about sixty bytes. `bodies` has the rest, is written once, and is deleted on acknowledgement. There are two
//!   indexes.
//!
//! Processes vacuum what they have left (`queue/vacuum.rs`), and no statement reads dead versions: a claim begins where the
//! last one of this process ended (`queue/front.rs`), and messages that are held are found by their primary key, whatever the
//! planner believes of their table (`queue/receipts.rs`). `docs/postgres.md` has the reasons and the measurements.

mod connect;
mod database;
mod errors;
mod failures;
mod groups;
mod notices;
mod outbox;
mod queue;
mod run_list;
mod runs;
mod schema;
mod scratchpad;
mod shared_calls;
mod sweep;
mod tls;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, NoTls, Socket};

use self::connect::Connect;
use self::database::{DEFAULT_CONNECTIONS, Database};
use self::notices::Notices;
pub use self::outbox::OutboxInsert;
pub(crate) use self::outbox::{NewPart, PostgresOutbox};
pub use self::queue::PostgresQueues;
pub use self::scratchpad::PostgresScratchpad;
use crate::core::error::{Error, Result};
use crate::core::requests::Requests;

const DEFAULT_SCHEMA: &str = "catchment";
/// As long as the other services keep a run.
const DEFAULT_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A PostgreSQL database with settings of your own, for a [`Backend`](crate::Backend). Making one connects to nothing:
/// connections are made when they are needed.
///
/// ```
/// use catchment::Backend;
/// use catchment::backends::postgres::PostgresBackend;
///
/// let database = PostgresBackend::from_url("postgres://worker@localhost/app")?
///     .schema("jobs")
///     .connections(8);
/// assert!(database.migrations().starts_with("BEGIN;\nCREATE SCHEMA IF NOT EXISTS \"jobs\";"));
/// let backend = Backend::from(database);
/// assert!(format!("{backend:?}").contains("localhost"));
/// # Ok::<(), catchment::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct PostgresBackend {
    config: Config,
    connect: Connect,
    schema: String,
    connections: usize,
    retention: Duration,
    notifies: bool,
}

impl PostgresBackend {
    /// A database by its URL, `postgres://user:password@host:port/database`. The URL's parameters are those of
    /// `tokio_postgres::Config`, three of this backend, `schema`, `connections` and `notifications` (`true` or `false`), as the
    /// methods of these names set them, and two that say how connections are encrypted, as they do for `psql`. They need the
    /// feature `postgres-tls`; without it, connections are made without TLS.
    ///
    /// | `sslmode` | encrypted | the server's certificate |
    /// | --- | --- | --- |
    /// | `disable` | no | |
    /// | `prefer`, the default | if the server can | not checked |
    /// | `require` | yes | not checked, unless there is a `sslrootcert`; then as `verify-ca` |
    /// | `verify-ca` | yes | made by an authority that is trusted |
    /// | `verify-full` | yes | the same, and for the host's name |
    ///
    /// `sslrootcert` is the path of a file in PEM with the authorities to trust. Without it, they are the system's.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`url`) if it is not such a URL, names a file that cannot be read, or demands TLS in a program
    /// without the feature `postgres-tls`. [`with_tls`](Self::with_tls) takes a connector of the application's choice.
    pub fn from_url(url: &str) -> Result<Self> {
        let (url, own) = own_parameters(url)?;
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            let reason = reason.unwrap_or_else(|| error.to_string());
            Error::invalid_argument(
                "url",
                format!("it is not the URL of a PostgreSQL database: {reason}"),
            )
        })?;
        let value = |wanted: &str| {
            let last = own.iter().rfind(|(name, _)| name == wanted);
            last.map(|(_, value)| value.as_str())
        };
        let connect = tls::connect(&mut config, value("sslmode"), value("sslrootcert"))?;
        let mut backend = Self::over(config, connect);
        for (name, value) in own {
            backend = match name.as_str() {
                "sslmode" | "sslrootcert" => backend,
                "schema" => backend.schema(value),
                "notifications" => backend.notifications(value.parse().map_err(|_| {
                    let problem = format!("notifications={value} is neither true nor false");
                    Error::invalid_argument("url", problem)
                })?),
                _ => backend.connections(value.parse().map_err(|_| {
                    Error::invalid_argument("url", format!("connections={value} is not a number"))
                })?),
            };
        }
        Ok(backend)
    }

    /// A database by the client's own configuration, without TLS.
    pub fn new(config: Config) -> Self {
        Self::with_tls(config, NoTls)
    }

    /// A database by the client's own configuration, over connections that `tls` makes. The configuration's `ssl_mode` says
    /// whether they have to be encrypted.
    pub fn with_tls<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
    {
        Self::over(config, Connect::with(tls))
    }

    fn over(config: Config, connect: Connect) -> Self {
        Self {
            config,
            connect,
            schema: DEFAULT_SCHEMA.to_owned(),
            connections: DEFAULT_CONNECTIONS,
            retention: DEFAULT_RETENTION,
            notifies: false,
        }
    }

    /// Names the schema (default `catchment`). Deployments in different schemas have nothing in common.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Sets how many connections this process opens at most (default 4, at least 1). They are shared, and a call needs one
    /// only as long as its statement runs.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how long a run is kept after it was last written to (default 30 days). Dead letters are kept until they are
    /// redriven or discarded.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Sets whether processes send each other word of messages and of the ends of runs by `NOTIFY` (default false). Without
    /// it, a process that has been idle for ten seconds or more finds a message within a second and a half; with it, at
    /// once.
    ///
    /// A notification takes a lock on the whole database while its transaction commits, so a process sends at most ten per
    /// second, on the channel of the schema's name. A process that waits for something keeps one more connection, which
    /// listens: a pooler has to leave it its session. Processes of a deployment may differ in this setting.
    pub fn notifications(mut self, on: bool) -> Self {
        self.notifies = on;
        self
    }

    /// Every statement that [`provision`](crate::Deployment::provision) runs in an empty database, for review.
    pub fn migrations(&self) -> String {
        schema::script(&self.database(), &self.schema, 0)
    }

    /// The statements that [`provision`](crate::Deployment::provision) would run in the database as it is now: empty if
    /// there are none. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Backend`] if the database cannot be reached or refuses the look.
    pub async fn missing_migrations(&self) -> Result<String> {
        let database = self.database();
        let present = schema::version(&database).await?;
        Ok(schema::script(&database, &self.schema, present))
    }

    fn database(&self) -> Database {
        Database::new(
            self.config.clone(),
            self.connect.clone(),
            &self.schema,
            self.connections,
            Notices::new(&self.schema, self.notifies),
        )
    }

    /// The two parts, over the same connections: for a backend with other queues or another scratchpad.
    pub fn parts(self) -> (PostgresQueues, PostgresScratchpad) {
        let (queues, scratchpad, ..) = self.all_parts();
        (queues, scratchpad)
    }

    /// The same, with the outbox and the count of their statements.
    pub(crate) fn all_parts(
        self,
    ) -> (PostgresQueues, PostgresScratchpad, PostgresOutbox, Requests) {
        let database = Arc::new(self.database());
        let requests = database.requests.clone();
        let schema: Arc<str> = self.schema.into();
        let queues = PostgresQueues::new(Arc::clone(&database), Arc::clone(&schema));
        let outbox = PostgresOutbox::new(Arc::clone(&database), queues.clone());
        let scratchpad = PostgresScratchpad::new(database, schema, self.retention);
        (queues, scratchpad, outbox, requests)
    }
}

/// Without the password.
impl std::fmt::Debug for PostgresBackend {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PostgresBackend")
            .field("database", &self.database())
            .field("connections", &self.connections)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

/// The URL without this backend's own parameters, and those.
fn own_parameters(url: &str) -> Result<(String, Vec<(String, String)>)> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), Vec::new()));
    };
    let mut others = Vec::new();
    let mut own = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((
                name @ ("schema" | "connections" | "notifications" | "sslmode" | "sslrootcert"),
                value,
            )) => {
                if value.is_empty() || value.contains('%') {
                    let problem = format!("{name}={value}: a plain name, number or path is needed");
                    return Err(Error::invalid_argument("url", problem));
                }
                own.push((name.to_owned(), value.to_owned()));
            }
            _ => others.push(pair),
        }
    }
    let url = match others.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{}", others.join("&")),
    };
    Ok((url, own))
}
