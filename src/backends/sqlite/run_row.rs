//! A run's row, and the changes to it.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::failures;
use super::trouble::Trouble;
use crate::core::clock::floor;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::scratchpad::{Checkpoint, RunRecord, RunSnapshot, RunState, RunSummary};

pub(super) struct Row {
    pub(super) id: i64,
    pub(super) record: RunRecord,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) is_submitted: bool,
    pub(super) is_cancelled: bool,
    pub(super) has_result: bool,
    pub(super) dead: u64,
    pub(super) dead_items: u64,
    pub(super) skipped: u64,
    pub(super) ended_at: Option<i64>,
}

impl Row {
    pub(super) fn insert(db: &Connection, scope: &str, record: &RunRecord) -> Result<(), Trouble> {
        db.prepare_cached(
            "INSERT INTO run (scope, name, generation, created_at, record) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            scope,
            record.run.as_str(),
            record.generation.to_string(),
            created_at(record),
            record.encode()?,
        ))?;
        Ok(())
    }

    pub(super) fn find(db: &Connection, scope: &str, run: &RunId) -> Result<Option<Self>, Trouble> {
        let row = db
            .prepare_cached(
                "SELECT id, record, state, is_submitted, dead, dead_items, skipped, ended_at, checkpoint
                 FROM run WHERE scope = ?1 AND name = ?2",
            )?
            .query_row((scope, run.as_str()), Self::read)
            .optional()?;
        Ok(row.transpose()?)
    }

    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Result<Self>> {
        let record: String = row.get(1)?;
        let state: String = row.get(2)?;
        let checkpoint: Option<String> = row.get(8)?;
        let (dead, dead_items): (i64, i64) = (row.get(4)?, row.get(5)?);
        let (id, is_submitted, ended_at) = (row.get(0)?, row.get(3)?, row.get(7)?);
        let skipped: i64 = row.get(6)?;
        Ok((|| {
            Ok(Self {
                id,
                record: RunRecord::decode(record.as_bytes())?,
                checkpoint: checkpoint.as_deref().map(read_checkpoint).transpose()?,
                is_submitted,
                is_cancelled: state == RunState::Cancelled.to_string(),
                has_result: state == RunState::Done.to_string(),
                dead: dead as u64,
                dead_items: dead_items as u64,
                skipped: skipped as u64,
                ended_at,
            })
        })())
    }

    pub(super) fn save(&self, db: &Connection) -> Result<(), Trouble> {
        db.prepare_cached(
            "UPDATE run SET record = ?2, state = ?3, is_submitted = ?4, dead = ?5, dead_items = ?6, skipped = ?7,
             ended_at = ?8, checkpoint = ?9 WHERE id = ?1",
        )?
        .execute((
            self.id,
            self.record.encode()?,
            self.state().to_string(),
            self.is_submitted,
            self.dead as i64,
            self.dead_items as i64,
            self.skipped as i64,
            self.ended_at,
            self.checkpoint.as_ref().map(write_checkpoint),
        ))?;
        Ok(())
    }

    pub(super) fn state(&self) -> RunState {
        if self.has_result {
            RunState::Done
        } else if self.is_cancelled {
            RunState::Cancelled
        } else if self.dead > 0 {
            RunState::Failed
        } else if self.is_submitted {
            RunState::Running
        } else {
            RunState::Open
        }
    }

    /// Done or cancelled: writes to its tree change nothing.
    pub(super) fn is_over(&self) -> bool {
        self.has_result || self.is_cancelled
    }

    pub(super) fn snapshot(&self, db: &Connection) -> Result<RunSnapshot, Trouble> {
        let mut snapshot = RunSnapshot::new(self.record.clone());
        snapshot.checkpoint = self.checkpoint;
        snapshot.submitted = self.is_submitted;
        snapshot.cancelled = self.is_cancelled;
        snapshot.dead = self.dead;
        snapshot.dead_items = self.dead_items;
        snapshot.skipped = self.skipped;
        if self.dead > 0 {
            snapshot.failure = failures::first(db, self.id)?;
            let replaced = failures::replaced(db, self.id)?;
            snapshot.skipped = self.skipped.saturating_sub(replaced);
        }
        if self.has_result {
            let result = db
                .prepare_cached("SELECT value FROM result WHERE run = ?1")?
                .query_row([self.id], |row| row.get::<_, Vec<u8>>(0))?;
            snapshot.result = Some(Bytes::from(result));
        }
        Ok(snapshot)
    }

    /// Moves forward only.
    pub(super) fn checkpoint(&mut self, reached: Checkpoint) -> Result<()> {
        match &self.checkpoint {
            Some(recorded) if recorded.packets > reached.packets => {}
            Some(recorded) if recorded.packets == reached.packets && *recorded != reached => {
                return Err(reached.differs(&self.record.run));
            }
            _ => self.checkpoint = Some(reached),
        }
        Ok(())
    }

    pub(super) fn measure(&mut self, end: Checkpoint) -> Result<()> {
        let record = &self.record;
        let sent = self.checkpoint.map_or(0, |recorded| recorded.packets);
        let length = record.array_length.unwrap_or(end.items);
        let count = record.packets.unwrap_or(end.packets).max(sent);
        if (length, count) != (end.items, end.packets) {
            return Err(Error::submission(
                &record.run,
                format!(
                    "{} items in {} packets, but {length} items in {count} packets are on record",
                    end.items, end.packets
                ),
            ));
        }
        self.checkpoint(end)?;
        self.record.array_length = Some(length);
        self.record.packets = Some(count);
        Ok(())
    }
}

/// What a list says of a run, from the columns of its record and its state.
pub(super) fn summary(row: &rusqlite::Row<'_>) -> rusqlite::Result<Result<RunSummary>> {
    let (record, state): (String, String) = (row.get(0)?, row.get(1)?);
    Ok((|| {
        let record = RunRecord::decode(record.as_bytes())?;
        let state = serde_json::from_value(state.into());
        let state = state.map_err(|source| Error::decode("the state of a run", source))?;
        Ok(RunSummary::new(record, state))
    })())
}

fn created_at(record: &RunRecord) -> i64 {
    i64::try_from(floor(record.created_at)).unwrap_or(i64::MAX)
}

/// Packets, items and fingerprint.
fn write_checkpoint(checkpoint: &Checkpoint) -> String {
    let Checkpoint {
        packets,
        items,
        fingerprint,
        ..
    } = checkpoint;
    format!("{packets} {items} {fingerprint}")
}

fn read_checkpoint(text: &str) -> Result<Checkpoint> {
    let mut parts = text.split(' ');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let numbers = number().zip(number());
    let fingerprint = parts.next().and_then(|part| part.parse().ok());
    match numbers.zip(fingerprint) {
        Some(((packets, items), fingerprint)) => Ok(Checkpoint::new(packets, items, fingerprint)),
        None => Err(Error::decode("a checkpoint", format!("{text:?} is none"))),
    }
}
