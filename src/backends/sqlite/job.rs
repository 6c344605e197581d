//! Operations on their way to the thread that writes, and their answers on the way back.

use std::cell::RefCell;
use std::path::Path;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::notices::Effects;
use super::trouble::Trouble;
use crate::core::error::Result;

/// A transaction, as an operation sees it.
pub(super) struct Session<'a> {
    pub(super) db: &'a Connection,
    pub(super) effects: &'a RefCell<Effects>,
}

/// An operation that writes. It may run several times, each time in a transaction of which nothing has remained.
pub(super) trait Job: Send {
    /// Whether somebody still waits for the answer.
    fn is_wanted(&self) -> bool;

    /// Runs the operation in a transaction, and keeps its answer.
    ///
    /// # Errors
    /// SQLite's: the whole transaction has to be rolled back then. A refusal is an answer.
    fn run(&mut self, session: &Session<'_>) -> Result<(), rusqlite::Error>;

    /// Gives the answer, now that the transaction is durable. Returns what has to be done if nobody takes it.
    fn answer(self: Box<Self>) -> Option<Box<dyn Job>>;

    /// Says that the operation has failed.
    fn fail(self: Box<Self>, error: rusqlite::Error, path: &Path);
}

/// Makes the job that undoes an operation whose answer nobody has taken.
pub(super) type Undo<T> = Box<dyn FnOnce(T) -> Option<Box<dyn Job>> + Send>;

pub(super) struct Task<T, F> {
    pub(super) operation: String,
    pub(super) run: F,
    pub(super) outcome: Option<Result<T>>,
    pub(super) reply: oneshot::Sender<Result<T>>,
    pub(super) undo: Option<Undo<T>>,
    /// Whether it is left out if nobody waits for it any more.
    pub(super) is_optional: bool,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&Session<'_>) -> Result<T, Trouble> + Send,
{
    fn is_wanted(&self) -> bool {
        !(self.is_optional && self.reply.is_closed())
    }

    fn run(&mut self, session: &Session<'_>) -> Result<(), rusqlite::Error> {
        self.outcome = match (self.run)(session) {
            Ok(value) => Some(Ok(value)),
            Err(Trouble::Refused(error)) => Some(Err(error)),
            Err(Trouble::Sql(error)) => return Err(error),
        };
        Ok(())
    }

    fn answer(self: Box<Self>) -> Option<Box<dyn Job>> {
        match self.reply.send(self.outcome?) {
            Err(Ok(value)) => (self.undo?)(value),
            _ => None,
        }
    }

    fn fail(self: Box<Self>, error: rusqlite::Error, path: &Path) {
        let error = Trouble::Sql(error).into_error(&self.operation, path);
        // Nobody may wait any more.
        let _ = self.reply.send(Err(error));
    }
}
