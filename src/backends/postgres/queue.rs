//! Queues: rows of two tables, claimed in batches.

mod dead_letters;
mod front;
mod named;
mod receipts;
mod vacuum;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::FutureExt;
use tokio_postgres::types::Type;

use self::front::{Bound, Front};
use self::named::PostgresQueue;
use self::vacuum::Vacuum;
use super::database::{Database, Param};
use super::outbox::Outboxes;
use super::schema;
use super::watch::Watch;
use crate::core::error::{Error, Result};
use crate::core::provision::Change;
use crate::queue::{Queue, QueueOptions, Queues};

/// Queues in a PostgreSQL database. Cloning it gives another handle on the same connections.
///
/// - **Names** are those of the contract; a queue and its dead letters are one row of the table `queues`.
/// - **Visibility timeouts** are kept by the server's clock, to the microsecond, and belong to the handle.
/// - **Receipts** name a message and its delivery: only the last delivery's counts. A released message's receipt is stale.
/// - **Depth** counts the queue's rows.
/// - **Messages** have at most 16 MiB, attributes included.
#[derive(Clone)]
pub struct PostgresQueues {
    shared: Arc<Shared>,
}

/// What all queues of one backend share.
struct Shared {
    database: Arc<Database>,
    schema: Arc<str>,
    /// The schema has been found to be one that this library knows.
    is_checked: AtomicBool,
    /// By the queue's id, or the key of an outbox.
    watch: Watch<i32>,
    /// By the queue's id.
    fronts: Arc<Fronts>,
    vacuum: Arc<Vacuum>,
    outboxes: Arc<Outboxes>,
}

#[derive(Default)]
struct Fronts(Mutex<HashMap<i32, Arc<Front>>>);

impl Fronts {
    fn of(&self, queue: i32) -> Arc<Front> {
        let mut fronts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fronts.entry(queue).or_default())
    }
}

impl PostgresQueues {
    pub(super) fn new(database: Arc<Database>, schema: Arc<str>) -> Self {
        let fronts = Arc::new(Fronts::default());
        let vacuum = Arc::new(Vacuum::new(Arc::clone(&schema)));
        let outboxes = Arc::new(Outboxes::default());
        let watch = {
            let (of, fronts) = (Arc::clone(&database), Arc::clone(&fronts));
            let (vacuum, outboxes) = (Arc::clone(&vacuum), Arc::clone(&outboxes));
            Watch::new(database.notices.word(), move |keys| {
                let (database, fronts) = (Arc::clone(&of), Arc::clone(&fronts));
                let (vacuum, outboxes) = (Arc::clone(&vacuum), Arc::clone(&outboxes));
                async move {
                    database.notices.listen(&database);
                    let found = due(&database, &fronts, &outboxes, keys).await?;
                    if found.is_empty() {
                        vacuum.is_idle(&database);
                    }
                    Ok(found)
                }
                .boxed()
            })
        };
        Self {
            shared: Arc::new(Shared {
                database,
                schema,
                is_checked: AtomicBool::new(false),
                watch,
                fronts,
                vacuum,
                outboxes,
            }),
        }
    }

    /// The key by which the outbox of a deployment is watched, in the same poll as all queues.
    pub(super) fn outbox_key(&self, deployment: &str) -> i32 {
        self.shared.outboxes.key(deployment)
    }

    pub(super) fn watch(&self) -> &Watch<i32> {
        &self.shared.watch
    }
}

/// The queues that have a message to receive, and the outboxes with a submission to claim.
async fn due(
    database: &Database,
    fronts: &Fronts,
    outboxes: &Outboxes,
    keys: Vec<i32>,
) -> Result<Vec<i32>> {
    const DUE: &str = "SELECT w.queue FROM unnest($1, $2) AS w (queue, low), LATERAL (
        SELECT FROM @.messages m
        WHERE m.queue = w.queue AND m.visible_at <= now() AND m.visible_at >= w.low LIMIT 1
    ) AS found";
    let (queues, watched) = outboxes.split(keys);
    let (outboxes, deployments): (Vec<i32>, Vec<&str>) =
        watched.iter().map(|(key, name)| (*key, &**name)).unzip();
    let fronts: Vec<Arc<Front>> = queues.iter().map(|queue| fronts.of(*queue)).collect();
    let bounds: Vec<Bound> = fronts.iter().map(|front| front.bound()).collect();
    let lows: Vec<SystemTime> = bounds.iter().map(|bound| bound.low).collect();
    let mut statement = DUE.to_owned();
    let mut params: Vec<Param<'_>> = vec![
        (&queues, Type::INT4_ARRAY),
        (&lows, Type::TIMESTAMPTZ_ARRAY),
    ];
    if !outboxes.is_empty() {
        statement.push_str(super::outbox::DUE);
        params.push((&outboxes, Type::INT4_ARRAY));
        params.push((&deployments, Type::TEXT_ARRAY));
    }
    let begin = tokio::time::Instant::now();
    let rows = database.query("polling", &statement, &params).await?;
    let found: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    for ((queue, front), bound) in queues.iter().zip(fronts).zip(&bounds) {
        front.looked(bound, begin.elapsed());
        if found.contains(queue) {
            front.found(bound);
        }
    }
    Ok(found)
}

