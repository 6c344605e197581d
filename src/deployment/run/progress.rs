//! A deployed run's progress, as a stream.

mod arrived;
mod stages;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};

use super::Run;
use crate::core::clock::now;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::retry::{Policy, retry};
use crate::core::runtime;
use crate::progress::Progress;
use crate::protocol::site::Site;
use crate::scratchpad::RunState;
use arrived::Arrived;

/// Between two items of the stream, unless set otherwise.
const EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two items.
const LEAST: Duration = Duration::from_millis(1);

impl<R> Run<R> {
    /// The run's progress as a stream: its first item at once, then one every second unless
    /// [set otherwise](ProgressStream::every), and the last one when the run is done, failed or cancelled. Any process can
    /// ask. Each item costs about as much as a [status](Self::status), and nothing is asked between two of them. A stream
    /// that is dropped leaves nothing behind.
    ///
    /// The numbers are those on record, where nothing that is delivered twice counts twice:
    ///
    /// | | is known of |
    /// | --- | --- |
    /// | `total` | every stage, once the input has ended; not after two stages that have left out items, of which the record does not say which one did |
    /// | `received` | the first stage, up to a second late; the reductions |
    /// | `done` | the last map stage before each reduction, the reductions, and the last stage. Where packets had to be cut short for a backend's size limit, the items are estimated from the packets |
    /// | `left_out` | every stage, unless several stages may leave out items |
    /// | `retried`, `waiting` | no stage: workers keep them to themselves |
    ///
    /// Workers would have to write a record for each packet to have the others. The last group of a reduction counts as
    /// reduced once the next reduction has the outcome, or the run is done. Once the run is done, all but the last row is
    /// known. Of a cancelled run the tree is dropped, and the last item repeats the numbers of the item before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use catchment::{Backend, Pipeline, RunState, Stage};
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new()
    ///     .map(|n: i64| n * 2).with(Stage::named("double"))
    ///     .reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    /// let adder = adder.deploy("adder", Backend::memory())?;
    /// let worker = adder.worker().start();
    /// let run = adder.submit(1..=100).await?;
    ///
    /// let mut updates = run.progress().every(Duration::from_millis(100));
    /// let mut last = None;
    /// while let Some(progress) = updates.try_next().await? {
    ///     println!("{progress}");
    ///     last = Some(progress);
    /// }
    /// let last = last.unwrap();
    /// assert_eq!(last.state, RunState::Done);
    /// assert_eq!(last.to_string(), "double 100 of 100 · sum 5 of 5 groups");
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The stream ends with an error if there is one: [`Error::NoSuchRun`] if the run is unknown; [`Error::Backend`] if the
    /// backend refuses the call. An error that may pass does not end it: the call is repeated until it succeeds.
    pub fn progress(&self) -> ProgressStream {
        ProgressStream {
            site: Arc::clone(&self.site),
            run: self.run.clone(),
            every: EVERY,
            stream: None,
        }
    }
}

/// The [progress of a run](Run::progress), as a stream that ends with the run.
#[must_use = "nothing is asked before the stream is polled"]
pub struct ProgressStream {
    site: Arc<Site>,
    run: RunId,
    every: Duration,
    /// `None` until it is first polled.
    stream: Option<BoxStream<'static, Result<Progress>>>,
}

impl fmt::Debug for ProgressStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ProgressStream")
            .field("run", &self.run)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl ProgressStream {
    /// Sets the time between two items: one second by default, at least 1 ms. Over a service, each item is billed.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval.max(LEAST);
        self.stream = None;
        self
    }
}

impl Stream for ProgressStream {
    type Item = Result<Progress>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self {
            site,
            run,
            every,
            stream,
        } = &mut *self;
        let stream = stream.get_or_insert_with(|| {
            let reader = Reader {
                site: Arc::clone(site),
                run: run.clone(),
                last: None,
            };
            reader.stream(*every)
        });
        stream.poll_next_unpin(context)
    }
}

/// Reads a run's progress off the scratchpad.
struct Reader {
    site: Arc<Site>,
    run: RunId,
    last: Option<Progress>,
}

impl Reader {
    fn stream(self, every: Duration) -> BoxStream<'static, Result<Progress>> {
        let updates = stream::unfold(Some(self), move |reader| async move {
            let mut reader = reader?;
            Some(match reader.next(every).await {
                Ok(progress) => {
                    let goes_on = matches!(progress.state, RunState::Open | RunState::Running);
                    (Ok(progress), goes_on.then_some(reader))
                }
                Err(error) => (Err(error), None),
            })
        });
        updates.boxed()
    }

    async fn next(&mut self, every: Duration) -> Result<Progress> {
        self.run.validate()?;
        runtime::check()?;
        if self.last.is_some() {
            tokio::time::sleep(every).await;
        }
        let progress = self.read().await?;
        self.last = Some(progress.clone());
        Ok(progress)
    }

    async fn read(&self) -> Result<Progress> {
        let Self { site, run, last } = self;
        let scratchpad = site.scratchpad();
        let snapshot = retry("status", Policy::FOREVER, || scratchpad.status(run)).await?;
        let snapshot = snapshot.ok_or_else(|| Error::NoSuchRun { run: run.clone() })?;
        let created_at = snapshot.record.created_at;
        let elapsed = now().duration_since(created_at).unwrap_or_default();
        let state = snapshot.state();
        let arrived = match (state, last) {
            (RunState::Cancelled, Some(last)) => {
                return Ok(Progress {
                    elapsed,
                    state,
                    ..last.clone()
                });
            }
            // A run that is over has no tree.
            (RunState::Cancelled | RunState::Done, _) => None,
            _ => Some(Arrived::read(site, &snapshot).await?),
        };
        stages::progress(site, &snapshot, arrived, elapsed)
    }
}
