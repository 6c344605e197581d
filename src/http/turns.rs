//! Submissions of one id take turns, so that a repeated request does not send again what the first one is sending.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::core::id::RunId;

/// Whose turn it is, for each id that is being submitted in this process.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<RunId, Weak<Turn<()>>>>);

impl Turns {
    /// Waits until no other submission has this id. The turn ends when the guard is dropped.
    pub(super) async fn take(&self, id: &RunId) -> OwnedMutexGuard<()> {
        self.turn(id).lock_owned().await
    }

    fn turn(&self, id: &RunId) -> Arc<Turn<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::new(()));
        turns.insert(id.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_submission_of_an_id_at_a_time() {
        let turns = Turns::default();
        let first = turns.take(&"a".into()).await;
        assert!(turns.take(&"b".into()).now_or_never().is_some());
        let id = "a".into();
        let second = turns.take(&id);
        futures::pin_mut!(second);
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[tokio::test]
    async fn ids_whose_turns_are_over_are_forgotten() {
        let turns = Turns::default();
        for n in 0..100 {
            drop(turns.take(&n.to_string().into()).await);
        }
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
