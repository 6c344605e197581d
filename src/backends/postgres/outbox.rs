//! The outbox: a table into which applications write submissions inside their own transactions.
//!
//! A lease belongs to an id and not to a submission. It is a row under a unique key, so that a worker that takes up one submission
//! of an id keeps all others from taking up another one, whatever their statements have seen of the table.

mod insert;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

pub(crate) use self::insert::NewPart;
pub use self::insert::OutboxInsert;
use super::database::Database;
use super::errors::failed;
use super::queue::PostgresQueues;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::provision::Change;
use crate::outbox::{Entry, Outbox, Part, Pending};

/// How long a process that has been killed keeps others from its submissions.
const LEASE: Duration = Duration::from_secs(15);
/// Several of these are in a lease, so that one late answer does not end it.
const KEEP_EVERY: Duration = Duration::from_secs(4);

/// The rest of a poll, which asks for the outboxes `$3` of the deployments `$4`: those with a submission to claim.
pub(super) const DUE: &str = "
    UNION ALL SELECT w.outbox FROM unnest($3, $4) AS w (outbox, deployment) WHERE EXISTS (
        SELECT FROM @.outbox o
        WHERE o.deployment = w.deployment AND o.last AND o.error IS NULL AND NOT EXISTS (
            SELECT FROM @.outbox_leases l
            WHERE l.deployment = o.deployment AND l.id = o.id AND l.until > now()
        )
    )";

/// The deployments whose outboxes are watched, by keys that no queue has.
#[derive(Default)]
pub(super) struct Outboxes(Mutex<Vec<Arc<str>>>);

impl Outboxes {
    pub(super) fn key(&self, deployment: &str) -> i32 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().position(|name| &**name == deployment);
        let place = place.unwrap_or_else(|| {
            known.push(deployment.into());
            known.len() - 1
        });
        i32::try_from(place).map_or(i32::MIN, |place| -1 - place)
    }

    /// Keys of queues, and those of outboxes with their deployments.
    pub(super) fn split(&self, keys: Vec<i32>) -> (Vec<i32>, Vec<(i32, Arc<str>)>) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (queues, outboxes): (Vec<i32>, Vec<i32>) = keys.into_iter().partition(|key| *key >= 0);
        let name = |key: i32| known.get(usize::try_from(-1 - key).ok()?).cloned();
        let outboxes = outboxes.into_iter();
        let named = outboxes.filter_map(|key| Some((key, name(key)?)));
        (queues, named.collect())
    }
}

/// The outbox of one deployment.
#[derive(Clone)]
pub(crate) struct PostgresOutbox {
    database: Arc<Database>,
    /// Whose poll asks for submissions too, so that an idle process does with one statement.
    queues: PostgresQueues,
    deployment: Arc<str>,
    /// Whose leases they are: another value for each deployment of each process.
    holder: Arc<str>,
}

impl PostgresOutbox {
    pub(super) fn new(database: Arc<Database>, queues: PostgresQueues) -> Self {
        Self {
            database,
            queues,
            deployment: "".into(),
            holder: "".into(),
        }
    }

    pub(crate) fn bind(&self, deployment: &str) -> Self {
        Self {
            deployment: deployment.into(),
            holder: Uuid::new_v4().to_string().into(),
            ..self.clone()
        }
    }

    /// The statement that writes a part of a submission.
    pub(crate) fn insert(&self, part: NewPart<'_>) -> OutboxInsert {
        OutboxInsert::new(&self.database, &self.deployment, part)
    }

    /// Runs such a statement on a connection of the application's.
    pub(crate) async fn run(
        &self,
        client: &impl GenericClient,
        insert: &OutboxInsert,
    ) -> Result<()> {
        let params: Vec<_> = insert
            .params()
            .iter()
            .map(|value| (value as _, Type::TEXT))
            .collect();
        let written = client.query_typed(insert.text(), &params).await;
        written
            .map(drop)
            .map_err(|error| failed("writing to the outbox", &self.database.place, error))
    }

    /// A submission was written, or will be in a moment.
    pub(crate) fn expect(&self) {
        self.queues.watch().is_active();
    }

