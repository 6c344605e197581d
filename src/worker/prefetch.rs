//! How many messages to hold in waiting: few where each takes long, so that other workers get
//! theirs, and a run that comes later its turn; many where they are quick, so that no thread waits for
//! the queue.

use std::time::Duration;

use tokio::time::Instant;

/// How long a message may wait for its turn in a worker, where requests are charged for.
const AHEAD: Duration = Duration::from_secs(1);
/// The same where there is no charge, by how long a receive takes: so many times as long, within these bounds. A message that
/// waits in a worker has no turn any more: what a small run waits for is what workers hold of a large one.
const RECEIVES_AHEAD: u32 = 64;
const LEAST_AHEAD: Duration = Duration::from_millis(4);
const MOST_AHEAD: Duration = Duration::from_millis(20);
const FIRST_OF_MEMORY: usize = 10;
const MOST_OF_MEMORY: usize = 512;

pub(super) struct Prefetch {
    fixed: Option<usize>,
    /// How many messages a request takes, where there is a charge for it.
    batch: Option<usize>,
    most: usize,
    /// How long a receive takes that finds messages. Absent if there is a charge for it.
    receive: Option<Duration>,
    /// Moving average of the time per message.
    each: Option<Duration>,
    /// Since when the messages that run have kept the stage busy.
    since: Option<Instant>,
}

impl Prefetch {
    /// `batch` is how many messages a request takes, where there is a charge for it.
    pub(super) fn new(fixed: Option<usize>, batch: Option<usize>) -> Self {
        let (most, receive) = match batch {
            // A full request while another is being worked off.
            Some(batch) => (2 * batch, None),
            None => (MOST_OF_MEMORY, Some(Duration::ZERO)),
        };
        Self {
            fixed,
            batch,
            most,
            receive,
            each: None,
            since: None,
        }
    }

    /// How many messages to hold beyond those that run.
    pub(super) fn messages(&self) -> usize {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let is_charged = self.batch.is_some();
        let Some(each) = self.each else {
            return if is_charged { 0 } else { FIRST_OF_MEMORY };
        };
        let ahead = self.ahead().as_nanos() / each.as_nanos().max(1);
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        ahead.clamp(usize::from(!is_charged), self.most)
    }

    /// How long a message may wait for its turn in the worker.
    fn ahead(&self) -> Duration {
        match self.receive {
            None => AHEAD,
            Some(receive) => (receive * RECEIVES_AHEAD).clamp(LEAST_AHEAD, MOST_AHEAD),
        }
    }

    /// A receive has brought messages, and took this long. It may have waited for them: the shortest ones count.
    pub(super) fn received(&mut self, took: Duration) {
        const MORE: Duration = Duration::from_micros(10);
        if let Some(receive) = &mut self.receive {
            *receive = took.min(*receive + *receive / 4 + MORE);
        }
    }

    /// How many messages to ask for now, if any: so many wait already, and so many more could be
    /// begun at once.
    pub(super) fn wanted(&self, waiting: usize, idle: usize) -> Option<usize> {
        let messages = self.messages();
        if waiting > messages / 2 {
            return None;
        }
        let missing = messages.saturating_sub(waiting);
        match (self.fixed, self.batch) {
            (None, Some(batch)) => {
                let idle = idle.saturating_sub(waiting).min(batch);
                (missing + idle > 0).then_some(missing + idle)
            }
            _ => Some(missing.max(1)),
        }
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
        let mut prefetch = Prefetch::new(None, batch);
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
            [(0, 20, 512), (1, 20, 4), (100, 10, 1), (5_000, 0, 1)]
        {
            let each = Duration::from_millis(millis);
            assert_eq!(after(each, Some(10)).await, of_a_service, "{each:?}");
            assert_eq!(after(each, None).await, of_memory, "{each:?}");
        }
        assert_eq!(Prefetch::new(Some(7), Some(10)).messages(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_a_receive_takes_the_more_is_held() {
        let mut prefetch = Prefetch::new(None, None);
        for _ in 0..20 {
            prefetch.begin();
            advance(Duration::from_micros(100)).await;
            prefetch.worked(1, false);
        }
        assert_eq!(prefetch.messages(), 40);
        (0..40).for_each(|_| prefetch.received(Duration::from_micros(100)));
        assert_eq!(prefetch.messages(), 64);
        (0..40).for_each(|_| prefetch.received(Duration::from_millis(1)));
        assert_eq!(prefetch.messages(), 200);
        // One that has waited for a message says nothing of what receiving takes.
        prefetch.received(Duration::from_micros(20));
        prefetch.received(Duration::from_secs(20));
        assert_eq!(prefetch.messages(), 40);
    }

    #[test]
    fn of_messages_that_nobody_knows_only_those_are_taken_that_begin_at_once() {
        let unknown = Prefetch::new(None, Some(10));
        assert_eq!(unknown.wanted(0, 2), Some(2));
        assert_eq!(unknown.wanted(0, 300), Some(10));
        assert_eq!(unknown.wanted(0, 0), None);
        let fixed = Prefetch::new(Some(4), Some(10));
        assert_eq!((fixed.wanted(2, 0), fixed.wanted(3, 0)), (Some(2), None));
    }
}
