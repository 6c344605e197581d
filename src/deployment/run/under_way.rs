//! What of a run is still under way, as far as that is on record.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use futures::TryStreamExt;

use super::Run;
use crate::core::error::Result;
use crate::core::tree::Tree;
use crate::pipeline::definition::Definition;
use crate::scratchpad::{Failure, GroupId, RunRecord, RunSnapshot, RunState, Verdict};
use crate::submit::SUBMISSION;

/// Groups that are read in one call.
const GROUPS: u64 = 1_000;
/// Nodes below those groups that are kept in memory: a large fan-in means fewer groups per call.
const MEMBERS: u64 = 100_000;
/// Failures that are read in one call.
const FAILURES: usize = 1_000;
/// Nodes that are looked for among the failures at the same time.
const SOUGHT: usize = 100_000;

/// A part of a run that has not been passed on, and is under way unless a message about it stands as a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Node {
    /// A packet on its way to the first reduction, at whichever map stage.
    Packet(u64),
    /// A complete group of the first reduction, by level and index. The root is not one of these.
    Group(u32, u64),
    /// The value of a whole reduction, counted from 0: its root group is complete, and the next reduction, if there is
    /// one, does not have the value yet.
    Root(usize),
}

/// How far a run's packets have been sent.
enum Sent {
    /// All of them.
    All(u64),
    /// As many as this, and no more: the submission has failed.
    Some(u64),
    /// As many as this for now.
    UpTo(u64),
}

impl<R> Run<R> {
    /// The number of messages of a run that are neither done nor on record as dead letters, plus 1 while its submission
    /// may still send more. Stops counting once there are more than `at_most`.
    ///
    /// Reads the tree from its root downwards, and passes by what has arrived at a parent: little is left of a run that
    /// is nearly settled. Failures are read only if there are as many dead letters as there are gaps in the tree. Both
    /// are read page by page, so that memory is bounded.
    pub(super) async fn under_way(&self, snapshot: &RunSnapshot, at_most: u64) -> Result<u64> {
        if matches!(snapshot.state(), RunState::Done | RunState::Cancelled) {
            return Ok(0);
        }
        let sent = self.sent(snapshot).await?;
        let mut gaps = Gaps {
            run: self,
            snapshot,
            at_most,
            sought: HashSet::new(),
            found: 0,
            open: u64::from(matches!(sent, Sent::UpTo(_))),
            without_letter: 0,
        };
        match self.furthest_root(&snapshot.record).await? {
            Some(reduction) => gaps.find(Node::Root(reduction)).await?,
            None => self.walk(&sent, &mut gaps).await?,
        }
        gaps.close().await
    }

    async fn sent(&self, snapshot: &RunSnapshot) -> Result<Sent> {
        let known = snapshot.checkpoint.map_or(0, |reached| reached.packets);
        Ok(match (snapshot.submitted, snapshot.record.packets) {
            (true, Some(packets)) => Sent::All(packets),
            _ if self.submission_failed(snapshot).await? => Sent::Some(known),
            (_, packets) => Sent::UpTo(packets.unwrap_or(known)),
        })
    }