impl std::fmt::Debug for PostgresQueues {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PostgresQueues")
            .field("database", &self.shared.database)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Queues for PostgresQueues {
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        let database = &self.shared.database;
        if !self.shared.is_checked.load(Ordering::Relaxed) {
            schema::check(database).await?;
            self.shared.is_checked.store(true, Ordering::Relaxed);
        }
        const FIND: &str = "SELECT id FROM @.queues WHERE name = $1";
        let params = [(&name as _, Type::TEXT)];
        let found = database.query_opt("opening a queue", FIND, &params);
        let Some(row) = found.await? else {
            return Err(self.shared.missing(name));
        };
        let id = row.get(0);
        Ok(Arc::new(PostgresQueue {
            shared: Arc::clone(&self.shared),
            id,
            name: name.to_owned(),
            visibility_timeout: options.visibility_timeout,
            front: self.shared.fronts.of(id),
        }))
    }

    async fn provision(&self, name: &str, options: &QueueOptions) -> Result<Vec<Change>> {
        self.check(name, options)?;
        let database = &self.shared.database;
        let schema = schema::provision(database, &self.shared.schema).await?;
        const MAKE: &str =
            "INSERT INTO @.queues (name) SELECT $1 WHERE NOT EXISTS (SELECT FROM @.queues WHERE name = $1)
             ON CONFLICT DO NOTHING RETURNING id";
        let params = [(&name as _, Type::TEXT)];
        let made = database.query_opt("provisioning a queue", MAKE, &params);
        let queue = format!("PostgreSQL queue {name}");
        let queue = match made.await? {
            Some(_) => Change::created(queue),
            None => Change::unchanged(queue),
        };
        Ok(vec![schema, queue])
    }

    async fn deprovision(&self, name: &str) -> Result<Vec<Change>> {
        const REMOVE: &str = "WITH gone AS (DELETE FROM @.queues WHERE name = $1 RETURNING id),
            messages AS (DELETE FROM @.messages m USING gone WHERE m.queue = gone.id RETURNING m.id),
            bodies AS (DELETE FROM @.bodies b USING messages WHERE b.id = messages.id),
            letters AS (DELETE FROM @.dead_letters d USING gone WHERE d.queue = gone.id)
            SELECT id FROM gone";
        let queue = format!("PostgreSQL queue {name}");
        let database = &self.shared.database;
        let params = [(&name as _, Type::TEXT)];
        let removed = database.query_opt("removing a queue", REMOVE, &params);
        match removed.await {
            Ok(Some(_)) => Ok(vec![Change::deleted(queue)]),
            // Without its tables there is no queue either.
            Ok(None) | Err(Error::NotProvisioned { .. }) => Ok(vec![Change::unchanged(queue)]),
            Err(error) => Err(error),
        }
    }
}

impl Shared {
    /// There are messages to receive: this process knows it at once, and others if they are sent word.
    fn tell(&self, queue: i32) {
        self.watch.tell(&queue);
        self.database.notices.send(&self.database);
    }

    fn missing(&self, name: &str) -> Error {
        Error::not_provisioned(
            format!("queue `{name}`"),
            format!("PostgreSQL at {:?}", self.database),
        )
    }
}

/// For `make_interval`: no longer than a timestamp can bear.
fn seconds(duration: Duration) -> f64 {
    const CENTURY: f64 = 100.0 * 365.0 * 24.0 * 3_600.0;
    duration.as_secs_f64().min(CENTURY)
}
