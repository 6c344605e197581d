//! Runs: a row each.

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database::{Database, Param};
use super::failures::first_failure;
use super::scratchpad::{PostgresScratchpad, Watched};
use crate::core::clock::{after, floor};
use crate::core::error::{Error, Oversized, Result};
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::scratchpad::{
    Begun, Checkpoint, Cursor, Fingerprint, Page, RunFilter, RunOutline, RunRecord, RunSnapshot,
    RunSummary, Runs,
};

/// The largest value, a partial result or a run's result.
pub(super) const LARGEST_VALUE: usize = 256 * 1024 * 1024;

/// How far a run's submission is, and what is known of its end.
#[derive(Clone, Copy)]
struct Extent {
    sent: Option<Checkpoint>,
    array_length: Option<u64>,
    packets: Option<u64>,
}

/// Bit for bit: lengths beyond `i64::MAX` come back as they were.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn unsigned(number: Option<i64>) -> Option<u64> {
    number.map(i64::cast_unsigned)
}

impl PostgresScratchpad {
    /// The two parameters that name a run.
    pub(super) fn run_params<'a>(
        &'a self,
        run: &'a &'a str,
        deployment: &'a &'a str,
    ) -> Vec<Param<'a>> {
        vec![(deployment as _, Type::TEXT), (run as _, Type::TEXT)]
    }

    async fn extent(&self, run: &RunKey) -> Result<Option<Extent>> {
        const FIND: &str =
            "SELECT array_length, packets, sent_packets, sent_items, sent_fingerprint
            FROM @.runs WHERE deployment = $1 AND key = $2";
        let key = run.to_string();
        let (run, deployment) = (key.as_str(), &*self.deployment);
        let params = self.run_params(&run, &deployment);
        let row = self
            .database()
            .query_opt("reading a run", FIND, &params)
            .await?;
        row.map(|row| {
            Ok(Extent {
                array_length: unsigned(row.get(0)),
                packets: unsigned(row.get(1)),
                sent: checkpoint(&row, 2)?,
            })
        })
        .transpose()
    }

    /// Writes another extent, unless the run's has changed since it was read as `before`. Returns whether it was written.
    async fn write_extent(&self, run: &RunKey, before: &Extent, extent: &Extent) -> Result<bool> {
        const WRITE: &str = "UPDATE @.runs SET
                array_length = $3, packets = $4, sent_packets = $5, sent_items = $6, sent_fingerprint = $7,
                written_at = now()
            WHERE deployment = $1 AND key = $2
                AND array_length IS NOT DISTINCT FROM $8 AND packets IS NOT DISTINCT FROM $9
                AND sent_packets IS NOT DISTINCT FROM $10 AND sent_items IS NOT DISTINCT FROM $11
                AND sent_fingerprint IS NOT DISTINCT FROM $12
            RETURNING 1";
        let columns = |extent: &Extent| {
            (
                extent.array_length.map(signed),
                extent.packets.map(signed),
                extent.sent.map(|sent| signed(sent.packets)),
                extent.sent.map(|sent| signed(sent.items)),
                extent.sent.map(|sent| sent.fingerprint.to_string()),
            )
        };
        let key = run.to_string();
        let (run, deployment) = (key.as_str(), &*self.deployment);
        let (old, new) = (columns(before), columns(extent));
        let mut params = self.run_params(&run, &deployment);
        for columns in [&new, &old] {
            params.push((&columns.0, Type::INT8));
            params.push((&columns.1, Type::INT8));
            params.push((&columns.2, Type::INT8));
            params.push((&columns.3, Type::INT8));
            params.push((&columns.4, Type::TEXT));
        }
        let written = self
            .database()
            .query_opt("writing a checkpoint", WRITE, &params);
        Ok(written.await?.is_some())
    }

    /// Ends a run by one statement, which returns a row if the run is as it should be now.
    async fn end(
        &self,
        operation: &str,
        (run, name): (&RunId, &str),
        statement: &str,
        result: Option<&[u8]>,
    ) -> Result<bool> {
        let (id, deployment) = (name, &*self.deployment);
        let mut params = self.run_params(&id, &deployment);
        if let Some(result) = &result {
            params.push((result, Type::BYTEA));
        }
        let ended = self
            .database()
            .query_opt(operation, statement, &params)
            .await?
            .is_some();
        if ended {
            self.shared.watch.tell(&self.key(run));
            self.shared.database.notices.send(&self.shared.database);
            self.drop_tree(run).await;
        }
        Ok(ended)
    }
}