    async fn query(
        &self,
        operation: &str,
        statement: &str,
        others: &[super::database::Param<'_>],
    ) -> Result<Vec<Row>> {
        let deployment = &*self.deployment;
        let mut params: Vec<super::database::Param<'_>> = vec![(&deployment as _, Type::TEXT)];
        params.extend_from_slice(others);
        self.database.query(operation, statement, &params).await
    }
}

#[async_trait]
impl Outbox for PostgresOutbox {
    fn handle(&self) -> Arc<dyn Outbox> {
        Arc::new(self.bind(&self.deployment))
    }

    async fn news(&self, up_to: Duration) {
        let key = self.queues.outbox_key(&self.deployment);
        let interest = self.queues.watch().interest(key);
        let news = interest.news.notified();
        tokio::pin!(news);
        news.as_mut().enable();
        let _sleeping = interest.poll();
        let _ = tokio::time::timeout(up_to, news).await;
    }

    async fn claim(&self, most: usize) -> Result<Vec<Entry>> {
        const CLAIM: &str = "WITH due AS MATERIALIZED (
                SELECT o.id FROM @.outbox o
                WHERE o.deployment = $1 AND o.last AND o.error IS NULL AND NOT EXISTS (
                    SELECT FROM @.outbox_leases l
                    WHERE l.deployment = $1 AND l.id = o.id AND l.until > now()
                )
                ORDER BY o.number LIMIT $2
            ),
            leases AS (
                INSERT INTO @.outbox_leases AS l (deployment, id, holder, until)
                SELECT $1, d.id, $3, now() + make_interval(secs => $4) FROM (SELECT DISTINCT id FROM due) AS d ORDER BY d.id
                ON CONFLICT (deployment, id) DO UPDATE SET holder = excluded.holder, until = excluded.until
                WHERE l.until <= now()
                RETURNING l.id
            ),
            oldest AS (
                SELECT DISTINCT ON (o.id) o.id, o.submission, o.part
                FROM leases JOIN @.outbox o ON o.deployment = $1 AND o.id = leases.id
                WHERE o.last AND o.error IS NULL
                ORDER BY o.id, o.number
            )
            SELECT f.id, f.submission::text, f.part, count(*), sum(o.length)::bigint
            FROM oldest f JOIN @.outbox o ON o.submission = f.submission AND o.deployment = $1 AND o.id = f.id
            GROUP BY f.id, f.submission, f.part";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let (holder, lease) = (&*self.holder, LEASE.as_secs_f64());
        let params = [
            (&most as _, Type::INT8),
            (&holder as _, Type::TEXT),
            (&lease as _, Type::FLOAT8),
        ];
        let rows = self.query("claiming from the outbox", CLAIM, &params);
        let rows = rows.await?;
        if !rows.is_empty() {
            self.queues.watch().is_active();
        }
        let count = |number: i64| u32::try_from(number).unwrap_or(0);
        let entries = rows.iter().map(|row| Entry {
            run: RunId::from(row.get::<_, &str>(0)),
            submission: row.get(1),
            parts: count(i64::from(row.get::<_, i32>(2)) + 1),
            present: count(row.get(3)),
            items: u64::try_from(row.get::<_, i64>(4)).unwrap_or(0),
        });
        Ok(entries.collect())
    }

    fn keep_every(&self) -> Duration {
        KEEP_EVERY
    }

    async fn keep(&self) -> Result<()> {
        const KEEP: &str = "UPDATE @.outbox_leases SET until = now() + make_interval(secs => $3)
            WHERE deployment = $1 AND holder = $2";
        let (holder, lease) = (&*self.holder, LEASE.as_secs_f64());
        let params = [(&holder as _, Type::TEXT), (&lease as _, Type::FLOAT8)];
        self.query("keeping leases of the outbox", KEEP, &params)
            .await
            .map(drop)
    }

    async fn release(&self) -> Result<()> {
        const RELEASE: &str = "DELETE FROM @.outbox_leases WHERE deployment = $1 AND holder = $2";
        let holder = &*self.holder;
        let params = [(&holder as _, Type::TEXT)];
        self.query("releasing leases of the outbox", RELEASE, &params)
            .await
            .map(drop)
    }

    async fn part(&self, entry: &Entry, part: u32) -> Result<Option<Part>> {
        const PART: &str = "SELECT items::text, compact FROM @.outbox
            WHERE deployment = $1 AND submission = $2::uuid AND part = $3";
        let (submission, part) = (&*entry.submission, i32::try_from(part).unwrap_or(i32::MAX));
        let params = [(&submission as _, Type::TEXT), (&part as _, Type::INT4)];
        let rows = self.query("reading the outbox", PART, &params).await?;
        Ok(rows.first().map(|row| match row.get::<_, Option<&str>>(0) {
            Some(items) => Part::Json(Bytes::copy_from_slice(items.as_bytes())),
            None => Part::Compact(Bytes::copy_from_slice(row.get(1))),
        }))
    }

