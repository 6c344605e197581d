//! Runs: their records, and what became of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::OptionalExtension;
use tokio::time::{Instant, sleep_until};

use super::job::Session;
use super::queue::LARGEST;
use super::run_row::Row;
use super::scratchpad::{SqliteScratchpad, remove};
use super::trash;
use super::trouble::Trouble;
use crate::core::clock::after;
use crate::core::error::{Error, Oversized, Result};
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::scratchpad::{
    Begun, Checkpoint, Cursor, Page, RunFilter, RunOutline, RunRecord, RunSnapshot, RunSummary,
    Runs,
};

/// Runs whose time is up that are removed when one begins.
const REMOVED: i64 = 16;

#[async_trait]
impl Runs for SqliteScratchpad {
    async fn begin(&self, record: &RunRecord) -> Result<Begun> {
        let (scope, record) = (Arc::clone(&self.scope), record.clone());
        let expired = self.store.clock.now().saturating_sub(self.retention);
        let begun = self.store.write("beginning a run", move |session| {
            if let Some(existing) = Row::find(session.db, &scope, &record.run)? {
                let snapshot = existing.snapshot(session.db)?;
                return Ok(Begun::Existing(Box::new(snapshot)));
            }
            remove_expired(session, expired)?;
            Row::insert(session.db, &scope, &record)?;
            Ok(Begun::New)
        });
        begun.await
    }

    async fn checkpoint(&self, run: &RunKey, reached: &Checkpoint) -> Result<()> {
        let reached = *reached;
        let recorded = self.change("recording a checkpoint", run, move |run| {
            run.checkpoint(reached)
        });
        recorded.await.map(drop)
    }

    async fn measure(&self, run: &RunKey, end: &Checkpoint) -> Result<()> {
        let end = *end;
        let measured = self.change("measuring a run", run, move |run| run.measure(end));
        match measured.await? {
            Some(()) => Ok(()),
            None => Err(Error::no_such_run(&run.id)),
        }
    }

    async fn submitted(&self, run: &RunKey) -> Result<()> {
        let noted = self.change("recording a submission", run, |run| {
            run.is_submitted = true;
            Ok(())
        });
        noted.await.map(drop)
    }

    async fn complete(&self, run: &RunKey, result: Bytes) -> Result<bool> {
        if result.len() > LARGEST {
            let what = format!("the result of run {}", run.id);
            return Err(Error::too_large(
                Oversized::Value,
                what,
                result.len(),
                LARGEST,
            ));
        }
        let now = self.store.clock.now();
        let completed = self.change_in("completing a run", run, move |session, run| {
            if run.is_over() {
                return Ok(false);
            }
            session
                .db
                .prepare_cached("INSERT INTO result (run, value) VALUES (?1, ?2)")?
                .execute((run.id, &result[..]))?;
            run.has_result = true;
            end(session, run, now)?;
            Ok(true)
        });
        Ok(completed.await?.unwrap_or(false))
    }

    async fn cancel(&self, run: &RunId) -> Result<bool> {
        let now = self.store.clock.now();
        let cancelled = self.change_any(
            "cancelling a run",
            run,
            |_| true,
            move |session, run| {
                if !run.is_over() {
                    run.is_cancelled = true;
                    end(session, run, now)?;
                }
                Ok(run.is_cancelled)
            },
        );
        Ok(cancelled.await?.unwrap_or(false))
    }

    async fn status(&self, run: &RunId) -> Result<Option<RunSnapshot>> {
        let (scope, run) = (Arc::clone(&self.scope), run.clone());
        let status = self.store.read("reading a run", move |db| {
            let row = Row::find(db, &scope, &run)?;
            row.map(|row| row.snapshot(db)).transpose()
        });
        status.await
    }

    async fn outline(&self, run: &RunId) -> Result<Option<RunOutline>> {
        let (scope, run) = (Arc::clone(&self.scope), run.clone());
        let record = self.store.read("reading a run", move |db| {
            let record: Option<String> = db
                .prepare_cached("SELECT record FROM run WHERE scope = ?1 AND name = ?2")?
                .query_row((&*scope, run.as_str()), |row| row.get(0))
                .optional()?;
            Ok(record)
        });
        let record = record.await?.map(|text| RunRecord::decode(text.as_bytes()));
        Ok(record.transpose()?.map(|record| RunOutline::of(&record)))
    }