#[async_trait]
impl Runs for PostgresScratchpad {
    async fn begin(&self, record: &RunRecord) -> Result<Begun> {
        const BEGIN: &str =
            "INSERT INTO @.runs (deployment, id, record, created_ms, array_length, packets, generation)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (deployment, id) DO NOTHING RETURNING 1";
        self.sweep().await;
        let text = record.encode()?;
        let created = signed(floor(record.created_at));
        let generation = record.generation.to_string();
        let (length, packets) = (record.array_length.map(signed), record.packets.map(signed));
        let (run, deployment) = (record.run.as_str(), &*self.deployment);
        loop {
            let mut params = self.run_params(&run, &deployment);
            params.push((&text, Type::TEXT));
            params.push((&created, Type::INT8));
            params.push((&length, Type::INT8));
            params.push((&packets, Type::INT8));
            params.push((&generation, Type::TEXT));
            let begun = self.database().query_opt("beginning a run", BEGIN, &params);
            if begun.await?.is_some() {
                return Ok(Begun::New);
            }
            // None if it was removed in between.
            if let Some(snapshot) = self.status(&record.run).await? {
                return Ok(Begun::Existing(Box::new(snapshot)));
            }
        }
    }

    async fn checkpoint(&self, run: &RunKey, reached: &Checkpoint) -> Result<()> {
        loop {
            let Some(before) = self.extent(run).await? else {
                return Ok(());
            };
            match &before.sent {
                Some(recorded) if recorded.packets > reached.packets || recorded == reached => {
                    return Ok(());
                }
                Some(recorded) if recorded.packets == reached.packets => {
                    return Err(reached.differs(&run.id));
                }
                _ => {}
            }
            let extent = Extent {
                sent: Some(*reached),
                ..before
            };
            if self.write_extent(run, &before, &extent).await? {
                return Ok(());
            }
        }
    }

    async fn measure(&self, run: &RunKey, end: &Checkpoint) -> Result<()> {
        loop {
            let Some(before) = self.extent(run).await? else {
                return Err(Error::no_such_run(&run.id));
            };
            let sent = before.sent.map_or(0, |recorded| recorded.packets);
            let length = before.array_length.unwrap_or(end.items);
            let count = before.packets.unwrap_or(end.packets).max(sent);
            if (length, count) != (end.items, end.packets) {
                let problem = format!(
                    "{} items in {} packets, but {length} items in {count} packets are on record",
                    end.items, end.packets
                );
                return Err(Error::submission(&run.id, problem));
            }
            if before
                .sent
                .is_some_and(|recorded| recorded.packets == end.packets && recorded != *end)
            {
                return Err(end.differs(&run.id));
            }
            let extent = Extent {
                sent: Some(*end),
                array_length: Some(length),
                packets: Some(count),
            };
            if self.write_extent(run, &before, &extent).await? {
                return Ok(());
            }
        }
    }

    async fn submitted(&self, run: &RunKey) -> Result<()> {
        const SUBMITTED: &str = "UPDATE @.runs SET submitted = true, written_at = now()
            WHERE deployment = $1 AND key = $2 AND NOT submitted";
        let key = run.to_string();
        let (run, deployment) = (key.as_str(), &*self.deployment);
        let params = self.run_params(&run, &deployment);
        self.database()
            .query("noting a submission", SUBMITTED, &params)
            .await?;
        Ok(())
    }

    async fn complete(&self, run: &RunKey, result: Bytes) -> Result<bool> {
        const COMPLETE: &str = "UPDATE @.runs SET result = $3, written_at = now()
            WHERE deployment = $1 AND key = $2 AND result IS NULL AND NOT cancelled RETURNING 1";
        if result.len() > LARGEST_VALUE {
            let what = format!("the result of run {}", run.id);
            return Err(Error::too_large(
                Oversized::Value,
                what,
                result.len(),
                LARGEST_VALUE,
            ));
        }
        self.end(
            "completing a run",
            (&run.id, &run.to_string()),
            COMPLETE,
            Some(&result),
        )
        .await
    }

    async fn cancel(&self, run: &RunId) -> Result<bool> {
        const CANCEL: &str = "UPDATE @.runs SET cancelled = true, written_at = now()
            WHERE deployment = $1 AND id = $2 AND result IS NULL RETURNING 1";
        self.end("cancelling a run", (run, run.as_str()), CANCEL, None)
            .await
    }

    async fn status(&self, run: &RunId) -> Result<Option<RunSnapshot>> {
        const STATUS: &str = "SELECT r.record, r.array_length, r.packets, r.sent_packets, r.sent_items, r.sent_fingerprint,
                r.submitted, r.cancelled, r.dead, r.dead_items, r.skipped - r.replaced, r.result, f.stage, f.message, f.document
            FROM @.runs r LEFT JOIN LATERAL (
                SELECT stage, message, document FROM @.failures
                WHERE run = r.number AND died IS NOT NULL ORDER BY died LIMIT 1
            ) AS f ON r.dead > 0
            WHERE r.deployment = $1 AND r.id = $2";
        let (run, deployment) = (run.as_str(), &*self.deployment);
        let params = self.run_params(&run, &deployment);
        let row = self
            .database()
            .query_opt("reading a run", STATUS, &params)
            .await?;
        row.map(|row| snapshot(&row)).transpose()
    }

