//! How long packets wait for others while input is slow.

use std::time::Duration;

use tokio::time::Instant;

use crate::packet::codec::Form;

/// How long packets wait; and the same if requests are billed.
const LINGER: Duration = Duration::from_millis(2);
const BILLED_LINGER: Duration = Duration::from_secs(1);

/// Packets that wait for others, so that they are sent in one call: when they have waited long enough.
pub(super) struct Linger {
    longest: Duration,
    reading: Reading,
    since: Instant,
}

/// When the clock is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// For every packet.
    Always,
    /// For the first few packets and for every eighth. Inside the process, where nothing is encoded, reading the clock
    /// for every packet would be a noticeable share of a small packet's cost.
    Sparse,
}

impl Linger {
    /// For a queue with this [`batch`](crate::queue::Queue::batch), and messages of this form.
    pub(super) fn new(batch: Option<usize>, form: Form) -> Self {
        Self {
            longest: match batch {
                Some(_) => BILLED_LINGER,
                None => LINGER,
            },
            reading: match form {
                Form::Wire(_) => Reading::Always,
                Form::Local => Reading::Sparse,
            },
            since: Instant::now(),
        }
    }

    /// Whether `packets` waiting packets should not wait for more.
    pub(super) fn is_over(&self, packets: usize) -> bool {
        match self.reading {
            Reading::Sparse if !packets.is_power_of_two() && !packets.is_multiple_of(8) => false,
            Reading::Always | Reading::Sparse => self.since.elapsed() >= self.longest,
        }
    }

    /// The waiting packets were sent, or have just come: the time begins anew.
    pub(super) fn restart(&mut self) {
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::packet::codec::Codec;

    const WIRE: Form = Form::Wire(Codec::Json);
    const TICK: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn packets_wait_longer_for_each_other_if_requests_are_billed() {
        for (batch, longest) in [(None, LINGER), (Some(10), BILLED_LINGER)] {
            let linger = Linger::new(batch, WIRE);
            advance(longest - TICK).await;
            assert!(!linger.is_over(1), "{batch:?}");
            advance(TICK).await;
            assert!(linger.is_over(1), "{batch:?}");
            assert!(linger.is_over(3), "whatever their number: {batch:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_begins_anew_when_packets_were_sent() {
        let mut linger = Linger::new(None, WIRE);
        advance(LINGER).await;
        assert!(linger.is_over(1));
        linger.restart();
        assert!(!linger.is_over(1));
        advance(LINGER).await;
        assert!(linger.is_over(1));
    }

    #[tokio::test(start_paused = true)]
    async fn inside_the_process_the_clock_is_read_for_the_first_packets_and_every_eighth() {
        let linger = Linger::new(None, Form::Local);
        let read = || Vec::from_iter((1..=24).filter(|packets| linger.is_over(*packets)));
        assert!(read().is_empty());
        advance(LINGER).await;
        assert_eq!(read(), [1, 2, 4, 8, 16, 24]);
    }
}
