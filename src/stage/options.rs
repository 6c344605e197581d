//! The options of a stage, their defaults and their checks.

use std::fmt::Display;
use std::time::Duration;

use super::label::Labeller;
use super::problem::OptionProblem;
use super::share;
use crate::core::backoff::Backoff;
use crate::core::cores::cores;
use crate::core::tree::{MAX_FAN_IN, MIN_FAN_IN};
use crate::queue::{DEFAULT_ATTEMPTS, DEFAULT_VISIBILITY_TIMEOUT, QueueOptions};

const DEFAULT_FAN_IN: u32 = 32;
const DEFAULT_IN_FLIGHT: usize = 64;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15 * 60);
pub(super) const MAX_PACKET_SIZE: u32 = 1_000_000;

/// Options of the stage that was just added, given to [`Pipeline::with`](crate::Pipeline::with).
/// Options that are not set keep their defaults.
///
/// ```
/// use std::time::Duration;
/// use catchment::{Backoff, OnFailure, Pipeline, Stage};
///
/// let pages = Pipeline::new()
///     .then(|url: String| async move { Ok::<_, std::io::Error>(url.len() as u64) })
///     .with(
///         Stage::named("fetch")
///             .concurrency(200)
///             .timeout(Duration::from_secs(30))
///             .attempts(3)
///             .backoff(Backoff::exponential(Duration::from_millis(200), Duration::from_secs(20)))
///             .rate_limit(50, Duration::from_secs(1))
///             .on_failure(OnFailure::Skip),
///     )
///     .reduce(|| 0, |a, b| a + b)
///     .with(Stage::named("total").fan_in(8));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Stage {
    name: Option<String>,
    concurrency: Option<usize>,
    timeout: Option<Duration>,
    attempts: Option<u32>,
    backoff: Option<Backoff>,
    rate_limit: Option<RateLimit>,
    packet_size: Option<u32>,
    fan_in: Option<u32>,
    on_failure: Option<OnFailure>,
    visibility_timeout: Option<Duration>,
    label: Option<Labeller>,
}

