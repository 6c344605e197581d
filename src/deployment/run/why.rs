//! Why items were left out of a result.

use std::collections::BTreeMap;

use super::Run;
use crate::core::attempts::LISTED;
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::core::retry::{Policy, retry};
use crate::packet::{Lost, Packet};
use crate::scratchpad::{Attempt, Failure, FailureReport, Verdict};

impl<R> Run<R> {
    /// A failure for each item that was left out of this result, in their order.
    pub(super) async fn why(&self, packet: &Packet) -> Result<Vec<Failure>> {
        let left_out = &packet.left_out;
        let Some(last) = left_out.iter().last() else {
            return Ok(Vec::new());
        };
        let scratchpad = self.site.scratchpad();
        let mut on_record = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = retry("list_failures", Policy::FOREVER, || {
                scratchpad.list_failures(&self.run, cursor.as_ref(), LISTED)
            })
            .await?;
            let mut is_past = false;
            for failure in page.items {
                let Some((stage, packet, item)) = place(&failure) else {
                    continue;
                };
                let lost = Lost {
                    stage: &stage,
                    packet,
                    item,
                };
                is_past = lost >= last;
                on_record.insert((stage, packet, item), failure);
            }
            cursor = page.next;
            if is_past || cursor.is_none() {
                break;
            }
        }
        let mut failures = Vec::with_capacity(left_out.len());
        let mut log = (("", 0), Vec::new());
        for lost in left_out.iter() {
            let place = (lost.stage.to_owned(), lost.packet, lost.item);
            failures.push(match on_record.remove(&place) {
                Some(failure) => failure,
                None => {
                    if log.0 != (lost.stage, lost.packet) {
                        log = (
                            (lost.stage, lost.packet),
                            self.log(&packet.run, &lost).await,
                        );
                    }
                    from_log(&lost, &log.1)
                }
            });
        }
        Ok(failures.into_iter().map(Failure::printable).collect())
    }

    /// The failed attempts at an item's message and its items: a report without attempts returns them, and adds nothing.
    async fn log(&self, run: &RunKey, lost: &Lost<'_>) -> Vec<Attempt> {
        let message = format!("packet {}", lost.packet);
        let report = FailureReport::new(run, lost.stage, message, Vec::new(), Verdict::Retry);
        match self.site.scratchpad().record(&report).await {
            Ok(log) => log.attempts,
            Err(error) => {
                tracing::warn!(run = %self.run, %error, "why items were left out could not be read");
                Vec::new()
            }
        }
    }
}

/// An item that the record does not have as left out: its message was a dead letter since. The log of failed attempts may
/// still have it.
fn from_log(lost: &Lost<'_>, log: &[Attempt]) -> Failure {
    let attempts = log.iter().filter(|attempt| attempt.item == Some(lost.item));
    let attempts: Vec<Attempt> = attempts.cloned().collect();
    let error = attempts.last().map_or(FORGOTTEN, |last| &last.error);
    let mut failure = Failure::new(
        lost.stage,
        format!("packet {}", lost.packet),
        error,
        Verdict::Skip,
    );
    failure.item = Some(lost.item);
    failure.label = attempts.last().and_then(|last| last.label.clone());
    failure.attempts = attempts;
    failure
}

const FORGOTTEN: &str = "it was left out; its attempts are not on record any more";

/// Where an item was left out.
fn place(failure: &Failure) -> Option<(String, u64, u64)> {
    let packet = failure.message.strip_prefix("packet ")?.parse().ok()?;
    let item = failure.item.filter(|_| failure.is_skipped())?;
    Some((failure.stage.clone(), packet, item))
}
