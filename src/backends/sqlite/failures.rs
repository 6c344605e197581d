//! The failures of each run.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::message_record::{MessageRecord, Position};
use super::run_row::Row;
use super::scratchpad::SqliteScratchpad;
use super::trouble::Trouble;
use crate::core::error::{Error, Result};
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::core::natural;
use crate::scratchpad::{
    Beginning, Cursor, DeadLetterId, Deliveries, Failure, FailureLog, FailureReport, Failures, Page,
};

/// The name of the list in its cursors.
const LIST: &str = "sqlite-failures";

#[async_trait]
impl Failures for SqliteScratchpad {
    /// A run that is over counts no more deliveries.
    async fn note_beginning(&self, beginning: &Beginning) -> Result<Deliveries> {
        let noted = beginning.clone();
        let begun = self.change_in("noting a beginning", &beginning.run, move |session, run| {
            if run.is_over() {
                return Ok(Deliveries::default());
            }
            let mut entry = Entry::open(session.db, run.id, &noted.stage, &noted.message)?;
            let deliveries = entry.record.begin(&noted);
            entry.save(session.db, run.id)?;
            Ok(deliveries)
        });
        Ok(begun.await?.unwrap_or_default())
    }

    async fn withdraw_beginning(&self, beginning: &Beginning) -> Result<()> {
        let noted = beginning.clone();
        let withdrawn = self.change_in(
            "withdrawing a beginning",
            &beginning.run,
            move |session, run| {
                if let Some(mut entry) =
                    Entry::find(session.db, run.id, &noted.stage, &noted.message)?
                {
                    entry.record.withdraw(&noted);
                    entry.save(session.db, run.id)?;
                }
                Ok(())
            },
        );
        withdrawn.await.map(drop)
    }

    /// A run that is over records no more failures: its outcome is final.
    async fn record(&self, report: &FailureReport) -> Result<FailureLog> {
        let reported = report.clone();
        let log = self.change_in("recording a failure", &report.run, move |session, run| {
            let report = &reported;
            let mut entry = Entry::open(session.db, run.id, &report.stage, &report.message)?;
            if run.is_over() {
                return Ok(entry.record.log(run.skipped));
            }
            let before = entry.record.counts();
            entry.record.record(report);
            entry.record.counts().replace(before, run);
            entry.save(session.db, run.id)?;
            if run.dead > 0 {
                session.effects.borrow_mut().run();
            }
            Ok(entry.record.log(run.skipped))
        });
        Ok(log.await?.unwrap_or_default())
    }

    async fn clear(
        &self,
        run: &RunKey,
        stage: &str,
        message: &str,
        id: DeadLetterId,
    ) -> Result<()> {
        let (stage, message) = (stage.to_owned(), message.to_owned());
        let cleared = self.change_in("clearing a failure", run, move |session, run| {
            if let Some(mut entry) = Entry::find(session.db, run.id, &stage, &message)? {
                let before = entry.record.counts();
                if entry.record.clear(id) {
                    entry.record.counts().replace(before, run);
                    entry.save(session.db, run.id)?;
                }
            }
            Ok(())
        });
        cleared.await.map(drop)
    }