    async fn is_over(&self, run: &RunKey) -> Result<bool> {
        let found = self.state(&run.id).await?;
        Ok(found.is_some_and(|(state, generation)| {
            matches!(&*state, "done" | "cancelled") || generation != run.generation.to_string()
        }))
    }

    async fn wait(&self, run: &RunId, up_to: Duration) -> Result<Option<RunSnapshot>> {
        let until = after(Instant::now(), up_to);
        let ended = self.store.notices.runs();
        let mut waiting = None;
        loop {
            let mut changed = std::pin::pin!(ended.notified());
            // From here on no notice is missed.
            changed.as_mut().enable();
            let is_open = match self.state(run).await? {
                None => return Ok(None),
                Some((state, _)) => matches!(&*state, "open" | "running"),
            };
            if !is_open || until <= Instant::now() {
                return self.status(run).await;
            }
            if waiting.is_none() {
                waiting = Some(self.store.notices.wait());
                // The thread that writes may sleep, and has to watch other processes from now on. What has changed in
                // between shows at the next look.
                self.store.write("watching the file", |_| Ok(())).await?;
                continue;
            }
            tokio::select! {
                biased;
                () = changed => {}
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

impl SqliteScratchpad {
    /// Changes a run's record. `None` if the run is unknown.
    async fn change<T: Send + 'static>(
        &self,
        operation: &str,
        run: &RunKey,
        change: impl Fn(&mut Row) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        self.change_in(operation, run, move |_, run| Ok(change(run)?))
            .await
    }

    /// Changes a run's record, and more of it in the same transaction. `None` if the run is unknown.
    pub(super) async fn change_in<T: Send + 'static>(
        &self,
        operation: &str,
        run: &RunKey,
        change: impl Fn(&Session<'_>, &mut Row) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<Option<T>> {
        let generation = run.generation;
        let is_meant = move |row: &Row| row.record.generation == generation;
        self.change_any(operation, &run.id, is_meant, change).await
    }

    /// The same for the run of whichever generation, if it is the one that is meant.
    async fn change_any<T: Send + 'static>(
        &self,
        operation: &str,
        run: &RunId,
        is_meant: impl Fn(&Row) -> bool + Send + 'static,
        change: impl Fn(&Session<'_>, &mut Row) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<Option<T>> {
        let (scope, run) = (Arc::clone(&self.scope), run.clone());
        let changed = self.store.write(operation, move |session| {
            let found = Row::find(session.db, &scope, &run)?;
            let Some(mut run) = found.filter(|row| is_meant(row)) else {
                return Ok(None);
            };
            let value = change(session, &mut run)?;
            run.save(session.db)?;
            Ok(Some(value))
        });
        changed.await
    }

    /// The state of a run, and its generation.
    async fn state(&self, run: &RunId) -> Result<Option<(String, String)>> {
        let (scope, run) = (Arc::clone(&self.scope), run.clone());
        let state = self.store.read("reading a run", move |db| {
            let state = db
                .prepare_cached("SELECT state, generation FROM run WHERE scope = ?1 AND name = ?2")?
                .query_row((&*scope, run.as_str()), |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            Ok(state)
        });
        state.await
    }
}

/// A run is over: its groups are not needed any more, and those who wait are told.
fn end(session: &Session<'_>, run: &mut Row, now: i64) -> rusqlite::Result<()> {
    run.ended_at = Some(now);
    session.effects.borrow_mut().run();
    trash::add(session, run.id)
}

fn remove_expired(session: &Session<'_>, ended_before: i64) -> rusqlite::Result<()> {
    let expired: Vec<i64> = session
        .db
        .prepare_cached("SELECT id FROM run WHERE ended_at < ?1 ORDER BY ended_at LIMIT ?2")?
        .query_map((ended_before, REMOVED), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    expired.iter().try_for_each(|run| remove(session, *run))
}