    /// Whether a submission is on record that has failed for good.
    async fn submission_failed(&self, snapshot: &RunSnapshot) -> Result<bool> {
        let Some(first) = &snapshot.failure else {
            return Ok(false);
        };
        if first.message == SUBMISSION {
            return Ok(true);
        }
        let mut failures = std::pin::pin!(self.failures().limit(FAILURES).stream());
        while let Some(failure) = failures.try_next().await? {
            if failure.message == SUBMISSION {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last reduction after the first one whose only leaf has arrived: everything before it is done.
    async fn furthest_root(&self, record: &RunRecord) -> Result<Option<usize>> {
        let reductions = self.site.definition.reductions().skip(1);
        let ids: Vec<GroupId> = reductions
            .map(|stage| GroupId::new(record.key(), Arc::clone(&stage.name), 1, 0))
            .collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let arrived = self.site.scratchpad().arrived(&ids).await?;
        let last = arrived.iter().rposition(|slots| !slots.is_empty());
        Ok(last.map(|place| place + 1))
    }

    /// Finds the gaps in the tree of the first reduction, from right to left: what was sent last is the most likely to be
    /// under way.
    async fn walk(&self, sent: &Sent, gaps: &mut Gaps<'_, R>) -> Result<()> {
        let record = &gaps.snapshot.record;
        let stage: Arc<str> = record.reduce_stage.as_str().into();
        let (Sent::All(sent) | Sent::Some(sent) | Sent::UpTo(sent)) = *sent;
        let tree = Tree::new(record.packets.unwrap_or(sent), record.fan_in);
        let root = tree.root_level();
        let at_once = (MEMBERS / u64::from(record.fan_in.max(1))).clamp(1, GROUPS);
        // For each level, the groups that are still to be read: ranges in ascending order, taken from the end.
        let mut levels: Vec<(u32, Vec<Range<u64>>)> = vec![(root, std::iter::once(0..1).collect())];
        while let Some((level, ranges)) = levels.last_mut() {
            let level = *level;
            let groups = take_last(ranges, at_once);
            if groups.is_empty() {
                levels.pop();
                continue;
            }
            let ids: Vec<GroupId> = groups
                .iter()
                .map(|index| GroupId::new(record.key(), Arc::clone(&stage), level, *index))
                .collect();
            let arrived = self.site.scratchpad().arrived(&ids).await?;
            let mut below = Vec::new();
            for (index, mut slots) in groups.into_iter().zip(arrived) {
                let members = tree.members(level, index);
                if record.packets.is_some() {
                    // A stranger may have written packets that the run does not have.
                    let count = members.end - members.start;
                    slots.retain(|slot| u64::from(*slot) < count);
                }
                // The size of a group at the right-hand edge is on record only once the number of packets is.
                let expected = match record.packets {
                    Some(_) => members.end - members.start,
                    None => u64::from(record.fan_in),
                };
                if slots.len() as u64 >= expected {
                    gaps.find(match level == root {
                        true => Node::Root(0),
                        false => Node::Group(level, index),
                    })
                    .await?;
                    continue;
                }
                for missing in missing(members, &slots).into_iter().rev() {
                    match level {
                        1 => {
                            let on_queue = missing.start.min(sent)..missing.end.min(sent);
                            for packet in on_queue.rev() {
                                gaps.find(Node::Packet(packet)).await?;
                            }
                        }
                        _ => below.push(missing),
                    }
                }
                if gaps.are_enough() {
                    return Ok(());
                }
            }
            below.reverse();
            if level > 1 {
                levels.push((level - 1, below));
            }
        }
        Ok(())
    }
}

/// Takes up to `count` numbers off the end of ascending ranges, the largest first.
fn take_last(ranges: &mut Vec<Range<u64>>, count: u64) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Some(last) = ranges.last_mut() {
        let left = count - taken.len() as u64;
        let from = last.end.saturating_sub(left).max(last.start);
        taken.extend((from..last.end).rev());
        last.end = from;
        if last.is_empty() {
            ranges.pop();
        }
        if taken.len() as u64 >= count {
            break;
        }
    }
    taken
}

/// The members whose slots have not arrived, as ascending ranges.
fn missing(members: Range<u64>, slots: &[u32]) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    let mut next = members.start;
    for slot in slots {
        let member = members.start.saturating_add(u64::from(*slot));
        if next < member.min(members.end) {
            ranges.push(next..member.min(members.end));
        }
        next = next.max(member.saturating_add(1));
    }
    if next < members.end {
        ranges.push(next..members.end);
    }
    ranges
}

/// Nodes that have not been passed on. Each is either under way or held by a dead letter.
struct Gaps<'a, R> {
    run: &'a Run<R>,
    snapshot: &'a RunSnapshot,
    at_most: u64,
    /// Nodes that have not been looked for among the dead letters yet.
    sought: HashSet<Node>,
    /// Nodes found so far.
    found: u64,
    /// Of those that were looked for, nodes without a dead letter.
    without_letter: u64,
    /// 1 while the submission may send more.
    open: u64,
}