    async fn list_failures(
        &self,
        run: &RunId,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Failure>> {
        let after: Option<Position> = cursor.map(|cursor| cursor.decode(LIST)).transpose()?;
        let limit = limit.max(1);
        // One more shows whether there is another page.
        let count = limit.saturating_add(1);
        let (scope, run) = (Arc::clone(&self.scope), run.clone());
        let listed = self.store.read("listing failures", move |db| {
            match Row::find(db, &scope, &run)? {
                Some(run) => list(db, run.id, after.as_ref(), count),
                None => Ok(Vec::new()),
            }
        });
        let mut failures = listed.await?;
        let has_more = failures.len() > limit;
        failures.truncate(limit);
        let next = match failures.last() {
            Some(last) if has_more => Some(Cursor::encode(LIST, &Position::of(last))?),
            _ => None,
        };
        Ok(Page::new(failures, next))
    }
}

/// A message's row: its key, and what is on record of it.
struct Entry {
    stage: String,
    message: String,
    record: MessageRecord,
    /// Where it stands among the dead letters of its run.
    dead_number: Option<i64>,
}

impl Entry {
    fn find(
        db: &Connection,
        run: i64,
        stage: &str,
        message: &str,
    ) -> Result<Option<Self>, Trouble> {
        let row = db
            .prepare_cached(
                "SELECT record, dead_number FROM failure WHERE run = ?1 AND stage = ?2 AND sort_key = ?3 AND message = ?4",
            )?
            .query_row((run, stage, natural::sort_key(message), message), |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((record, dead_number)) = row else {
            return Ok(None);
        };
        Ok(Some(Self {
            stage: stage.to_owned(),
            message: message.to_owned(),
            record: decode(&record)?,
            dead_number,
        }))
    }

    /// The row, or a new one that is not stored yet.
    fn open(db: &Connection, run: i64, stage: &str, message: &str) -> Result<Self, Trouble> {
        let found = Self::find(db, run, stage, message)?;
        Ok(found.unwrap_or_else(|| Self {
            stage: stage.to_owned(),
            message: message.to_owned(),
            record: MessageRecord::default(),
            dead_number: None,
        }))
    }

    fn save(&mut self, db: &Connection, run: i64) -> Result<(), Trouble> {
        // A dead letter keeps its place until it is cleared.
        self.dead_number = match (self.record.is_dead(), self.dead_number) {
            (false, _) => None,
            (true, None) => Some(next_number(db, run)?),
            (true, number) => number,
        };
        let record = serde_json::to_string(&self.record)
            .map_err(|source| Error::encode("the record of a message", source))?;
        db.prepare_cached(
            "INSERT INTO failure (run, stage, sort_key, message, is_listed, dead_number, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET is_listed = ?5, dead_number = ?6, record = ?7",
        )?
        .execute((
            run,
            &self.stage,
            natural::sort_key(&self.message),
            &self.message,
            self.record.is_listed(),
            self.dead_number,
            record,
        ))?;
        Ok(())
    }
}

fn decode(record: &str) -> Result<MessageRecord> {
    serde_json::from_str(record).map_err(|source| Error::decode("the record of a message", source))
}

fn next_number(db: &Connection, run: i64) -> rusqlite::Result<i64> {
    db.prepare_cached(
        "SELECT COALESCE(MAX(dead_number), 0) + 1 FROM failure WHERE run = ?1 AND dead_number IS NOT NULL",
    )?
    .query_row([run], |row| row.get(0))
}

/// The oldest dead letter of a run.
pub(super) fn first(db: &Connection, run: i64) -> Result<Option<Failure>, Trouble> {
    let first = db
        .prepare_cached(
            "SELECT stage, message, record FROM failure WHERE run = ?1 AND dead_number IS NOT NULL
             ORDER BY dead_number LIMIT 1",
        )?
        .query_row([run], text)
        .optional()?;
    match first {
        Some((stage, message, record)) => Ok(decode(&record)?.dead_letter(&stage, &message)),
        None => Ok(None),
    }
}

/// Skipped items of messages that stand as dead letters.
pub(super) fn replaced(db: &Connection, run: i64) -> rusqlite::Result<u64> {
    let count = db
        .prepare_cached(
            "SELECT COUNT(*) FROM failure, json_each(failure.record, '$.skipped')
             WHERE run = ?1 AND dead_number IS NOT NULL",
        )?
        .query_row([run], |row| row.get::<_, i64>(0))?;
    Ok(count.unsigned_abs())
}

fn text(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, String, String)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// About `count` failures after a position.
fn list(
    db: &Connection,
    run: i64,
    after: Option<&Position>,
    count: usize,
) -> Result<Vec<Failure>, Trouble> {
    let (stage, message) = after.map_or(("", ""), |after| (&after.stage, &after.message));
    let mut messages = db.prepare_cached(
        "SELECT stage, message, record FROM failure
         WHERE run = ?1 AND is_listed AND (stage, sort_key, message) >= (?2, ?3, ?4)
         ORDER BY stage, sort_key, message",
    )?;
    let mut rows = messages.query((run, stage, natural::sort_key(message), message))?;
    let mut failures = Vec::new();
    while failures.len() < count
        && let Some(row) = rows.next()?
    {
        let (stage, message, record) = text(row)?;
        let after = after.filter(|after| after.stage == stage && after.message == message);
        let room = count - failures.len();
        failures.extend(decode(&record)?.failures(&stage, &message, after, room));
    }
    Ok(failures)
}
