//! Sealing: the trees are told their sizes.

use std::sync::Arc;

use super::{RETRY, open};
use crate::core::error::Result;
use crate::core::retry::retry;
use crate::core::tree::Tree;
use crate::packet::Message;
use crate::protocol::site::Site;
use crate::queue::Outgoing;
use crate::scratchpad::{GroupId, RunRecord};

/// Records the sizes of the groups at the right-hand edge of each tree: the first reduction's if the number of packets
/// is known, and every later one's, which has a single leaf. A group that is complete by that is sent to be reduced.
/// Idempotent.
pub(super) async fn seal(site: &Site, record: &RunRecord, packets: Option<u64>) -> Result<()> {
    for (index, stage) in site.definition.reductions().enumerate() {
        let leaves = match (index, packets) {
            (0, None) => continue,
            (0, Some(packets)) => packets,
            _ => 1,
        };
        for edge in Tree::new(leaves, record.fan_in).edges() {
            let group = GroupId::new(
                record.key(),
                Arc::clone(&stage.name),
                edge.level,
                edge.index,
            );
            let scratchpad = site.scratchpad();
            let state = retry("expect", RETRY, || {
                scratchpad.expect(&group, edge.expected, edge.root)
            })
            .await?;
            if state.is_ready(record.fan_in) {
                send_reduction(site, record, &group).await?;
            }
        }
    }
    Ok(())
}

/// Writes down the length of the run under the deployment's tag, if it has keys. Idempotent.
pub(super) async fn sign_length(site: &Site, record: &RunRecord, length: u64) -> Result<()> {
    let Some(arrival) = site.carrier.write_length(record, length) else {
        return Ok(());
    };
    let (arrival, scratchpad) = (arrival?, site.scratchpad());
    let arrive = || scratchpad.arrive(vec![arrival.clone()]);
    retry("arrive", RETRY, arrive).await.map(drop)
}

async fn send_reduction(site: &Site, record: &RunRecord, group: &GroupId) -> Result<()> {
    let message = Message::reduce(group, record.fan_in);
    let body = site.carrier.write_message(message)?;
    let Some(stage) = site.definition.position(&group.stage) else {
        return Ok(());
    };
    site.counters.completed(stage);
    let queue = open(site, stage).await?;
    let message = Outgoing::new(body).run(&record.run);
    retry("send", RETRY, || queue.send(vec![message.clone()])).await
}
