//! The order of a queue's messages: runs take turns, so that a run of ten items does not wait for all that one of ten million
//! has on the queue.
//!
//! Each message gets a place when it is sent, by start-time fair queueing: the bytes that each run has sent are laid end to
//! end, from where the queue is at that time, and messages are delivered by where they begin. A claim only follows an index;
//! all else is done by the sender, once per call.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

/// What a message counts for at least, in bytes: a claim's own cost.
const LEAST: i64 = 64;

/// Gives places to messages that are being sent to one queue.
pub(super) struct Turns<'a> {
    db: &'a Connection,
    queue: i64,
    /// Where the queue is.
    now: i64,
    /// Where the last of its turns ends.
    last: i64,
    /// Where the next message of a run comes.
    next: HashMap<&'a str, i64>,
}

impl<'a> Turns<'a> {
    pub(super) fn begin(db: &'a Connection, queue: i64) -> rusqlite::Result<Self> {
        let last: i64 = db
            .prepare_cached("SELECT turn FROM queue WHERE id = ?1")?
            .query_row([queue], |row| row.get(0))?;
        let first = db
            .prepare_cached(
                "SELECT turn FROM message WHERE queue = ?1 AND visible_at = 0 ORDER BY turn LIMIT 1",
            )?
            .query_row([queue], |row| row.get(0))
            .optional()?;
        Ok(Self {
            db,
            queue,
            now: first.unwrap_or(last),
            last,
            next: HashMap::new(),
        })
    }

    /// The place of a run's next message, of this size in bytes. Messages of no run have a turn of their own, that of "".
    pub(super) fn place(&mut self, run: &'a str, size: usize) -> rusqlite::Result<i64> {
        let next = match self.next.get(run) {
            Some(next) => *next,
            None => self
                .db
                .prepare_cached("SELECT next FROM turn WHERE queue = ?1 AND run = ?2")?
                .query_row((self.queue, run), |row| row.get(0))
                .optional()?
                .unwrap_or(0),
        };
        let place = next.max(self.now);
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let end = place.saturating_add(size.max(LEAST));
        self.next.insert(run, end);
        self.last = self.last.max(end);
        Ok(place)
    }

    /// Writes down where the runs are.
    pub(super) fn end(self) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("UPDATE queue SET turn = ?2 WHERE id = ?1")?
            .execute((self.queue, self.last))?;
        self.db
            .prepare_cached("DELETE FROM turn WHERE queue = ?1 AND next <= ?2")?
            .execute((self.queue, self.now))?;
        let mut write = self.db.prepare_cached(
            "INSERT INTO turn (queue, run, next) VALUES (?1, ?2, ?3)
             ON CONFLICT (queue, run) DO UPDATE SET next = ?3",
        )?;
        for (run, next) in self.next {
            write.execute((self.queue, run, next))?;
        }
        Ok(())
    }
}