    async fn finish(&self, entry: &Entry) -> Result<()> {
        const FINISH: &str = "WITH gone AS (
                DELETE FROM @.outbox WHERE deployment = $1 AND submission = $4::uuid
            )
            DELETE FROM @.outbox_leases WHERE deployment = $1 AND id = $2 AND holder = $3";
        let (id, holder, submission) = (entry.run.as_str(), &*self.holder, &*entry.submission);
        let params = [
            (&id as _, Type::TEXT),
            (&holder as _, Type::TEXT),
            (&submission as _, Type::TEXT),
        ];
        self.query("finishing with the outbox", FINISH, &params)
            .await
            .map(drop)
    }

    async fn refuse(&self, entry: &Entry, problem: &str) -> Result<()> {
        const REFUSE: &str = "WITH refused AS (
                UPDATE @.outbox SET error = $5, failed_at = now()
                WHERE deployment = $1 AND submission = $4::uuid AND id = $2
            )
            DELETE FROM @.outbox_leases WHERE deployment = $1 AND id = $2 AND holder = $3";
        let (id, holder, submission) = (entry.run.as_str(), &*self.holder, &*entry.submission);
        // Which no text of the server may have.
        let problem = problem.replace('\0', "\u{fffd}");
        let params = [
            (&id as _, Type::TEXT),
            (&holder as _, Type::TEXT),
            (&submission as _, Type::TEXT),
            (&problem as _, Type::TEXT),
        ];
        self.query("refusing a submission of the outbox", REFUSE, &params)
            .await
            .map(drop)
    }

    async fn put_off(&self, entry: &Entry, by: Duration) -> Result<()> {
        // Without a holder, so that it is not extended.
        const PUT_OFF: &str =
            "UPDATE @.outbox_leases SET holder = '', until = now() + make_interval(secs => $4)
            WHERE deployment = $1 AND id = $2 AND holder = $3";
        let (id, holder, by) = (entry.run.as_str(), &*self.holder, by.as_secs_f64());
        let params = [
            (&id as _, Type::TEXT),
            (&holder as _, Type::TEXT),
            (&by as _, Type::FLOAT8),
        ];
        self.query("putting off a submission of the outbox", PUT_OFF, &params)
            .await
            .map(drop)
    }

    async fn find(&self, run: &RunId) -> Result<Pending> {
        // The oldest that waits; if there is none, the last that was refused.
        const FIND: &str = "SELECT o.error,
                (SELECT sum(p.length)::bigint FROM @.outbox p WHERE p.submission = o.submission)
            FROM @.outbox o
            WHERE o.deployment = $1 AND o.id = $2 AND o.last
            ORDER BY o.error IS NOT NULL, CASE WHEN o.error IS NULL THEN o.number ELSE -o.number END LIMIT 1";
        let id = run.as_str();
        let params = [(&id as _, Type::TEXT)];
        let rows = self.query("looking into the outbox", FIND, &params).await?;
        Ok(match rows.first() {
            None => Pending::Unknown,
            Some(row) => match row.get::<_, Option<String>>(0) {
                Some(problem) => Pending::Refused(problem),
                None => Pending::Waiting {
                    items: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
                },
            },
        })
    }

    async fn deprovision(&self) -> Result<Vec<Change>> {
        const REMOVE: &str =
            "WITH gone AS (DELETE FROM @.outbox WHERE deployment = $1 RETURNING 1),
            leases AS (DELETE FROM @.outbox_leases WHERE deployment = $1)
            SELECT count(*) FROM gone";
        let outbox = format!("PostgreSQL outbox of {}", self.deployment);
        match self.query("removing an outbox", REMOVE, &[]).await {
            Ok(rows) if rows.first().is_some_and(|row| row.get::<_, i64>(0) > 0) => {
                Ok(vec![Change::deleted(outbox)])
            }
            Ok(_) | Err(Error::NotProvisioned { .. }) => Ok(vec![Change::unchanged(outbox)]),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for PostgresOutbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PostgresOutbox")
            .field("database", &self.database)
            .field("deployment", &self.deployment)
            .finish_non_exhaustive()
    }
}
