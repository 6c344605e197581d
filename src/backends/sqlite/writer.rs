//! The thread that writes: it takes the operations that have gathered, makes them one transaction, and answers once that is
//! durable. Between two transactions it watches for those of other processes.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::job::{Job, Session};
use super::notices::{Effects, Notices};
use super::{owner, trash};

/// Operations of one transaction at most.
const MOST: usize = 1_024;
/// How often other processes' changes are watched for: often at first, and seldom once nothing has happened for long.
const WATCH: [(Duration, Duration); 3] = [
    (Duration::from_secs(2), Duration::from_millis(2)),
    (Duration::from_secs(60), Duration::from_millis(10)),
    (Duration::MAX, Duration::from_millis(50)),
];
/// For this long after another process has written, it gets a chance to do so again after each transaction.
const NEIGHBOURLY: Duration = Duration::from_secs(1);
/// Longer than another process waits before it tries again.
const CHANCE: Duration = Duration::from_micros(500);
/// How often it is checked whether the other owners are alive, while somebody waits.
const ROLL_CALL: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) path: PathBuf,
    pub(super) jobs: Receiver<Box<dyn Job>>,
    pub(super) notices: Arc<Notices>,
    /// This handle's row of the table of owners.
    pub(super) owner: i64,
    pub(super) watch: Watch,
}

/// What is known of other processes, and of what is left to remove.
pub(super) struct Watch {
    /// SQLite's number that changes when another connection has written.
    version: i64,
    foreign: Option<Instant>,
    /// When an operation or another process's change came last.
    busy: Instant,
    /// `None` before the first one.
    roll_call: Option<Instant>,
    has_trash: bool,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            version: -1,
            foreign: None,
            busy: Instant::now(),
            roll_call: None,
            has_trash: true,
        }
    }
}

impl Writer {
    /// Works until the store is dropped.
    pub(super) fn work(mut self) {
        let mut next: Vec<Box<dyn Job>> = Vec::new();
        loop {
            if next.is_empty() {
                match self.wait() {
                    Ok(job) => next.push(job),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            while next.len() < MOST
                && let Ok(job) = self.jobs.try_recv()
            {
                next.push(job);
            }
            next.retain(|job| job.is_wanted());
            let has_written = !next.is_empty();
            if has_written {
                self.watch.busy = Instant::now();
                next = self.commit(std::mem::take(&mut next));
            } else {
                self.tidy();
            }
            self.look(has_written);
            if has_written || self.notices.is_waited_for() {
                self.call_roll();
            }
        }
        // Nobody else can answer for what this handle holds. If it fails, other processes see to it when this one has ended.
        if let Err(error) = self.transaction(|session| owner::leave(session, self.owner)) {
            tracing::debug!(%error, "what was held could not be handed back");
        }
    }

    fn wait(&self) -> Result<Box<dyn Job>, RecvTimeoutError> {
        if self.watch.has_trash {
            return self.jobs.recv_timeout(Duration::ZERO);
        }
        if !self.notices.is_waited_for() {
            return self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        let idle = self.watch.busy.elapsed();
        let interval = WATCH.iter().find(|(until, _)| idle < *until);
        let interval = interval.map_or(Duration::from_secs(1), |(_, interval)| *interval);
        self.jobs.recv_timeout(interval)
    }

    /// Makes operations durable and answers them. Returns those that undo what nobody has taken.
    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let committed = self.transaction(|session| {
            for job in &mut jobs {
                job.run(session)?;
            }
            if self.watch.has_trash && !trash::remove_some(session)? {
                session.effects.borrow_mut().trash = false;
            }
            Ok(())
        });
        match committed {
            Ok(effects) => {
                self.watch.has_trash = effects.trash;
                // Before the answers: nobody waits in vain while a caller goes on.
                self.notices.tell(&effects);
                jobs.into_iter().filter_map(Job::answer).collect()
            }
            // None of them is at fault.
            Err(error) if is_busy(&error) => {
                for job in jobs {
                    job.fail(same(&error), &self.path);
                }
                Vec::new()
            }
            // Whose fault it is shows when each is by itself.
            Err(_) if jobs.len() > 1 => {
                let each = jobs.into_iter().flat_map(|job| self.commit(vec![job]));
                each.collect()
            }
            Err(error) => {
                if let Some(job) = jobs.pop() {
                    job.fail(error, &self.path);
                }
                Vec::new()
            }
        }
    }

    /// Runs something as one transaction.
    fn transaction(
        &self,
        run: impl FnOnce(&Session<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<Effects> {
        let effects = RefCell::new(Effects::new(self.watch.has_trash));
        let session = Session {
            db: &self.db,
            effects: &effects,
        };
        let done = execute(&self.db, "BEGIN IMMEDIATE")
            .and_then(|()| run(&session))
            .and_then(|()| execute(&self.db, "COMMIT"));
        if done.is_err() && !self.db.is_autocommit() {
            // After some errors SQLite has done so by itself.
            let _ = execute(&self.db, "ROLLBACK");
        }
        done.map(|()| effects.into_inner())
    }

    /// Removes some of what nobody needs any more, while there is nothing else to do.
    fn tidy(&mut self) {
        if self.watch.has_trash {
            let tidied = self.transaction(|session| {
                session.effects.borrow_mut().trash = trash::remove_some(session)?;
                Ok(())
            });
            self.watch.has_trash = tidied.is_ok_and(|effects| effects.trash);
        }
    }

    /// Hands back, from time to time, what handles have left whose process was killed.
    fn call_roll(&mut self) {
        let last = self.watch.roll_call;
        if last.is_some_and(|last| last.elapsed() < ROLL_CALL) {
            return;
        }
        self.watch.roll_call = Some(Instant::now());
        match owner::dead(&self.db) {
            Ok(dead) if dead.is_empty() => {}
            Ok(dead) => {
                let taken = self.transaction(|session| owner::bury(session, &dead));
                if taken.is_ok() {
                    self.notices.tell_all();
                }
            }
            Err(error) => tracing::debug!(%error, "the owners could not be read"),
        }
    }

    /// Notices the changes of other processes, and lets them write if this one just has.
    fn look(&mut self, has_written: bool) {
        let version = self
            .db
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut version| version.query_row([], |row| row.get::<_, i64>(0)));
        // An error shows at the next operation.
        let Ok(version) = version else { return };
        let now = Instant::now();
        if version != self.watch.version {
            self.watch.version = version;
            self.watch.foreign = Some(now);
            self.watch.busy = now;
            self.notices.tell_all();
        }
        let foreign = self.watch.foreign;
        if has_written && foreign.is_some_and(|at| now.duration_since(at) < NEIGHBOURLY) {
            std::thread::sleep(CHANCE);
        }
    }
}

/// Whether another process has kept the file locked for longer than is waited for.
fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// The same error once more, for another caller.
fn same(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            rusqlite::Error::SqliteFailure(*code, message.clone())
        }
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}

fn execute(db: &Connection, statement: &str) -> rusqlite::Result<()> {
    db.prepare_cached(statement)?.execute([]).map(drop)
}