    async fn outline(&self, run: &RunId) -> Result<Option<RunOutline>> {
        const OUTLINE: &str =
            "SELECT generation, array_length FROM @.runs WHERE deployment = $1 AND id = $2";
        let (run, deployment) = (run.as_str(), &*self.deployment);
        let params = self.run_params(&run, &deployment);
        let row = self
            .database()
            .query_opt("reading a run", OUTLINE, &params)
            .await?;
        let outline = |row: tokio_postgres::Row| {
            let generation = row.get::<_, &str>(0).parse()?;
            Ok(RunOutline::new(generation, unsigned(row.get(1))))
        };
        row.map(outline).transpose()
    }

    async fn is_over(&self, run: &RunKey) -> Result<bool> {
        const OVER: &str = "SELECT key <> $3 OR result IS NOT NULL OR cancelled FROM @.runs
            WHERE deployment = $1 AND id = $2";
        let key = run.to_string();
        let (id, deployment) = (run.id.as_str(), &*self.deployment);
        let mut params = self.run_params(&id, &deployment);
        params.push((&key, Type::TEXT));
        let row = self
            .database()
            .query_opt("reading a run", OVER, &params)
            .await?;
        Ok(row.is_some_and(|row| row.get(0)))
    }

    async fn wait(&self, run: &RunId, up_to: Duration) -> Result<Option<RunSnapshot>> {
        let until = after(Instant::now(), up_to);
        let interest = self.shared.watch.interest(self.key(run));
        self.shared.watch.is_active();
        loop {
            let news = interest.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let snapshot = self.status(run).await?;
            let is_over = snapshot.as_ref().is_none_or(RunSnapshot::has_ended);
            if is_over || Instant::now() >= until {
                return Ok(snapshot);
            }
            let _sleeping = interest.poll();
            tokio::select! {
                () = &mut news => {}
                () = sleep_until(until) => {}
            }
        }
    }

    async fn list_runs(
        &self,
        filter: &RunFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<RunSummary>> {
        self.list(filter, cursor, limit).await
    }
}

/// Of these runs, those that need not be waited for any longer.
pub(super) async fn ended(database: &Database, keys: Vec<Watched>) -> Result<Vec<Watched>> {
    const ENDED: &str =
        "SELECT w.place FROM unnest($1, $2) WITH ORDINALITY AS w (deployment, id, place)
        LEFT JOIN LATERAL (
            SELECT state FROM @.runs r WHERE r.deployment = w.deployment AND r.id = w.id
        ) AS run ON true
        WHERE run.state IS NULL OR run.state NOT IN ('open', 'running')";
    let deployments: Vec<&str> = keys.iter().map(|(deployment, _)| &**deployment).collect();
    let runs: Vec<&str> = keys.iter().map(|(_, run)| run.as_str()).collect();
    let params = [
        (&deployments as _, Type::TEXT_ARRAY),
        (&runs as _, Type::TEXT_ARRAY),
    ];
    let rows = database.query("polling runs", ENDED, &params).await?;
    let places = rows
        .iter()
        .filter_map(|row| usize::try_from(row.get::<_, i64>(0) - 1).ok());
    Ok(places
        .filter_map(|place| keys.get(place).cloned())
        .collect())
}

/// The record with the lengths that sealing added, of columns that begin with it.
pub(super) fn record(row: &Row) -> Result<RunRecord> {
    let text: &str = row.get(0);
    let mut record = RunRecord::decode(text.as_bytes())?;
    record.array_length = unsigned(row.get(1));
    record.packets = unsigned(row.get(2));
    Ok(record)
}

fn checkpoint(row: &Row, from: usize) -> Result<Option<Checkpoint>> {
    let (packets, items) = (unsigned(row.get(from)), unsigned(row.get(from + 1)));
    let text: Option<&str> = row.get(from + 2);
    let (Some(packets), Some(items), Some(text)) = (packets, items, text) else {
        return Ok(None);
    };
    let fingerprint = Fingerprint::from_str(text)
        .map_err(|source| Error::decode("the fingerprint of a run's checkpoint", source))?;
    Ok(Some(Checkpoint::new(packets, items, fingerprint)))
}

fn snapshot(row: &Row) -> Result<RunSnapshot> {
    let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let mut snapshot = RunSnapshot::new(record(row)?);
    snapshot.checkpoint = checkpoint(row, 3)?;
    snapshot.submitted = row.get(6);
    snapshot.cancelled = row.get(7);
    snapshot.dead = count(8);
    snapshot.dead_items = count(9);
    snapshot.skipped = count(10);
    snapshot.result = row.get::<_, Option<&[u8]>>(11).map(Bytes::copy_from_slice);
    if let Some(stage) = row.get::<_, Option<&str>>(12) {
        snapshot.failure = first_failure(stage, row.get(13), row.get(14))?;
    }
    Ok(snapshot)
}
