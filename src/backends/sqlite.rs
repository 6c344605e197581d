//! Queues and a scratchpad in a SQLite file: for one machine, and for more than one process.
//!
//! [`Backend::file`](crate::Backend::file) opens a file with the usual settings, [`SqliteOptions`] one with others. Any number of
//! processes of one machine submit, work and look at once; each opens the file. A run goes on after all of them were
//! killed, and after a power cut.
//!
//! - **Durable when a call returns.** SQLite is in WAL mode, and each transaction is flushed to the disk before it is
//!   answered, unless [`Synchronous::Normal`] is set. The calls of all tasks that are made while one transaction is being
//!   written share the next.
//! - **Threads.** Each open file has a thread of its own that writes. Reads run on tokio's blocking threads.
//! - **Waking up.** Within a process, a waiting worker is told of new messages; it sees those of other processes within 2
//!   ms while they are busy, and within 50 ms after a minute without work.
//! - **Time** is the machine's clock. If that is set back, messages in flight stay hidden for as much longer.
//! - **Where.** On a local disk: opening a file on a network file system is refused on Linux, and must not be done
//!   elsewhere. Beside the file, SQLite keeps two more, of the same name followed by `-wal` and `-shm`: they are part of it
//!   while a process has it open. To copy it, use `sqlite3 FILE "VACUUM INTO 'copy.db'"`, or copy it when no process has it
//!   open.
//! - **Readable.** The views `runs`, `queues` and `dead_letters` are for people and their tools:
//!   `sqlite3 -readonly run.db 'SELECT * FROM runs'`. Everything else in the file may change with the library's version. Do not
//!   write to it, and do not open it for writing with a SQLite before 3.51.3, which can damage a file that others write to.
//!
//! ```
//! use catchment::{Backend, Pipeline};
//!
//! # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("run.db");
//! let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
//! let adder = adder.deploy("adder", Backend::file(&path)?)?; // in each process
//! let run = adder.submit_as("numbers", 1..=5).await?;
//! let worker = adder.worker().start();
//! assert_eq!(run.result().await?, 30);
//! worker.shutdown().await;
//! # Ok(()) }
//! ```

mod clock;
mod connect;
mod failures;
mod groups;
mod job;
mod message_record;
mod messages;
mod notices;
mod owner;
mod place;
mod queue;
mod run_list;
mod run_row;
mod runs;
mod scratchpad;
mod store;
mod trash;
mod trouble;
mod turns;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use queue::SqliteQueues;
pub use scratchpad::SqliteScratchpad;

use crate::core::error::Result;
use clock::{Clock, milliseconds};
use store::Store;

const RETENTION: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// When a write is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// When its call returns, whatever happens afterwards: each transaction is flushed to the disk.
    #[default]
    Full,
    /// When its call returns, as long as the machine goes on: a killed process loses nothing. A power cut or a crash of the
    /// system may take the last transactions back, several seconds of them. The file stays consistent; but a submission that
    /// has returned may be gone, and a function may run again whose result had been used. It saves the wait for the disk.
    Normal,
}

/// How a [`SqliteFile`] is opened. Made by [`new`](Self::new) and changed by its methods.
///
/// ```
/// use catchment::{Backend, Pipeline};
/// use catchment::backends::sqlite::{SqliteOptions, Synchronous};
///
/// # fn main() -> Result<(), catchment::Error> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("run.db");
/// let file = SqliteOptions::new().synchronous(Synchronous::Normal).open(&path)?;
/// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
/// let adder = adder.deploy("adder", file)?;
/// # let _ = adder;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteOptions {
    synchronous: Synchronous,
    retention: Duration,
    has_tokio_clock: bool,
    most_pages: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::default(),
            retention: RETENTION,
            has_tokio_clock: false,
            most_pages: None,
        }
    }
}

impl SqliteOptions {
    /// The usual settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets when writes are durable ([`Synchronous::Full`] by default). Each process may have a setting of its own.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Sets how long runs are kept after they were done or cancelled (14 days by default). Each process applies its own.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Takes tokio's clock in place of the machine's, so that hours pass at once where it is paused. For one process only.
    #[doc(hidden)]
    #[cfg(feature = "testing")]
    pub fn tokio_clock(mut self) -> Self {
        self.has_tokio_clock = true;
        self
    }

    /// Limits the file's size, as a full disk does.
    #[doc(hidden)]
    #[cfg(feature = "testing")]
    pub fn most_pages(mut self, pages: u32) -> Self {
        self.most_pages = Some(pages);
        self
    }

    /// Opens the file, and makes it if it is missing. It waits for other processes that make it at the same time, on the
    /// calling thread.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend), not retryable, if the folder does not exist or cannot be written to; the
    /// file is read-only, damaged, on a network file system, of another program, or of a newer version of this library; or
    /// if the program is linked with a SQLite before 3.51.3. Retryable if the disk is full, or another process locks the
    /// file for 20 seconds.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteFile> {
        let path = place::absolute(path.as_ref())?;
        let clock = match self.has_tokio_clock {
            true => Clock::tokio(),
            false => Clock::System,
        };
        let store = Store::open(path, self.synchronous, clock, self.most_pages)?;
        let store = Arc::new(store);
        Ok(SqliteFile {
            queues: SqliteQueues(Arc::clone(&store)),
            scratchpad: SqliteScratchpad {
                store,
                scope: "".into(),
                retention: milliseconds(self.retention),
            },
        })
    }
}

/// An open file: queues and a scratchpad. Cloning it gives another handle on the same; the file is closed when the last one
/// is dropped, queues and scratchpads included.
///
/// ```
/// use catchment::backends::memory::MemoryQueues;
/// use catchment::backends::sqlite::SqliteFile;
/// use catchment::Backend;
///
/// # fn main() -> Result<(), catchment::Error> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("run.db");
/// let file = SqliteFile::open(&path)?;
/// // Any queue goes with any scratchpad.
/// let backend = Backend::new(MemoryQueues::new(), file.scratchpad());
/// # let _ = backend;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SqliteFile {
    queues: SqliteQueues,
    scratchpad: SqliteScratchpad,
}

impl SqliteFile {
    /// Opens a file with the usual settings.
    ///
    /// # Errors
    /// As [`SqliteOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        SqliteOptions::new().open(path)
    }

    /// Its queues.
    pub fn queues(&self) -> SqliteQueues {
        self.queues.clone()
    }

    /// Its scratchpad.
    pub fn scratchpad(&self) -> SqliteScratchpad {
        self.scratchpad.clone()
    }
}
