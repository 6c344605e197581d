//! Vacuuming as often as the churn needs it.
//!
//! The server's own autovacuum looks at a database once a minute, and a busy queue leaves hundreds of megabytes in a minute.
//! So a process that has received many messages vacuums the tables itself: while it is busy, so that what the messages have
//! left is used again, and once more when nothing is there to receive, so that the tables are cut off at their end.
//!
//! While an old transaction is open somewhere in the database, vacuum reads everything and removes nothing. Then each
//! attempt waits twice as long as the one before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::super::database::Database;
use super::super::errors::failed;
use crate::core::error::{Result, describe};

/// Messages received since the last vacuum, or bytes of them, after which there is another one.
const MESSAGES: u64 = 50_000;
const BYTES: u64 = 32 * 1024 * 1024;
/// The same at the end of a burst. Fewer are left to autovacuum.
const MESSAGES_OF_BURST: u64 = 5_000;
const BYTES_OF_BURST: u64 = 4 * 1024 * 1024;
/// A burst is over if nothing was received for this long.
const QUIET: Duration = Duration::from_secs(3);
/// Vacuuming takes at most this part of the time.
const PART: u32 = 10;
/// The pause after a vacuum that removed something; in vain, it is doubled each time.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What is vacuumed, and counted.
const TABLES: [&str; 4] = ["messages", "bodies", "partials", "groups"];

pub(super) struct Vacuum {
    schema: Arc<str>,
    state: Mutex<State>,
}

struct State {
    /// What was received since the last vacuum.
    messages: u64,
    bytes: u64,
    /// When something was last received.
    received: Instant,
    is_running: bool,
    not_before: Instant,
    pause: Duration,
}

/// Lets the next one begin, also if its task is dropped.
struct Running(Arc<Vacuum>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().is_running = false;
    }
}

/// Rows, by the server's statistics.
struct Rows {
    live: i64,
    dead: i64,
}

impl Vacuum {
    pub(super) fn new(schema: Arc<str>) -> Self {
        Self {
            schema,
            state: Mutex::new(State {
                messages: 0,
                bytes: 0,
                received: Instant::now(),
                is_running: false,
                not_before: Instant::now(),
                pause: SHORTEST,
            }),
        }
    }

    /// Messages were received. If they have been many, their tables are vacuumed in a task of its own.
    pub(super) fn received(
        self: &Arc<Self>,
        messages: usize,
        bytes: usize,
        database: &Arc<Database>,
    ) {
        let is_due = {
            let mut state = self.lock();
            state.messages += u64::try_from(messages).unwrap_or(u64::MAX);
            state.bytes = state
                .bytes
                .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            state.received = Instant::now();
            let is_due = state.messages >= MESSAGES || state.bytes >= BYTES;
            is_due && state.begins()
        };
        if is_due {
            self.start(database, false);
        }
    }

    /// Nothing is there to receive.
    pub(super) fn is_idle(self: &Arc<Self>, database: &Arc<Database>) {
        let is_due = {
            let mut state = self.lock();
            let is_due = state.messages >= MESSAGES_OF_BURST || state.bytes >= BYTES_OF_BURST;
            is_due && state.received.elapsed() >= QUIET && state.begins()
        };
        if is_due {
            self.start(database, true);
        }
    }

    fn start(self: &Arc<Self>, database: &Arc<Database>, cut_off: bool) {
        let (running, database) = (Running(Arc::clone(self)), Arc::clone(database));
        tokio::spawn(async move {
            let begin = Instant::now();
            let is_in_vain = running.0.run(&database, cut_off).await;
            let is_in_vain = is_in_vain.unwrap_or_else(|error| {
                tracing::debug!(error = %describe(&error), "the queues' tables could not be vacuumed");
                true
            });
            running.0.lock().ended(begin.elapsed(), is_in_vain);
        });
    }

    /// Returns whether most of what was to be removed is still there. A role that may not vacuum is only warned by the
    /// server, and the tables are left to autovacuum.
    async fn run(&self, database: &Database, cut_off: bool) -> Result<bool> {
        const WHAT: &str = "vacuuming";
        let before = self.rows(database).await?;
        // Another process may have done it. And as vacuum reads the indexes as a whole, a long queue needs to leave more.
        if before.dead < before.live / 20 {
            return Ok(false);
        }
        // Cutting off takes a lock that stops all statements on the table for a moment, if none is under way.
        let tables = TABLES.map(|table| format!("@.{table}")).join(", ");
        let text = database.text(&format!(
            "VACUUM (SKIP_LOCKED, TRUNCATE {cut_off}) {tables}"
        ));
        database.requests.count(WHAT);
        // On a connection of its own, since the others' statements would wait for it.
        let client = database.dial(WHAT).await?;
        let vacuumed = client.batch_execute(&text).await;
        vacuumed.map_err(|error| failed(WHAT, &database.place, error))?;
        let after = self.rows(database).await?;
        Ok(after.dead > before.dead / 2)
    }

    async fn rows(&self, database: &Database) -> Result<Rows> {
        const ROWS: &str =
            "SELECT coalesce(sum(n_live_tup), 0)::int8, coalesce(sum(n_dead_tup), 0)::int8
            FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = ANY ($2)";
        let tables = &TABLES[..];
        let params = [
            (&&*self.schema as _, Type::TEXT),
            (&tables as _, Type::TEXT_ARRAY),
        ];
        let row = database
            .query_opt("counting dead rows", ROWS, &params)
            .await?;
        let count = |column| row.as_ref().map_or(0, |row| row.get(column));
        Ok(Rows {
            live: count(0),
            dead: count(1),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a vacuum may begin now; if so, it counts as begun.
    fn begins(&mut self) -> bool {
        let begins = !self.is_running && Instant::now() >= self.not_before;
        if begins {
            (self.messages, self.bytes, self.is_running) = (0, 0, true);
        }
        begins
    }

    fn ended(&mut self, took: Duration, is_in_vain: bool) {
        self.pause = match is_in_vain {
            true => (self.pause * 2).min(LONGEST),
            false => SHORTEST,
        };
        self.not_before = Instant::now() + self.pause.max(took * PART);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let vacuum = Vacuum::new("catchment".into());
        vacuum.state.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_vacuum_in_vain_is_repeated_ever_more_rarely() {
        let mut state = state();
        let mut began = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(300) {
            if state.begins() {
                began.push(begin.elapsed().as_secs());
                state.is_running = false;
                state.ended(Duration::from_millis(50), true);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(began, [0, 2, 6, 14, 30, 62, 122, 182, 242]);
        state.ended(Duration::from_millis(50), false);
        tokio::time::advance(SHORTEST).await;
        assert!(state.begins(), "it was worth while again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_vacuum_that_takes_long_is_rare() {
        let mut state = state();
        assert!(state.begins());
        assert!(!state.begins(), "one at a time");
        state.is_running = false;
        state.ended(Duration::from_secs(20), false);
        tokio::time::advance(Duration::from_secs(199)).await;
        assert!(!state.begins());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(state.begins());
    }
}