impl Stage {
    /// No option set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the stage: its queue is `{deployment}--{name}`. ASCII letters, digits, `-` and `_`; no `--`,
    /// and no `-` at the beginning or the end. By default a stage is called `map-0`, `reduce-1`, … by its position.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::default()
        }
    }

    /// Sets the concurrency of this stage in one worker. For an asynchronous stage: the number of
    /// items in flight, over all its packets (default 64). For a CPU-bound one: the number of
    /// packets or groups (default: the number of the machine's cores).
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    /// Sets the time limit of one attempt at an item, or at a group (default 15 minutes). An
    /// asynchronous function is dropped then. A CPU-bound one cannot be stopped from outside: its
    /// thread continues, its outcome is ignored, and the attempt counts as failed. The timeout of
    /// such a function is noticed up to a quarter late. A worker bears a
    /// [limited number](crate::Worker::max_lost_threads) of such threads. They do not keep the
    /// process from its end.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the number of attempts at an item (default 5): once that many have failed, or one with
    /// a [permanent](crate::permanent) error, the item has failed for good, and
    /// [`on_failure`](Self::on_failure) applies. Each item has attempts of its own, whatever becomes of
    /// the others in its packet. In a reduction, a group is one item.
    ///
    /// An attempt is work that has begun, whether it fails or its process dies: an item that kills
    /// every worker is caught as well. A delivery that was handed back unbegun is no attempt.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Sets how long a failed item waits for its next attempt (default: [`Backoff::in_process`] in
    /// [`Pipeline::run`](crate::Pipeline::run), [`Backoff::deployed`] in a deployment). Waiting items
    /// take no thread, and none of the stage's [`concurrency`](Self::concurrency).
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Limits each worker to `items` in each period `per` (default: no limit). An asynchronous
    /// stage spreads its items evenly; a CPU-bound one waits before each packet.
    pub fn rate_limit(mut self, items: u32, per: Duration) -> Self {
        self.rate_limit = Some(RateLimit { items, per });
        self
    }

    /// Sets the number of items per packet. Only the pipeline's first stage has this option, since
    /// only the input is cut into packets. Default: one item for up to 1,000 items, then as many as
    /// make a thousand packets, at most 1,024. A packet has fewer if its message would not fit the
    /// queue, or if more than a quarter of that would be taken while another map stage follows.
    pub fn packet_size(mut self, items: u32) -> Self {
        self.packet_size = Some(items);
        self
    }

    /// Sets the number of packets a reduction combines at once (default 32, at least 2, at most
    /// 1,000).
    pub fn fan_in(mut self, packets: u32) -> Self {
        self.fan_in = Some(packets);
        self
    }

    /// Sets what happens when an item has used up its attempts (default: [`OnFailure::Fail`]).
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = Some(on_failure);
        self
    }

    /// Sets how long a message of this stage stays hidden from other workers without a heartbeat
    /// (default 30 s). The messages of a worker that dies are delivered again after this time; a
    /// living worker sends a heartbeat at half of it, however long its work takes.
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_timeout = Some(timeout);
        self
    }

    /// Sets what failures, dead letters and log lines call an item, such as `invoice 4711`: a function of the item as
    /// this stage's first function gets it. Without this option the label is the beginning of the item's JSON, up to 60
    /// characters, unless the deployment writes in another codec: then there is none.
    ///
    /// A label has at most 200 characters; a longer one is cut and ends with `…`. Control characters become escapes, so
    /// that it stays on one line. An empty label is none.
    ///
    /// The function is called only for an item that has failed, with a clone of it. It runs on a thread of the worker, so
    /// it should be quick. If it panics, the item has no label, and a warning is logged once.
    ///
    /// **Labels are stored and shown with the failures.** If items contain secrets, set a label that leaves them
    /// out: then an item's JSON is never its label, even if the function returns nothing or panics. The errors of your
    /// functions, and of values that cannot be read, are shown as they are.
    ///
    /// # Errors
    /// [`Error::InvalidPipeline`](crate::Error::InvalidPipeline) when the pipeline is run or deployed: if `T` is not the type
    /// of this stage's items, or if this stage is a reduction or comes after one.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline, Stage};
    ///
    /// let sizes = Pipeline::new()
    ///     .then(|url: String| async move { Ok::<_, std::io::Error>(url.len() as u64) })
    ///     .with(Stage::named("fetch").label(|url: &String| url.clone()))
    ///     .map(|size| size * 2)
    ///     .with(Stage::named("double").label(|size: &u64| format!("a page of {size} bytes")))
    ///     .reduce(|| 0, |a, b| a + b);
    /// assert!(sizes.deploy("sizes", Backend::memory()).is_ok());
    /// ```
    pub fn label<T, L>(mut self, label: impl Fn(&T) -> L + Send + Sync + 'static) -> Self
    where
        T: 'static,
        L: Display,
    {
        self.label = Some(Labeller::new(label));
        self
    }

    /// These options; the earlier ones if not set.
    pub(crate) fn over(self, earlier: Self) -> Self {
        Self {
            name: self.name.or(earlier.name),
            concurrency: self.concurrency.or(earlier.concurrency),
            timeout: self.timeout.or(earlier.timeout),
            attempts: self.attempts.or(earlier.attempts),
            backoff: self.backoff.or(earlier.backoff),
            rate_limit: self.rate_limit.or(earlier.rate_limit),
            packet_size: self.packet_size.or(earlier.packet_size),
            fan_in: self.fan_in.or(earlier.fan_in),
            on_failure: self.on_failure.or(earlier.on_failure),
            visibility_timeout: self.visibility_timeout.or(earlier.visibility_timeout),
            label: self.label.or(earlier.label),
        }
    }

    /// Checks these options for a stage in this place, and fills in the defaults.
    pub(crate) fn resolve(&self, place: Place) -> Result<StageOptions, OptionProblem> {
        self.check_place(place)?;
        let options = self.or_defaults(place);
        options.check_zeros()?;
        options.check_ranges()?;
        Ok(options)
    }

    /// Each option must mean something for a stage in this place.
    fn check_place(&self, place: Place) -> Result<(), OptionProblem> {
        let skips = |policy| policy != OnFailure::Fail;
        let rules = [
            (
                self.packet_size.is_some() && !place.first,
                "packet_size",
                "the pipeline's first stage",
            ),
            (
                self.fan_in.is_some() && !place.reduction,
                "fan_in",
                "a reduction",
            ),
            (
                self.label.is_some() && !place.items,
                "label",
                "a stage that works on items, before the reduction",
            ),
            (
                self.on_failure.is_some_and(skips) && !place.items,
                "leaving out items with on_failure",
                "a stage that works on items, before the reduction",
            ),
        ];
        let misplaced = rules.into_iter().find(|(is_misplaced, ..)| *is_misplaced);
        match misplaced {
            Some((_, option, owner)) => Err(OptionProblem::Misplaced { option, owner }),
            None => Ok(()),
        }
    }

    fn or_defaults(&self, place: Place) -> StageOptions {
        let concurrency = self.concurrency.unwrap_or(match place.asynchronous {
            true => DEFAULT_IN_FLIGHT,
            false => cores(),
        });
        StageOptions {
            concurrency,
            own_timeout: self.timeout,
            own_backoff: self.backoff,
            rate_limit: self.rate_limit,
            packet_size: self.packet_size,
            fan_in: self.fan_in.unwrap_or(DEFAULT_FAN_IN),
            on_failure: self.on_failure.unwrap_or_default(),
            queue: QueueOptions {
                visibility_timeout: self
                    .visibility_timeout
                    .unwrap_or(DEFAULT_VISIBILITY_TIMEOUT),
                attempts: self.attempts.unwrap_or(DEFAULT_ATTEMPTS),
            },
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn labeller(&self) -> Option<&Labeller> {
        self.label.as_ref()
    }
}

/// The position of a stage, which decides which options it may have.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) first: bool,
    pub(crate) reduction: bool,
    /// It works on the items of the array: a map stage before the first reduction.
    pub(crate) items: bool,
    pub(crate) asynchronous: bool,
}

/// Checked options, with the defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct StageOptions {
    pub(crate) concurrency: usize,
    /// The timeout that was asked for, rather than the default.
    pub(crate) own_timeout: Option<Duration>,
    /// The backoff that was asked for, rather than the default.
    own_backoff: Option<Backoff>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) packet_size: Option<u32>,
    pub(crate) fan_in: u32,
    pub(crate) on_failure: OnFailure,
    pub(crate) queue: QueueOptions,
}

