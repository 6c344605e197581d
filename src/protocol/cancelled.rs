//! Which runs are over, looked up seldom: a mark that workers see within a few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::seam::Seam;
use crate::core::id::RunId;

/// Runs remembered before those not looked up lately are dropped.
const REMEMBERED: usize = 1_024;

pub(super) struct Cancelled {
    interval: Duration,
    runs: Mutex<HashMap<RunId, Known>>,
}

#[derive(Clone, Copy)]
struct Known {
    over: bool,
    checked: Instant,
}

impl Cancelled {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            runs: Mutex::default(),
        }
    }

    /// The same where it need not be looked up.
    pub(super) fn known(&self, run: &RunId) -> Option<bool> {
        let now = Instant::now();
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = runs.get(run)?;
        (now.duration_since(known.checked) < self.interval).then_some(known.over)
    }

    /// Whether the run was cancelled, or has its result already, as of the last look. A run is not looked up when
    /// its first message comes, so that a short run costs no request.
    pub(super) async fn check(&self, seam: &Seam, run: &RunId) -> bool {
        let now = Instant::now();
        {
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            match runs.get_mut(run) {
                Some(known) if now.duration_since(known.checked) < self.interval => {
                    return known.over;
                }
                // Others that come meanwhile need not ask as well.
                Some(known) => known.checked = now,
                None => {
                    if runs.len() >= REMEMBERED {
                        runs.retain(|_, known| now.duration_since(known.checked) < self.interval);
                    }
                    let known = Known {
                        over: false,
                        checked: now,
                    };
                    runs.insert(run.clone(), known);
                    return false;
                }
            }
        }
        // An id may be used again after its run has gone, so the answer can change back.
        let over = match seam.site.scratchpad().is_over(run).await {
            Ok(over) => over,
            Err(error) => {
                tracing::warn!(%run, %error, "could not look up whether the run was cancelled");
                return false;
            }
        };
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = runs.get_mut(run) {
            known.over = over;
        }
        over
    }
}
