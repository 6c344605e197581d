//! What can go wrong in the file, and the sentence that says so.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::core::error::{BoxError, Error};

/// The service, as errors name it.
pub(super) const SERVICE: &str = "sqlite";

/// Why an operation in a transaction did not succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite's own error. The whole transaction is rolled back.
    Sql(rusqlite::Error),
    /// The operation has been refused before it wrote anything; its neighbours are not concerned.
    Refused(Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Trouble {
    /// The error for the caller of `operation` on the file at `path`.
    pub(super) fn into_error(self, operation: &str, path: &Path) -> Error {
        match self {
            Self::Sql(error) => describe(error, operation, path),
            Self::Refused(error) => error,
        }
    }
}

/// SQLite's error with a sentence that says what it means and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{advice} ({source})")]
struct Explained {
    advice: &'static str,
    source: rusqlite::Error,
}

/// The error for the caller of `operation` on the file at `path`. It is retryable if time may cure it.
pub(super) fn describe(error: rusqlite::Error, operation: &str, path: &Path) -> Error {
    let (is_retryable, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            true,
            "another process has kept the file locked for too long: end it if it hangs, or close a transaction that was left open in a database tool",
        ),
        Some(ErrorCode::DiskFull) => (
            true,
            "the disk is full: what has been written before is safe, and work goes on once there is room",
        ),
        Some(ErrorCode::ReadOnly) => (
            false,
            "the file is read-only: this process may not write to it or to its folder, or the file system is mounted read-only",
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            false,
            "the file is damaged: restore it from a copy, or save what `sqlite3 FILE .recover` can read, and begin with a new file",
        ),
        Some(ErrorCode::NotADatabase) => (
            false,
            "the file is not a SQLite database: give the path of a file that this library has made, or of none",
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => (
            false,
            "the file cannot be opened: its folder has to exist, and this process has to be allowed to make files in it",
        ),
        Some(ErrorCode::SystemIoFailure) => (true, "the file system reports an error"),
        Some(ErrorCode::TooBig) => (false, "a value is larger than SQLite takes"),
        _ => (false, "SQLite refused the operation"),
    };
    let explained = Explained {
        advice,
        source: error,
    };
    failed(operation, path, is_retryable, explained)
}

/// An error that `problem` has prevented `operation`.
pub(super) fn failed(
    operation: &str,
    path: &Path,
    is_retryable: bool,
    problem: impl Into<BoxError>,
) -> Error {
    let operation = format!("{operation} in {}", path.display());
    Error::backend(SERVICE, operation, is_retryable, problem)
}
