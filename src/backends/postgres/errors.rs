//! What an error of the server or of its client means for a caller.

use tokio_postgres::Error as ClientError;
use tokio_postgres::error::SqlState;

use crate::core::error::Error;

/// The service, as errors name it.
pub(super) const SERVICE: &str = "postgres";

/// The error of an operation: retryable if the server or the way to it may be well again later.
pub(super) fn failed(operation: &str, place: &str, error: ClientError) -> Error {
    let operation = format!("{operation} at {place}");
    match error.code() {
        Some(code) if is_missing(code) => Error::not_provisioned(
            format!(
                "the schema of catchment or a table of it ({error})",
                error = text(&error)
            ),
            format!("PostgreSQL at {place}"),
        ),
        _ if is_transient(&error) => Error::unavailable(SERVICE, operation, Described(error)),
        _ => Error::refused(SERVICE, operation, Described(error)),
    }
}

/// Whether the table or the schema is not there.
fn is_missing(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::UNDEFINED_COLUMN,
    ]
    .contains(code)
}

/// Whether the same statement may succeed later. An error without a code is one of the connection, unless it is about the
/// configuration or the types of a statement, which the client itself refuses.
pub(super) fn is_transient(error: &ClientError) -> bool {
    let Some(code) = error.code() else {
        return error.is_closed() || has_io_error(error);
    };
    // Connection exceptions, lack of resources (disk full, too many connections, out of memory), and an operator's
    // intervention (shutdown, crash, starting up, statement timeout).
    let classes = ["08", "53", "57", "58"];
    let codes = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        // A server that has become a standby: the primary is elsewhere.
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    let is_dropped = *code == SqlState::DATABASE_DROPPED;
    !is_dropped
        && (codes.contains(code) || classes.iter().any(|class| code.code().starts_with(class)))
}

/// Whether a connection that answered so is of no use any more, although it is open: its server takes no writes.
pub(super) fn ends_connection(error: &ClientError) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

fn has_io_error(error: &ClientError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn text(error: &ClientError) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

/// The server's own words: the client says "db error" and leaves the rest to the source.
#[derive(Debug)]
struct Described(ClientError);

impl std::fmt::Display for Described {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_db_error() {
            Some(error) => {
                write!(formatter, "{} ({})", error.message(), error.code().code())?;
                match error.hint() {
                    Some(hint) => write!(formatter, ": {hint}"),
                    None => Ok(()),
                }
            }
            None => self.0.fmt(formatter),
        }
    }
}

impl std::error::Error for Described {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.0.as_db_error() {
            Some(_) => None,
            None => self.0.source(),
        }
    }
}
