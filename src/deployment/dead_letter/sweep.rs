//! Going through all dead letters, page by page, while they are being dealt with.

use std::sync::Arc;

use super::{DeadLetter, Queued, Whose};
use crate::core::error::Result;
use crate::core::page::Cursor;
use crate::protocol::site::Site;
use crate::queue::Queue;

/// Dead letters of one page.
const AT_ONCE: usize = 500;

/// All dead letters of a deployment or of one run, one page in memory at a time.
///
/// A queue that has no cursors shows some of its letters; the rest can only be seen once these are gone. So a pass that
/// left some out is followed by another, for as long as the letters it finds do go.
pub(super) struct Sweep<'a> {
    site: &'a Site,
    run: Option<&'a Whose>,
    cursor: Option<Cursor>,
    /// Whether the pass has come to its end.
    has_ended: bool,
    /// Whether the pass has left some out.
    truncated: bool,
    /// Letters that went in this pass.
    gone: usize,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(site: &'a Site, run: Option<&'a Whose>) -> Self {
        Self {
            site,
            run,
            cursor: None,
            has_ended: false,
            truncated: false,
            gone: 0,
        }
    }

    /// The next page; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Queued>>> {
        if self.has_ended {
            if !self.truncated || self.gone == 0 {
                return Ok(None);
            }
            (self.has_ended, self.truncated, self.gone) = (false, false, 0);
        }
        let page = self
            .site
            .dead_letters(self.run, self.cursor.as_ref(), AT_ONCE);
        let page = page.await?;
        self.truncated |= page.truncated;
        self.cursor = page.next;
        self.has_ended = self.cursor.is_none();
        Ok(Some(page.items))
    }

    /// Notes that letters have left their dead-letter queue.
    pub(super) fn note_gone(&mut self, letters: usize) {
        self.gone += letters;
    }

    /// Whether there may be letters that the sweep has not shown.
    pub(super) fn may_have_more(&self) -> bool {
        !self.has_ended || self.truncated
    }
}

/// The letters of each queue together, in their order.
pub(super) fn by_queue(letters: Vec<Queued>) -> Vec<(Arc<dyn Queue>, Vec<DeadLetter>)> {
    let mut batches: Vec<(Arc<dyn Queue>, Vec<DeadLetter>)> = Vec::new();
    for (queue, letter) in letters {
        match batches.last_mut() {
            Some((last, batch)) if Arc::ptr_eq(last, &queue) => batch.push(letter),
            _ => batches.push((queue, vec![letter])),
        }
    }
    batches
}
