//! The side channel of an error: why the value is refused, and the path to it.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

use super::Refused;
use crate::core::error::{BoxError, Error};

/// One step from a value to a part of it.
#[derive(Debug)]
pub(super) enum Step {
    Field(&'static str),
    Variant(&'static str),
    /// The position in a tuple.
    Position(usize),
    /// The index in a list.
    Index(usize),
    /// The key of a map, as JSON.
    Key(String),
    /// The position in a map, if the key is no longer known.
    Entry(usize),
}

/// Filled while an error passes through the levels of a value, the innermost first.
#[derive(Default)]
pub(super) struct Trace {
    refused: RefCell<Option<Refused>>,
    /// From the inside to the outside.
    steps: RefCell<Vec<Step>>,
}

impl Trace {
    #[cold]
    pub(super) fn refuse(&self, refused: Refused) {
        // An implementation of `Serialize` may have caught an earlier error and tried something else.
        self.steps.borrow_mut().clear();
        *self.refused.borrow_mut() = Some(refused);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.borrow().is_some()
    }

    /// Records the step at which `error` passes, and returns the error.
    #[cold]
    pub(super) fn pass<E>(&self, step: Step, error: E) -> E {
        self.steps.borrow_mut().push(step);
        error
    }

    /// As [`pass`](Self::pass), at the value of `key`.
    #[cold]
    pub(super) fn pass_key<E>(&self, key: &(impl Serialize + ?Sized), entry: usize, error: E) -> E {
        let step = match serde_json::to_string(key) {
            Ok(key) => Step::Key(key),
            Err(_) => Step::Entry(entry),
        };
        self.pass(step, error)
    }

    /// What is to be said of the value, whose writing ended with `error`.
    #[cold]
    pub(super) fn unwritable(
        self,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Unwritable {
        let mut steps = self.steps.into_inner();
        steps.reverse();
        let problem = match self.refused.into_inner() {
            Some(refused) => refused.into(),
            None => error.into(),
        };
        Unwritable { steps, problem }
    }
}

/// A value that cannot be written, or would not be read back.
#[derive(Debug)]
pub(crate) struct Unwritable {
    /// From the outside to the inside.
    steps: Vec<Step>,
    problem: BoxError,
}

impl Unwritable {
    /// For a list: takes the position of the element off the path and returns it.
    pub(crate) fn take_index(&mut self) -> Option<usize> {
        match self.steps.first() {
            Some(Step::Index(index)) => {
                let index = *index;
                self.steps.remove(0);
                Some(index)
            }
            _ => None,
        }
    }

    /// The error about the value that `what` names.
    pub(crate) fn into_error(self, what: impl Into<String>) -> Error {
        let Self { steps, problem } = self;
        if steps.is_empty() {
            return Error::encode(what, problem);
        }
        let path = Path(&steps).to_string();
        Error::encode(what, At { path, problem })
    }
}

/// For a problem of which the place is not known.
impl From<String> for Unwritable {
    fn from(problem: String) -> Self {
        Self {
            steps: Vec::new(),
            problem: problem.into(),
        }
    }
}

/// Names the part of a value at which something is wrong.
#[derive(Debug, thiserror::Error)]
#[error("at `{path}`")]
struct At {
    path: String,
    #[source]
    problem: BoxError,
}

/// Shows a path as it is written in Rust: `items[3].scores["mean"]`.
struct Path<'a>(&'a [Step]);

impl Path<'_> {
    /// Steps that are shown of a long path: from its beginning and from its end.
    const FIRST: usize = 8;
    const LAST: usize = 4;
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = Self::FIRST..self.0.len().saturating_sub(Self::LAST);
        for (place, step) in self.0.iter().enumerate() {
            if left_out.contains(&place) {
                if place == left_out.start {
                    to.write_str(" … ")?;
                }
                continue;
            }
            let dot = if place == 0 { "" } else { "." };
            match step {
                Step::Field(name) | Step::Variant(name) => write!(to, "{dot}{name}")?,
                Step::Position(position) => write!(to, "{dot}{position}")?,
                Step::Index(index) => write!(to, "[{index}]")?,
                Step::Key(key) => write!(to, "[{key:.80}]")?,
                Step::Entry(entry) => write!(to, "[entry {entry}]")?,
            }
        }
        Ok(())
    }
}
