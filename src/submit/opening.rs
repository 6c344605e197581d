//! Beginning a submission: the run's record is written, or the one of an earlier submission found.

use std::sync::Arc;

#[cfg(feature = "http")]
use super::pulse::Pulse;
use super::submission::Submission;
use super::{RETRY, Source, cutter, failure, open};
use crate::core::clock::now;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::retry::retry;
use crate::packet::codec::Form;
use crate::pipeline::definition::StageDefinition;
use crate::protocol::site::Site;
use crate::queue::Queue;
use crate::scratchpad::{Begun, PacketPlan, RunRecord};
use crate::stage::Execution;

/// What a submission finds under its run's id, and has to do.
pub(crate) enum Opening<S: Source> {
    /// Nothing: the run is new.
    New(Submission<S>),
    /// A run that an earlier submission began and did not finish sending: this one completes it.
    Resume(Submission<S>, Earlier),
    /// A run of which everything was sent, or which is over: there is nothing to send. The items are compared with those
    /// that were sent.
    Done(
        Submission<S>,
        // Only the HTTP API asks.
        #[cfg_attr(not(feature = "http"), allow(dead_code))] Over,
    ),
}

/// How far a run is of which nothing is left to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Submitted,
    Cancelled,
}

/// What became of the earlier submission of a run that is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// It broke off, or is still going on elsewhere.
    BrokeOff,
    /// It failed, and its failure is on record.
    Failed,
}

impl<S: Source> Opening<S> {
    /// Begins a run, or finds the run of this id.
    ///
    /// # Errors
    /// [`Error::InvalidRunId`]; [`Error::Submission`] if the id stands for a run of another pipeline or another length;
    /// [`Error::Backend`] and [`Error::NotProvisioned`].
    pub(crate) async fn begin(site: &Arc<Site>, run: RunId, source: S) -> Result<Self> {
        run.validate()?;
        let (first, reduction) = ends(site)?;
        let queue = open(site, 0).await?;
        let mut record = new_record(run, first, reduction, queue.as_ref(), source.length());
        record.deployment = Some(site.name.clone());
        make_room(site, first, record.plan);
        let submission = |record: RunRecord| {
            let cutter = cutter::choose(site, &queue, &record, first);
            Submission::new(site, record, Arc::clone(&queue), source, cutter)
        };
        let existing = match retry("begin", RETRY, || site.scratchpad().begin(&record)).await? {
            Begun::New => return Ok(Self::New(submission(record))),
            Begun::Existing(existing) => *existing,
        };
        check_same(&existing.record, &record)?;
        let is_done = existing.submitted || existing.cancelled || existing.result.is_some();
        let over = match existing.cancelled {
            true => Over::Cancelled,
            false => Over::Submitted,
        };
        let earlier = match failure::is_recorded(&existing) {
            true => Earlier::Failed,
            false => Earlier::BrokeOff,
        };
        let submission = submission(existing.record).repeats(existing.checkpoint);
        Ok(match is_done {
            true => Self::Done(submission, over),
            false => Self::Resume(submission, earlier),
        })
    }

    pub(crate) fn run(&self) -> &RunId {
        match self {
            Self::New(submission) | Self::Resume(submission, _) | Self::Done(submission, _) => {
                &submission.record.run
            }
        }
    }

    /// Reports progress to `pulse`.
    #[cfg(feature = "http")]
    pub(crate) fn watched_by(mut self, pulse: &Pulse) -> Self {
        if let Self::Done(_, Over::Cancelled) = &self {
            pulse.set_cancelled();
        }
        match &mut self {
            Self::New(submission) | Self::Resume(submission, _) | Self::Done(submission, _) => {
                submission.pulse = Some(pulse.clone());
            }
        }
        self
    }