impl StageOptions {
    pub(crate) fn timeout(&self) -> Duration {
        self.own_timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// How long failed items wait, in a run inside the process or in a deployment.
    pub(crate) fn backoff(&self, in_process: bool) -> Backoff {
        self.own_backoff.unwrap_or(match in_process {
            true => Backoff::in_process(),
            false => Backoff::deployed(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RateLimit {
    pub(crate) items: u32,
    pub(crate) per: Duration,
}

impl StageOptions {
    fn check_zeros(&self) -> Result<(), OptionProblem> {
        let rules = [
            (
                self.concurrency == 0,
                "concurrency",
                "nothing would ever run; use at least 1",
            ),
            (
                self.queue.attempts == 0,
                "attempts",
                "every message would be a dead letter at once; use at least 1",
            ),
            (
                self.timeout().is_zero(),
                "timeout",
                "every call would fail; use a positive duration",
            ),
            (
                self.queue.visibility_timeout.is_zero(),
                "visibility_timeout",
                "every message would be delivered without end; use a positive duration",
            ),
            (
                self.rate_limit.is_some_and(|rate| rate.items == 0),
                "rate_limit",
                "nothing would ever run; use at least 1 item",
            ),
            (
                self.rate_limit.is_some_and(|rate| rate.per.is_zero()),
                "rate_limit's time",
                "there would be no limit; use a positive duration, or leave the option out",
            ),
        ];
        match rules.into_iter().find(|(is_zero, ..)| *is_zero) {
            Some((_, option, advice)) => Err(OptionProblem::Zero { option, advice }),
            None => Ok(()),
        }
    }

    fn check_ranges(&self) -> Result<(), OptionProblem> {
        if !(MIN_FAN_IN..=MAX_FAN_IN).contains(&self.fan_in) {
            return Err(OptionProblem::FanIn(self.fan_in));
        }
        if let Some(size) = self.packet_size
            && !(1..=MAX_PACKET_SIZE).contains(&size)
        {
            return Err(OptionProblem::PacketSize(size));
        }
        if let Some((base, cap)) = self.own_backoff.and_then(|backoff| backoff.reversed()) {
            return Err(OptionProblem::Backoff { base, cap });
        }
        match self.on_failure {
            OnFailure::TolerateShare(share) if !(0.0..=100.0).contains(&share) => {
                Err(OptionProblem::Share(share))
            }
            _ => Ok(()),
        }
    }
}

/// What happens to an item that has used up its attempts, or failed with a
/// [permanent](crate::permanent) error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum OnFailure {
    /// Its packet becomes a dead letter and the run fails, at once. After the cause is fixed,
    /// [`Run::redrive`](crate::Run::redrive) completes the run.
    #[default]
    Fail,
    /// The item is left out, listed and counted; the rest of its packet stays in the result. There is
    /// no dead letter of it, and a redrive does not try it again.
    Skip,
    /// Like `Skip` for up to this many items of the run; with one more, the run fails. The items
    /// that other stages left out count as well.
    Tolerate(u64),
    /// Like `Skip` for up to this share of the array's items, in per cent; above it, the run fails.
    /// The items that other stages left out count as well. The share is the decimal number that was
    /// written, and the comparison is exact: 69 of 375 items are within `TolerateShare(18.4)`. While
    /// the length of a streamed input is not known yet, items are skipped, and the share is checked
    /// when the result is made.
    TolerateShare(f64),
}

impl OnFailure {
    /// Whether items are left out up to a limit.
    pub(crate) fn has_limit(&self) -> bool {
        matches!(self, Self::Tolerate(_) | Self::TolerateShare(_))
    }

    /// Whether the policy tolerates `skipped` items. A share of an unknown length is always
    /// tolerated.
    pub(crate) fn tolerates(&self, skipped: u64, array_length: Option<u64>) -> bool {
        match (*self, array_length) {
            (Self::Fail, _) => skipped == 0,
            (Self::Skip, _) | (Self::TolerateShare(_), None) => true,
            (Self::Tolerate(most), _) => skipped <= most,
            (Self::TolerateShare(share), Some(length)) => share::is_within(skipped, length, share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Place = Place {
        first: true,
        reduction: true,
        items: true,
        asynchronous: false,
    };

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        let problem = |stage: Stage| stage.resolve(ANY).unwrap_err().to_string();
        assert!(problem(Stage::new().fan_in(1)).contains("fan_in is 1"));
        assert!(problem(Stage::new().attempts(0)).contains("attempts is 0"));
        assert!(problem(Stage::new().concurrency(0)).contains("concurrency is 0"));
        assert!(problem(Stage::new().packet_size(0)).contains("packet_size is 0"));
        assert!(problem(Stage::new().timeout(Duration::ZERO)).contains("timeout is 0"));
        assert!(problem(Stage::new().rate_limit(0, Duration::ZERO)).contains("rate_limit is 0"));
        let endless = problem(Stage::new().rate_limit(5, Duration::ZERO));
        assert!(endless.contains("rate_limit's time is 0"), "{endless}");
        let reversed = Backoff::exponential(Duration::from_secs(20), Duration::from_millis(1500));
        assert_eq!(
            problem(Stage::new().backoff(reversed)),
            "backoff begins at 20s and is capped at 1.5s: give the shorter wait first"
        );
        for share in [f64::NAN, f64::INFINITY, -1e-300, 100.000_000_000_000_01] {
            let share = OnFailure::TolerateShare(share);
            assert!(problem(Stage::new().on_failure(share)).contains("per cent"));
        }
    }

    #[test]
    fn a_backoff_is_what_was_asked_for_or_fits_the_place_of_the_run() {
        let options = |stage: Stage| stage.resolve(ANY).unwrap();
        assert_eq!(options(Stage::new()).backoff(true), Backoff::in_process());
        assert_eq!(options(Stage::new()).backoff(false), Backoff::deployed());
        let own = options(Stage::new().backoff(Backoff::none()));
        assert_eq!(
            [true, false].map(|place| own.backoff(place)),
            [Backoff::none(); 2]
        );
    }

    #[test]
    fn options_stand_where_they_mean_something() {
        let map = Place {
            first: false,
            reduction: false,
            items: false,
            asynchronous: true,
        };
        for stage in [
            Stage::new().fan_in(3),
            Stage::new().packet_size(3),
            Stage::new().on_failure(OnFailure::Skip),
            Stage::new().label(|item: &u64| *item),
        ] {
            let problem = stage.resolve(map).unwrap_err();
            assert!(matches!(problem, OptionProblem::Misplaced { .. }));
        }
        assert_eq!(Stage::new().resolve(map).unwrap().concurrency, 64);
    }

    #[test]
    fn tolerance_is_inclusive() {
        assert!(OnFailure::Tolerate(2).tolerates(2, None));
        assert!(!OnFailure::Tolerate(2).tolerates(3, None));
        assert!(OnFailure::TolerateShare(18.4).tolerates(69, Some(375)));
        assert!(!OnFailure::TolerateShare(18.4).tolerates(70, Some(375)));
        assert!(OnFailure::TolerateShare(1.0).tolerates(1, Some(100)));
        assert!(!OnFailure::TolerateShare(1.0).tolerates(2, Some(100)));
        assert!(!OnFailure::Fail.tolerates(1, Some(100)));
    }
}
