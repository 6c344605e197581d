//! Backoff: the wait before a retry.

use std::time::Duration;

/// How long a failed item waits for its next attempt: exponential, with full jitter, so that items
/// which failed together are not tried again together. The n-th wait is drawn evenly from zero to
/// `base · 2^(n-1)`, at most `cap`.
///
/// A stage without a [`backoff`](crate::Stage::backoff) of its own has
/// [`in_process`](Self::in_process) in a run inside the process, and [`deployed`](Self::deployed) in
/// a deployment.
///
/// The scheme is the "full jitter" of Marc Brooker, *Exponential Backoff And Jitter*, AWS
/// Architecture Blog, 2015.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// From 50 milliseconds to 10 seconds: the default of [`Pipeline::run`](crate::Pipeline::run), whose
    /// caller waits. Five attempts wait for 0.4 seconds altogether on average, at most 0.75.
    pub const fn in_process() -> Self {
        Self::exponential(Duration::from_millis(50), Duration::from_secs(10))
    }

    /// From 1 second to 5 minutes: the default of a [`Deployment`](crate::Deployment), over memory too.
    /// Five attempts wait for 7.5 seconds altogether on average, at most 15.
    pub const fn deployed() -> Self {
        Self::exponential(Duration::from_secs(1), Duration::from_secs(300))
    }

    /// From `base` for the first wait, doubling, up to `cap`. A stage with a `base` above its `cap` is
    /// refused when the pipeline is deployed or run.
    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// No wait at all.
    pub const fn none() -> Self {
        Self::exponential(Duration::ZERO, Duration::ZERO)
    }

    /// The longest possible wait after attempt number `attempt`, counted from 1.
    ///
    /// ```
    /// use std::time::Duration;
    /// use catchment::Backoff;
    /// let backoff = Backoff::deployed();
    /// assert_eq!(backoff.longest(1), Duration::from_secs(1));
    /// assert_eq!(backoff.longest(4), Duration::from_secs(8));
    /// assert_eq!(backoff.longest(40), Duration::from_secs(300));
    /// ```
    pub fn longest(&self, attempt: u32) -> Duration {
        let mut longest = self.base;
        let mut doublings = attempt.saturating_sub(1);
        while doublings > 0 && longest < self.cap && !longest.is_zero() {
            let step = doublings.min(31);
            longest = longest.saturating_mul(1 << step);
            doublings -= step;
        }
        longest.min(self.cap)
    }

    /// The `base` and the `cap`, if they are the wrong way round.
    pub(crate) fn reversed(&self) -> Option<(Duration, Duration)> {
        (self.base > self.cap).then_some((self.base, self.cap))
    }

    /// Draws the wait after this attempt.
    pub(crate) fn draw(&self, attempt: u32) -> Duration {
        self.longest(attempt).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_comes_to_its_cap_however_small_the_base_is() {
        const CAP: Duration = Duration::from_secs(300);
        let backoff = Backoff::exponential(Duration::from_nanos(1), CAP);
        assert_eq!(backoff.longest(33), Duration::from_nanos(1 << 32));
        assert_eq!(backoff.longest(60), CAP);
        assert_eq!(backoff.longest(u32::MAX), CAP);
        assert_eq!(Backoff::none().longest(u32::MAX), Duration::ZERO);
        let endless = Backoff::exponential(Duration::MAX, Duration::MAX);
        assert!((1..1_000).all(|attempt| endless.draw(attempt) <= Duration::MAX));
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let backoff = Backoff::deployed();
        for attempt in 1..12 {
            let longest = backoff.longest(attempt);
            assert!((0..200).all(|_| backoff.draw(attempt) <= longest));
            assert!((0..200).any(|_| backoff.draw(attempt) > longest / 2));
            assert!((0..200).any(|_| backoff.draw(attempt) < longest / 2));
        }
    }
}