impl<R> Gaps<'_, R> {
    async fn find(&mut self, node: Node) -> Result<()> {
        if self.are_enough() {
            return Ok(());
        }
        self.found += 1;
        self.sought.insert(node);
        match self.sought.len() >= SOUGHT {
            true => self.look_up().await,
            false => Ok(()),
        }
    }

    /// Whether more are under way than are to be counted.
    fn are_enough(&self) -> bool {
        self.at_least() > self.at_most
    }

    /// How many are under way at least, since a dead letter accounts for one node.
    fn at_least(&self) -> u64 {
        let without_letter = self.found.saturating_sub(self.snapshot.dead);
        self.open + self.without_letter.max(without_letter)
    }

    /// Looks for nodes among the dead letters on record.
    async fn look_up(&mut self) -> Result<()> {
        if self.sought.is_empty() {
            return Ok(());
        }
        let record = &self.snapshot.record;
        let definition = &self.run.site.definition;
        let mut failures = std::pin::pin!(self.run.failures().limit(FAILURES).stream());
        while let Some(failure) = failures.try_next().await? {
            if let Some(node) = node(definition, record, &failure) {
                self.sought.remove(&node);
            }
            if self.sought.is_empty() {
                break;
            }
        }
        self.without_letter += self.sought.len() as u64;
        self.sought.clear();
        Ok(())
    }

    async fn close(mut self) -> Result<u64> {
        if !self.are_enough() && self.snapshot.dead > 0 {
            self.look_up().await?;
        }
        Ok(self.at_least())
    }
}

/// The node that a dead letter holds up.
fn node(definition: &Definition, record: &RunRecord, failure: &Failure) -> Option<Node> {
    if !matches!(failure.verdict, Verdict::Dead(_)) {
        return None;
    }
    let (work, stage) = parts(failure);
    let place = definition.position(stage);
    // A stage that this version of the deployment does not have was one before the first reduction.
    let before = place.map_or(0, |place| {
        let stages = definition.stages().iter().take(place);
        stages.filter(|stage| stage.is_reduction()).count()
    });
    let (kind, number) = work.split_once(' ')?;
    match kind {
        "packet" => {
            let index = number.parse().ok()?;
            Some(match before.checked_sub(1) {
                None => Node::Packet(index),
                // What follows a reduction works on its value.
                Some(reduction) => Node::Root(reduction),
            })
        }
        "group" => {
            let (level, index) = number.split_once('/')?;
            let (level, index) = (level.parse().ok()?, index.parse().ok()?);
            let root = record
                .packets
                .map(|packets| Tree::new(packets, record.fan_in).root_level());
            Some(match before == 0 && Some(level) != root {
                true => Node::Group(level, index),
                false => Node::Root(before),
            })
        }
        _ => None,
    }
}

/// What a failure's message is and the stage that it was for. The name of a message on another stage's queue, or another
/// deployment's, says more.
fn parts(failure: &Failure) -> (&str, &str) {
    let message = failure.message.as_str();
    if let Some((work, stage)) = message.split_once(" of stage ") {
        return (work, stage);
    }
    let work = message
        .split_once(" on queue ")
        .map_or(message, |(work, _)| work);
    (work, &failure.stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_numbers_are_taken_first() {
        let mut ranges = vec![0..3, 5..6, 10..14];
        assert_eq!(take_last(&mut ranges, 2), [13, 12]);
        assert_eq!(take_last(&mut ranges, 4), [11, 10, 5, 2]);
        assert_eq!(take_last(&mut ranges, 4), [1, 0]);
        assert_eq!(take_last(&mut ranges, 4), [0; 0]);
    }

    #[test]
    fn gaps_are_the_members_without_a_slot() {
        let gaps = |members: Range<u64>, slots: &[u32]| -> Vec<(u64, u64)> {
            let ranges = missing(members, slots).into_iter();
            ranges.map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(gaps(6..9, &[]), [(6, 9)]);
        assert_eq!(gaps(6..9, &[1]), [(6, 7), (8, 9)]);
        assert_eq!(gaps(6..9, &[0, 1, 2]), []);
        assert_eq!(
            gaps(6..8, &[0, 1, 2]),
            [],
            "a slot that the tree does not have"
        );
        let last = u64::MAX - 1;
        assert_eq!(gaps(last..u64::MAX, &[]), [(last, u64::MAX)]);
    }

    #[test]
    fn a_failure_names_its_work_and_the_stage_that_it_was_for() {
        let failure = |message: &str| Failure::new("parse", message, "broken", Verdict::Retry);
        for (message, work, stage) in [
            ("packet 3", "packet 3", "parse"),
            ("group 1/0 of stage sum", "group 1/0", "sum"),
            ("packet 3 on queue other--parse", "packet 3", "parse"),
            (SUBMISSION, SUBMISSION, "parse"),
        ] {
            assert_eq!(parts(&failure(message)), (work, stage));
        }
    }
}
