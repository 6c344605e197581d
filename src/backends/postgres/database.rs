//! A handful of connections that all callers share, and the one way to run a statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Mutex;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row};

use super::connect::{Connect, Driver};
use super::errors::{ends_connection, failed};
use super::notices::Notices;
use crate::core::backoff::Backoff;
use crate::core::error::{Error, Result, describe};
use crate::core::requests::Requests;
use crate::core::retry::{Policy, retry};

/// Connections unless the application sets another number.
pub(super) const DEFAULT_CONNECTIONS: usize = 4;
/// How long making a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// How long a statement may take before its connection is given up: a server that has vanished answers nothing, and no
/// statement of this backend works for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// A server that restarts is away for a second or two. Callers that can wait longer repeat the call themselves.
const REPEATS: Policy = Policy::times(6).with_backoff(Backoff::exponential(
    Duration::from_millis(100),
    Duration::from_secs(2),
));

/// A parameter of a statement, with its type: statements are never prepared, so that the server need not be asked for it,
/// and a pooler may give each statement another connection.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// The database, its schema, and the connections to it.
pub(super) struct Database {
    config: Config,
    connect: Connect,
    /// Quoted, followed by a dot.
    schema: String,
    /// Where it is, for error messages: no password.
    pub(super) place: String,
    slots: Vec<Slot>,
    pub(super) requests: Requests,
    pub(super) notices: Notices,
}

/// A connection, or the place of one that is made when it is needed.
#[derive(Default)]
struct Slot {
    client: Mutex<Option<Arc<Client>>>,
    /// Statements that wait for their answer.
    waiting: AtomicUsize,
}

/// A statement under way.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Database {
    pub(super) fn new(
        config: Config,
        connect: Connect,
        schema: &str,
        connections: usize,
        notices: Notices,
    ) -> Self {
        Self {
            place: place(&config),
            config,
            connect,
            schema: format!("{}.", quoted(schema)),
            slots: (0..connections.max(1)).map(|_| Slot::default()).collect(),
            requests: Requests::new(),
            notices,
        }
    }

    /// The text of a statement, with this schema for each `@.` in it.
    pub(super) fn text(&self, statement: &str) -> String {
        statement.replace("@.", &self.schema)
    }

    /// Runs a statement that may be repeated, until it succeeds or a second or two have passed. `operation` names it in
    /// errors.
    pub(super) async fn query(
        &self,
        operation: &str,
        statement: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let text = self.text(statement);
        self.requests.count(operation);
        retry(operation, REPEATS, || {
            self.query_once(operation, &text, params)
        })
        .await
    }

    /// The statement's only row, if it has one.
    pub(super) async fn query_opt(
        &self,
        operation: &str,
        statement: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>> {
        let mut rows = self.query(operation, statement, params).await?;
        Ok(rows.pop())
    }

    async fn query_once(
        &self,
        operation: &str,
        text: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let slot = self.idlest();
        slot.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&slot.waiting);
        let client = self.client(slot, operation).await?;
        let answer = tokio::time::timeout(ANSWER_WITHIN, client.query_typed(text, params)).await;
        match answer {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                if error.is_closed() || ends_connection(&error) {
                    slot.forget(&client).await;
                }
                Err(failed(operation, &self.place, error))
            }
            Err(_) => {
                slot.forget(&client).await;
                let problem = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
                Err(Error::unavailable(
                    super::errors::SERVICE,
                    format!("{operation} at {}", self.place),
                    problem,
                ))
            }
        }
    }

    /// The connection with the fewest statements under way; the first of equal ones, so that an idle program has one
    /// connection.
    #[expect(clippy::expect_used, reason = "there is at least one slot")]
    fn idlest(&self) -> &Slot {
        let load = |slot: &&Slot| slot.waiting.load(Ordering::Relaxed);
        self.slots
            .iter()
            .min_by_key(load)
            .expect("at least one slot")
    }

    async fn client(&self, slot: &Slot, operation: &str) -> Result<Arc<Client>> {
        let mut place = slot.client.lock().await;
        if let Some(client) = place.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.dial(operation).await?);
        *place = Some(Arc::clone(&client));
        Ok(client)
    }

    /// A connection of the caller's own, for a transaction. It is closed when it is dropped.
    pub(super) async fn dial(&self, operation: &str) -> Result<Client> {
        let (client, mut driver) = self.connect(operation).await?;
        let place = self.place.clone();
        tokio::spawn(async move {
            while let Some(message) = driver.next().await {
                if let Err(error) = message {
                    let error = failed("a connection", &place, error);
                    tracing::info!(error = %describe(&error), "a connection has ended");
                    return;
                }
            }
        });
        Ok(client)
    }

    /// A connection of the caller's own, which the caller drives.
    pub(super) async fn connect(&self, operation: &str) -> Result<(Client, Driver)> {
        let connecting = self.connect.connect(&self.config);
        let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
        match connected {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => Err(failed(operation, &self.place, error)),
            Err(_) => {
                let operation = format!("{operation} at {}", self.place);
                let problem = format!("no connection within {} s", CONNECT_WITHIN.as_secs());
                Err(Error::unavailable(
                    super::errors::SERVICE,
                    operation,
                    problem,
                ))
            }
        }
    }
}

impl Slot {
    /// Lets the next caller make another connection in the place of this one.
    async fn forget(&self, client: &Arc<Client>) {
        let mut place = self.client.lock().await;
        if place
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, client))
        {
            *place = None;
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let schema = self.schema.trim_end_matches('.');
        write!(formatter, "{}, schema {schema}", self.place)
    }
}

/// An SQL identifier in double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Hosts, ports and the database's name.
fn place(config: &Config) -> String {
    use tokio_postgres::config::Host;

    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let host = match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        match ports.get(index).or_else(|| ports.first()) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    });
    let hosts: Vec<String> = hosts.collect();
    let database = config.get_dbname().or_else(|| config.get_user());
    format!("{}/{}", hosts.join(","), database.unwrap_or_default())
}
