//! The file, as queues and scratchpad share it.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::clock::Clock;
use super::job::{Job, Session, Task, Undo};
use super::notices::Notices;
use super::trouble::{Trouble, failed};
use super::writer::{Watch, Writer};
use super::{Synchronous, connect, owner};
use crate::core::error::{Error, Result};

/// Reads at the same time.
const READERS: usize = 8;

/// When the last handle is dropped, what it holds is handed back and the file is closed.
pub(super) struct Store {
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) notices: Arc<Notices>,
    /// This handle's row of the table of owners.
    pub(super) owner: i64,
    jobs: Sender<Box<dyn Job>>,
    readers: Arc<Readers>,
}

struct Readers {
    path: PathBuf,
    free: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// Without the connections, which say nothing.
impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(formatter)
    }
}

impl Store {
    pub(super) fn open(
        path: PathBuf,
        synchronous: Synchronous,
        clock: Clock,
        most_pages: Option<u32>,
    ) -> Result<Self> {
        let db = connect::writer(&path, synchronous)?;
        if let Some(pages) = most_pages {
            let limited = db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
            limited
                .map_err(|error| Trouble::Sql(error).into_error("opening the database", &path))?;
        }
        let owner = owner::enter(&db)
            .map_err(|error| Trouble::Sql(error).into_error("opening the database", &path))?;
        let (sender, jobs) = channel();
        let notices = Arc::<Notices>::default();
        let writer = Writer {
            db,
            path: path.clone(),
            jobs,
            notices: Arc::clone(&notices),
            owner,
            watch: Watch::new(),
        };
        let thread = std::thread::Builder::new().name("catchment-sqlite".to_owned());
        thread
            .spawn(move || writer.work())
            .map_err(|error| failed("starting the thread that writes", &path, true, error))?;
        Ok(Self {
            clock,
            notices,
            owner,
            jobs: sender,
            readers: Arc::new(Readers {
                path: path.clone(),
                free: Mutex::default(),
                turns: Arc::new(Semaphore::new(READERS)),
            }),
            path,
        })
    }

    /// Runs an operation in a transaction, which it may share with others, and returns its answer once that is durable. If
    /// the future is dropped, the operation may have happened entirely or not at all.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl Into<String>,
        run: impl FnMut(&Session<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        self.submit(operation.into(), run, None, false).await
    }

    /// As [`write`](Self::write); if the future is dropped, the operation does not happen, or `undo` makes another one that
    /// undoes it.
    pub(super) async fn write_or_undo<T: Send + 'static>(
        &self,
        operation: impl Into<String>,
        run: impl FnMut(&Session<'_>) -> Result<T, Trouble> + Send + 'static,
        undo: Undo<T>,
    ) -> Result<T> {
        self.submit(operation.into(), run, Some(undo), true).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        operation: String,
        run: impl FnMut(&Session<'_>) -> Result<T, Trouble> + Send + 'static,
        undo: Option<Undo<T>>,
        is_optional: bool,
    ) -> Result<T> {
        let (task, answer) = task(operation, run, undo, is_optional);
        let sent = self.jobs.send(Box::new(task));
        sent.map_err(|_| self.has_ended())?;
        match self.clock.wait(answer).await {
            Some(outcome) => outcome,
            None => Err(self.has_ended()),
        }
    }

    fn has_ended(&self) -> Error {
        failed(
            "writing",
            &self.path,
            false,
            "the thread that writes has ended",
        )
    }

    /// Reads, all in one view of the file. Every write that has returned is seen.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: impl Into<String>,
        read: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let readers = Arc::clone(&self.readers);
        let turn = Arc::clone(&readers.turns).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            readers.read(read)
        });
        let operation = operation.into();
        match done.await {
            Ok(done) => done.map_err(|trouble| trouble.into_error(&operation, &self.path)),
            Err(error) => Err(failed(&operation, &self.path, true, error)),
        }
    }
}

impl Readers {
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let db = match free {
            Some(db) => db,
            None => connect::reader(&self.path)?,
        };
        db.prepare_cached("BEGIN")?.execute([])?;
        // After an error the connection is closed, and its transaction with it.
        let value = read(&db)?;
        db.prepare_cached("COMMIT")?.execute([])?;
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(db);
        Ok(value)
    }
}

/// An operation, and where its answer comes.
pub(super) fn task<T: Send, F: FnMut(&Session<'_>) -> Result<T, Trouble> + Send>(
    operation: String,
    run: F,
    undo: Option<Undo<T>>,
    is_optional: bool,
) -> (Task<T, F>, oneshot::Receiver<Result<T>>) {
    let (reply, answer) = oneshot::channel();
    let task = Task {
        operation,
        run,
        outcome: None,
        reply,
        undo,
        is_optional,
    };
    (task, answer)
}