    /// Sends whatever has not been sent. Returns once it is on the queue, or if the run was cancelled.
    ///
    /// # Errors
    /// [`Error::Encode`] and [`Error::TooLarge`] name the packet; [`Error::Submission`] if the input has other items than
    /// the run, or another length; [`Error::Backend`]. If a new run fails for good, its waiters see it fail; so do those
    /// of a run that two submissions have sent different items of.
    pub(crate) async fn send(self) -> Result<()> {
        match self {
            Self::New(mut submission) => {
                let sent = submission.send().await;
                if let Err(error) = &sent
                    && !error.is_retryable()
                {
                    failure::record(&submission.site, &submission.record, error).await;
                }
                sent
            }
            Self::Resume(mut submission, earlier) => {
                let sent = submission.send().await;
                if let Err(error) = &sent
                    && submission.is_mixed()
                {
                    failure::record(&submission.site, &submission.record, error).await;
                }
                sent?;
                match earlier {
                    Earlier::Failed => failure::clear(&submission.site, &submission.record).await,
                    Earlier::BrokeOff => Ok(()),
                }
            }
            Self::Done(mut submission, _) => submission.compare().await,
        }
    }
}

/// The stage that takes the items, and the reduction at whose tree they arrive.
fn ends(site: &Site) -> Result<(&StageDefinition, &StageDefinition)> {
    let definition = &site.definition;
    let first = definition.stage(0);
    let ends = first.zip(definition.reductions().next());
    ends.ok_or_else(|| Error::InvalidPipeline {
        problem: "it has no stage that takes items".into(),
    })
}

/// The record of a new run.
fn new_record(
    run: RunId,
    first: &StageDefinition,
    reduction: &StageDefinition,
    queue: &dyn Queue,
    length: Option<u64>,
) -> RunRecord {
    let plan = PacketPlan::new(first.options.packet_size, length);
    let (first, fan_in) = (&*first.name, reduction.options.fan_in);
    let mut record = RunRecord::new(run, now(), first, &*reduction.name, fan_in, plan);
    record.array_length = length;
    // If messages have a limit, packets may have to be cut by their bytes, and their number is known only at the end.
    record.packets = match queue.max_body() {
        None => length.map(|length| plan.packets(length)),
        Some(_) => None,
    };
    record
}

/// A record like the one that the run of a submission will have, which nobody has begun yet.
pub(crate) fn record_to_be(site: &Site, run: RunId, length: u64) -> Result<RunRecord> {
    let (first, reduction) = ends(site)?;
    let plan = PacketPlan::new(first.options.packet_size, Some(length));
    let fan_in = reduction.options.fan_in;
    let mut record = RunRecord::new(run, now(), &*first.name, &*reduction.name, fan_in, plan);
    record.deployment = Some(site.name.clone());
    record.array_length = Some(length);
    Ok(record)
}

/// Inside the process, messages that an asynchronous stage works on at once have room however large they are.
fn make_room(site: &Site, first: &StageDefinition, plan: PacketPlan) {
    if first.execution == Execution::Async && site.carrier.form() == Form::Local {
        let items = plan.size_at(0).max(1) as usize;
        let messages = first.options.concurrency.div_ceil(items);
        site.carrier.have_room_for(messages);
    }
}

/// Whether the run on record can be the one that is submitted.
fn check_same(existing: &RunRecord, ours: &RunRecord) -> Result<()> {
    let stages = (&existing.first_stage, &existing.reduce_stage);
    let problem = if let (Some(theirs), Some(own)) = (&existing.deployment, &ours.deployment)
        && theirs != own
    {
        format!(
            "this id was used for a run of deployment `{theirs}`, and this is `{own}` over the same scratchpad; use another id, or give each deployment tables of its own"
        )
    } else if stages != (&ours.first_stage, &ours.reduce_stage) {
        format!(
            "it was begun by a pipeline that goes from stage `{}` to reduction `{}`, and this one goes from `{}` to `{}`",
            existing.first_stage, existing.reduce_stage, ours.first_stage, ours.reduce_stage
        )
    } else if let (Some(recorded), Some(given)) = (existing.array_length, ours.array_length)
        && recorded != given
    {
        format!(
            "this id was used for an array of {recorded} items, and this one has {given}; use another id, or the same items in the same order"
        )
    } else {
        return Ok(());
    };
    Err(Error::Submission {
        run: ours.run.clone(),
        problem,
    })
}
