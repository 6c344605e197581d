//! A scratchpad over Amazon DynamoDB.

mod attempts;
mod beginnings;
mod failure_list;
mod failures;
pub(crate) mod groups;
mod item;
mod limits;
pub(crate) mod provision;
mod run_list;
pub(crate) mod runs;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::retry::ProvideErrorKind;
use aws_types::SdkConfig;
use bytes::Bytes;

use self::item::{Item, Terms};
use super::aws::{self, CountRequests};
use crate::core::backoff::Backoff;
use crate::core::error::{Error, Oversized, Result};
use crate::core::provision::Change;
use crate::core::requests::Requests;
use crate::core::retry::Policy;
use crate::scratchpad::Scratchpad;

const SERVICE: &str = "DynamoDB";
/// The service's limit of an item, 400 KB, less what keys and the other attributes take at most.
const MAX_VALUE: usize = 400 * 1024 - 4 * 1024;
/// How long items are kept after they were last written, unless set otherwise.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A day more than a queue may keep a message: a late duplicate has to find its slot taken.
const LEAST_RETENTION: Duration = Duration::from_secs(15 * 24 * 60 * 60);
/// How much longer the record of a run is kept than its tree. A late duplicate may write to the tree for 14 days after
/// the run's last write, and the service may take some days to remove what has expired: were the record gone first, a
/// run that is submitted under the same id again would find its slots taken.
const RECORD_LONGER: Duration = Duration::from_secs(21 * 24 * 60 * 60);
/// Between tries of what the service could not do at the moment.
const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5));
/// Requests in a row that get nothing done, before a call returns an error that may pass: about half a minute. A call that
/// gets on, however slowly, goes on for as long as it takes.
const ROUNDS: u32 = 15;
const RETRY: Policy = Policy::times(ROUNDS).with_backoff(BACKOFF);
/// Requests under way at once for one call.
const SIDE_BY_SIDE: usize = 16;

/// A scratchpad over two tables of Amazon DynamoDB. Cloning it gives another handle on the same client and its
/// connections.
///
/// A deployment has its own tables, `{deployment}-scratchpad` and `{deployment}-results`, which
/// [`Deployment::provision`](crate::Deployment::provision) makes, billed by request. In the first each group of the tree is a
/// partition, `{array}#{generation}#{stage}#{level}#{group}` (followed by `#p{partition}` in a [partition](crate::scratchpad::GroupId::partition) other
/// than 0), so that no key is hot; the second has an item for each run.
/// Values are stored as text where they are text, so that any tool shows them.
///
/// Items expire 30 days after they were last written: longer than a queue keeps a message, so that a late
/// duplicate finds its slot taken. A run's record and result are kept for 21 days more, so that an id which is used again
/// finds nothing of its first run. A run that takes longer than that from one write to a group to the next loses
/// what has expired: set a longer [`retention`](Self::retention) for it.
///
/// Runs are [listed](crate::scratchpad::Runs::list_runs) by a global secondary index on the table of results, named `runs`,
/// which may be some seconds behind. An index is added to an existing table by provisioning it again; until then a list is
/// [`Error::NotProvisioned`], and runs that began before are not in it. A page costs 4 queries for runs of one state
/// and 12 for those of all states, each of at most two entries more than the page's limit; a state that a run can leave
/// again (open, running, failed) is looked for among up to 100 entries per query, or the limit if that is more. Whether a
/// run with failures has dead letters costs one query more.
///
/// Requests are strongly consistent wherever the protocol reads what another has written. A partial result or a result
/// of more than about 396 KiB is refused with [`Error::TooLarge`].
#[derive(Clone)]
pub struct DynamoDbScratchpad {
    client: Client,
    requests: Requests,
    place: String,
    /// Whether the tables' names were given, rather than following from the deployment's.
    is_named: bool,
    tables: Arc<Tables>,
    retention: Duration,
}

/// The names of a deployment's tables.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) scratchpad: String,
    pub(crate) results: String,
}

impl Tables {
    fn of(deployment: &str) -> Self {
        Self {
            scratchpad: format!("{deployment}-scratchpad"),
            results: format!("{deployment}-results"),
        }
    }
}

impl std::fmt::Debug for DynamoDbScratchpad {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DynamoDbScratchpad")
            .field("place", &self.place)
            .field("tables", &self.tables)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

impl DynamoDbScratchpad {
    /// A scratchpad in the account and region of this configuration.
    pub fn new(config: &SdkConfig) -> Self {
        Self::counting(config, Requests::new())
    }

    /// The same, adding to counts that others add to as well.
    pub(crate) fn counting(config: &SdkConfig, requests: Requests) -> Self {
        let settings = aws_sdk_dynamodb::config::Builder::from(config)
            .timeout_config(aws::timeouts(config))
            .interceptor(CountRequests(requests.clone()))
            .build();
        Self {
            client: Client::from_conf(settings),
            requests,
            place: aws::place(config, "DynamoDB"),
            is_named: false,
            tables: Arc::new(Tables::of("catchment")),
            retention: RETENTION,
        }
    }

