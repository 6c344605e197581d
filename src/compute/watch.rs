//! How far the work on a packet has come, as another thread may ask.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::trail::{Trace, Trail};
use crate::stage::Progress;

/// The progress of one packet's work.
#[derive(Default)]
pub(super) struct Watch {
    /// Steps that have ended: values of functions and of the sink, and the functions themselves.
    ended: AtomicUsize,
    /// The values of the current step.
    progress: Progress,
    /// While one value goes through all functions by itself, the values of each function after the first. They are not
    /// steps, since the whole of it has one timeout.
    inner: Progress,
    step: Mutex<Step>,
}

/// What is being worked on.
#[derive(Clone, Default)]
pub(super) enum Step {
    /// The values are being read.
    #[default]
    Reading,
    /// A function, by its place in the stage, works on what these values have become.
    Function { place: usize, trace: Trace },
    /// As `Function`, for one value that goes through all functions by itself: the one at this position.
    Value { place: usize, position: usize },
    /// The sink works on the outputs.
    Sink(Trail),
}

impl Step {
    /// The place of the function at work.
    pub(super) fn place(&self) -> Option<usize> {
        match self {
            Self::Function { place, .. } | Self::Value { place, .. } => Some(*place),
            Self::Reading | Self::Sink(_) => None,
        }
    }
}

impl Watch {
    fn step(&self) -> MutexGuard<'_, Step> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current step.
    pub(super) fn current(&self) -> Step {
        self.step().clone()
    }

    /// The next step begins. Returns what its progress is to be written to.
    pub(super) fn begin(&self, step: Step) -> &Progress {
        let progress = match step {
            Step::Value { place, .. } if place > 0 => &self.inner,
            _ => {
                let ended = self.progress.begun() + 1;
                self.ended.fetch_add(ended, Ordering::Relaxed);
                self.progress.reset();
                &self.progress
            }
        };
        self.inner.reset();
        *self.step() = step;
        progress
    }

    /// Changes with each step.
    pub(super) fn begun(&self) -> usize {
        self.ended
            .load(Ordering::Relaxed)
            .wrapping_add(self.progress.begun())
    }

    /// The position in the current step of the value begun last, if the work belongs to one.
    pub(super) fn at(&self) -> Option<usize> {
        self.progress.at()
    }
}
