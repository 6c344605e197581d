//! Why items were left out of a result.

use std::collections::BTreeMap;

use super::Run;
use crate::core::attempts::LISTED;
use crate::core::error::Result;
use crate::core::retry::{Policy, retry};
use crate::packet::{LeftOut, Lost};
use crate::scratchpad::{Failure, Verdict};

impl<R> Run<R> {
    /// A failure for each of these items, in their order.
    pub(super) async fn why(&self, left_out: &LeftOut) -> Result<Vec<Failure>> {
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
        let failures = left_out.iter().map(|lost| {
            let place = (lost.stage.to_owned(), lost.packet, lost.item);
            on_record.remove(&place).unwrap_or_else(|| forgotten(&lost))
        });
        Ok(failures.collect())
    }
}

/// Where an item was left out.
fn place(failure: &Failure) -> Option<(String, u64, u64)> {
    let packet = failure.message.strip_prefix("packet ")?.parse().ok()?;
    let item = failure.item.filter(|_| failure.is_skipped())?;
    Some((failure.stage.clone(), packet, item))
}

/// An item whose attempts are not on record: they expired, or a redrive of a copy of the message took them off.
fn forgotten(lost: &Lost<'_>) -> Failure {
    let message = format!("packet {}", lost.packet);
    let error = "it was left out; its attempts are not on record any more";
    let mut failure = Failure::new(lost.stage, message, error, Verdict::Skip);
    failure.item = Some(lost.item);
    failure
}
