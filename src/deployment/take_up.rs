//! Taking submissions out of the outbox, and making runs of them: what a worker does beside its messages.
//!
//! A submission becomes the run of its id by the same steps as one of [`submit_as`](super::Deployment::submit_as), and is
//! removed once everything is on the queue. A process that dies in between leaves a lease that ends after some seconds. The
//! next one goes through the same steps, which send nothing that is on record as sent.

mod source;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use self::source::OutboxSource;
use crate::core::backoff::Backoff;
use crate::core::error::{Error, Result, describe, text_for_strangers};
use crate::core::retry::{Policy, retry};
use crate::outbox::{Entry, Outbox};
use crate::protocol::site::Site;
use crate::stage::Data;
use crate::submit::Opening;
use crate::worker::Chore;

/// Submissions that one worker takes up at the same time.
const AT_ONCE: usize = 8;
/// How long to wait for news without looking.
const LOOK: Duration = Duration::from_secs(60);
/// How long the others wait for a submission that this process could not finish, because a service was away.
const PUT_OFF: Duration = Duration::from_secs(5);
/// Between two claims that fail.
const TROUBLE: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30));
/// The most time for ending the leases at the end of a worker.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// Makes the chore of a deployment's workers: [`chore`] for the type of its items. `None` without an outbox.
pub(super) type TakeUp = fn(&Arc<Site>) -> Option<Chore>;

pub(super) fn chore<I: Data>(site: &Arc<Site>) -> Option<Chore> {
    let outbox = site.outbox.clone()?;
    let site = Arc::clone(site);
    Some(Arc::new(move |stop| {
        let taker = Taker {
            site: Arc::clone(&site),
            outbox: outbox.handle(),
            take: |site, outbox, entry| take::<I>(site, outbox, entry).boxed(),
            tasks: JoinSet::new(),
            is_claiming: false,
        };
        taker.work_until(stop).boxed()
    }))
}

struct Taker {
    site: Arc<Site>,
    outbox: Arc<dyn Outbox>,
    take: fn(Arc<Site>, Arc<dyn Outbox>, Entry) -> BoxFuture<'static, ()>,
    /// A task for each submission.
    tasks: JoinSet<()>,
    /// A claim is under way: there may be leases of which this process has not been told.
    is_claiming: bool,
}

impl Taker {
    /// Takes up submissions until `stop` completes. What is under way then stops where it is, and another process goes on
    /// with it.
    async fn work_until(mut self, stop: BoxFuture<'static, ()>) {
        tokio::select! {
            biased;
            () = stop => {}
            () = self.work() => {}
        }
        let has_leases = self.is_claiming || !self.tasks.is_empty();
        self.tasks.shutdown().await;
        if has_leases
            && timeout(RELEASE_WITHIN, self.outbox.release())
                .await
                .is_err()
        {
            tracing::debug!(
                "the leases of the outbox were not released in time; they end by themselves"
            );
        }
    }

    async fn work(&mut self) {
        let mut keep = interval(self.outbox.keep_every());
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failed, mut claim_at) = (0, Instant::now());
        loop {
            while let Some(ended) = self.tasks.try_join_next() {
                log_panic(ended);
            }
            if self.tasks.len() < AT_ONCE && claim_at <= Instant::now() {
                self.is_claiming = true;
                let claimed = self.outbox.claim(AT_ONCE - self.tasks.len()).await;
                self.is_claiming = false;
                match claimed {
                    Ok(entries) => {
                        failed = 0;
                        self.begin(entries);
                    }
                    Err(error) => {
                        failed += 1;
                        claim_at = Instant::now() + TROUBLE.longest(failed);
                        tracing::warn!(error = %describe(&error), "nothing can be claimed from the outbox");
                    }
                }
            }
            let is_waiting = claim_at > Instant::now();
            tokio::select! {
                Some(ended) = self.tasks.join_next() => log_panic(ended),
                () = self.outbox.news(LOOK), if self.tasks.len() < AT_ONCE && !is_waiting => {}
                () = sleep_until(claim_at), if is_waiting => {}
                _ = keep.tick(), if !self.tasks.is_empty() => {
                    if let Err(error) = self.outbox.keep().await {
                        tracing::warn!(error = %describe(&error), "the leases of the outbox could not be extended");
                    }
                }
            }
        }
    }

    fn begin(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let (site, outbox) = (Arc::clone(&self.site), Arc::clone(&self.outbox));
            self.tasks.spawn((self.take)(site, outbox, entry));
        }
    }
}

fn log_panic(ended: std::result::Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "taking up a submission panicked; it is taken up again: please report this");
    }
}

/// Makes a run of a submission, and removes it from the outbox; or records why there can be none.
async fn take<I: Data>(site: Arc<Site>, outbox: Arc<dyn Outbox>, entry: Entry) {
    let submitted = submit::<I>(&site, &outbox, &entry).await;
    let (run, deployment) = (&entry.run, &site.name);
    let recorded = match submitted {
        Ok(()) => {
            retry("finish with the outbox", Policy::FOREVER, || {
                outbox.finish(&entry)
            })
            .await
        }
        Err(error) if error.is_retryable() || matches!(error, Error::NotProvisioned { .. }) => {
            tracing::warn!(%run, deployment, error = %describe(&error), "a submission of the outbox is put off");
            outbox.put_off(&entry, PUT_OFF).await
        }
        Err(error) => {
            tracing::error!(%run, deployment, error = %describe(&error), "a submission of the outbox is refused");
            let problem = text_for_strangers(&error);
            retry("refuse a submission", Policy::FOREVER, || {
                outbox.refuse(&entry, &problem)
            })
            .await
        }
    };
    if let Err(error) = recorded {
        tracing::warn!(%run, deployment, error = %describe(&error), "a submission of the outbox is taken up again, since its end could not be recorded");
    }
}

async fn submit<I: Data>(site: &Arc<Site>, outbox: &Arc<dyn Outbox>, entry: &Entry) -> Result<()> {
    if entry.present < entry.parts {
        let problem = format!(
            "the outbox has {} of its {} parts: write the last part last",
            entry.present, entry.parts
        );
        return Err(Error::submission(&entry.run, problem));
    }
    let source = OutboxSource::<I>::new(Arc::clone(outbox), entry.clone());
    let opening = Opening::begin(site, entry.run.clone(), source).await?;
    opening.send().await
}