    /// The same with other names for its tables, of the scratchpad and of the results. Two deployments should not share
    /// tables: an id that one has used is refused to the other, and a list of runs has those of both.
    #[must_use]
    pub fn tables(mut self, scratchpad: impl Into<String>, results: impl Into<String>) -> Self {
        self.is_named = true;
        self.tables = Arc::new(Tables {
            scratchpad: scratchpad.into(),
            results: results.into(),
        });
        self
    }

    /// The same with another time for which items are kept after they were last written (default 30 days, at least
    /// 15: a queue may deliver a duplicate after 14). A deployment over a scratchpad with a shorter one is refused.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// The requests made through this client so far.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// The tables of a deployment: those that were named, or its own.
    pub(crate) fn tables_of(&self, deployment: &str) -> Arc<Tables> {
        match self.is_named {
            true => Arc::clone(&self.tables),
            false => Arc::new(Tables::of(deployment)),
        }
    }

    /// When what is written to the scratchpad's table now expires, as the service wants it: in seconds since 1970.
    fn expires_at(&self) -> AttributeValue {
        seconds_from_now(self.retention)
    }

    /// When what is written to the table of results now expires.
    fn record_expires_at(&self) -> AttributeValue {
        seconds_from_now(self.retention.saturating_add(RECORD_LONGER))
    }

    /// A strongly consistent look at one item.
    async fn get(&self, table: &str, key: Item) -> Result<Option<Item>> {
        let asked = self.client.get_item().table_name(table);
        let asked = asked.set_key(Some(key)).consistent_read(true);
        let found = asked.send().await;
        let found = found.map_err(|error| self.failed("GetItem", table, error))?;
        Ok(found.item)
    }

    /// An update of one item, to be sent.
    fn update(
        &self,
        table: &str,
        key: Item,
        expression: String,
        terms: Terms,
    ) -> UpdateItemFluentBuilder {
        let (names, values) = terms.into_parts();
        self.client
            .update_item()
            .table_name(table)
            .set_key(Some(key))
            .update_expression(expression)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
    }

    fn failed<E>(&self, operation: &str, table: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + ProvideErrorKind + std::error::Error + Send + Sync + 'static,
    {
        if aws::code(&error) == Some("ResourceNotFoundException") {
            return Error::NotProvisioned {
                resource: format!("DynamoDB table `{table}`"),
                place: self.place.clone(),
            };
        }
        let operation = format!("{operation} on table `{table}`");
        aws::failed(SERVICE, operation, error, &self.place, &self.requests)
    }

    /// What the service has not begun, in request after request.
    fn unprocessed(&self, operation: &str, table: &str, left: usize) -> Error {
        let operation = format!("{operation} on table `{table}`");
        let problem = format!("{left} entries were left unprocessed {ROUNDS} times");
        Error::unavailable(SERVICE, operation, problem)
    }

    fn malformed(&self, what: &str, table: &str, error: impl Into<crate::BoxError>) -> Error {
        aws::malformed(SERVICE, format!("{what} of table `{table}`"), error)
    }
}

fn seconds_from_now(time: Duration) -> AttributeValue {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    item::number(now.unwrap_or_default().saturating_add(time).as_secs())
}

/// Whether a write was refused by its own condition.
fn is_condition<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    aws::code(error) == Some("ConditionalCheckFailedException")
}

/// Whether a write was refused because its item would be too large.
fn is_size<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let message = error.as_service_error().and_then(|error| error.message());
    aws::code(error) == Some("ValidationException")
        && message.is_some_and(|message| message.to_ascii_lowercase().contains("size"))
}

/// A value that the table cannot hold is refused before anything is written.
fn check_size(what: impl FnOnce() -> String, value: &Bytes) -> Result<()> {
    // Text is stored as such, other bytes as they are: neither grows.
    if value.len() <= MAX_VALUE {
        return Ok(());
    }
    Err(Error::too_large(
        Oversized::Value,
        what(),
        value.len(),
        MAX_VALUE,
    ))
}

#[async_trait]
impl Scratchpad for DynamoDbScratchpad {
    fn bind(&self, deployment: &str) -> Option<Arc<dyn Scratchpad>> {
        if self.is_named {
            return None;
        }
        Some(Arc::new(Self {
            tables: self.tables_of(deployment),
            ..self.clone()
        }))
    }

    fn check(&self) -> Result<()> {
        limits::check(&self.tables, self.retention)
    }

    async fn provision(&self) -> Result<Vec<Change>> {
        self.check()?;
        provision::provision(self).await
    }

    async fn deprovision(&self) -> Result<Vec<Change>> {
        provision::deprovision(self).await
    }
}
