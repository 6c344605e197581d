//! How many messages to hold in waiting: few where each takes long, so that other workers get theirs; many where they
//! are quick, so that nobody waits for the queue.

use std::time::Duration;

use tokio::time::Instant;

/// How long a message may wait for its turn in a worker, where requests are charged for.
const AHEAD: Duration = Duration::from_secs(1);
/// The same where receiving costs next to nothing.
const AHEAD_OF_MEMORY: Duration = Duration::from_millis(20);
const FIRST_OF_MEMORY: usize = 10;
const MOST_OF_MEMORY: usize = 512;

pub(super) struct Prefetch {
    fixed: Option<usize>,
    first: usize,
    most: usize,
    ahead: Duration,
    /// What one message takes, as of late, with all that run at once.
    each: Option<Duration>,
    /// Since when the messages that run have kept the stage busy.
    since: Option<Instant>,
}

impl Prefetch {
    /// `batch` is how many messages a request takes, where there is a charge for it; `runners` how many run at once.
    pub(super) fn new(fixed: Option<usize>, batch: Option<usize>, runners: usize) -> Self {
        let (first, most, ahead) = match batch {
            // A full request while another is being worked off.
            Some(batch) => (runners.min(batch), 2 * batch, AHEAD),
            None => (FIRST_OF_MEMORY, MOST_OF_MEMORY, AHEAD_OF_MEMORY),
        };
        Self {
            fixed,
            first: first.max(1),
            most,
            ahead,
            each: None,
            since: None,
        }
    }

    pub(super) fn messages(&self) -> usize {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let Some(each) = self.each else {
            return self.first;
        };
        let ahead = self.ahead.as_nanos() / each.as_nanos().max(1);
        usize::try_from(ahead)
            .unwrap_or(usize::MAX)
            .clamp(1, self.most)
    }

    /// Messages have begun where none ran.
    pub(super) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// So many have been worked off; whether others still run.
    pub(super) fn worked(&mut self, messages: usize, more_run: bool) {
        let now = Instant::now();
        if let Some(since) = self.since
            && messages > 0
        {
            let count = u32::try_from(messages).unwrap_or(u32::MAX);
            let took = now.duration_since(since) / count;
            // A moving mean: what happens once in a while does not turn everything over.
            self.each = Some(self.each.map_or(took, |each| (each * 3 + took) / 4));
        }
        self.since = more_run.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    async fn after(each: Duration, batch: Option<usize>) -> usize {
        let mut prefetch = Prefetch::new(None, batch, 2);
        for _ in 0..20 {
            prefetch.begin();
            advance(each * 4).await;
            prefetch.worked(4, false);
            advance(Duration::from_secs(60)).await;
        }
        prefetch.messages()
    }

    #[tokio::test(start_paused = true)]
    async fn quick_messages_are_taken_in_bulk_and_slow_ones_one_by_one() {
        for (millis, of_a_service, of_memory) in
            [(0, 20, 512), (1, 20, 20), (100, 10, 1), (5_000, 1, 1)]
        {
            let each = Duration::from_millis(millis);
            assert_eq!(after(each, Some(10)).await, of_a_service, "{each:?}");
            assert_eq!(after(each, None).await, of_memory, "{each:?}");
        }
        assert_eq!(Prefetch::new(None, Some(10), 2).messages(), 2);
        assert_eq!(Prefetch::new(Some(7), Some(10), 2).messages(), 7);
    }
}
