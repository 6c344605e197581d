//! Two generations of one id, and a writer of arbitrary messages: what bears another generation, or contradicts itself, changes
//! nothing of the run.
//!
//! The other models have every interleaving of the *steps* of a message. Here a message takes one step, and what varies is which
//! messages there are: those of the run; those that a first run of the same id has left, which may be delivered at any time,
//! before the second run begins and after; and those that a stranger writes. No message is ever gone, so each may be delivered
//! again at any later time.
//!
//! A stranger who has read a message knows the run's generation. What such a writer cannot do is what a message declares about
//! itself; that its value is right is its own word, until messages are signed.

mod rules;
mod tests;
mod writer;

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};

use crate::core::group::GroupState;
use crate::core::tree::{self, Tree};
use rules::Rule;

/// The generation that is left over, and that of the run.
const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// The items that a value is made of, in order, and how many it claims to stand for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Value {
    items: Vec<u8>,
    contains: u64,
}

/// Of the first run the items have a number of their own each, as those of the second have; of the stranger all are one.
const OF_FIRST: u8 = 100;
const OF_STRANGER: u8 = 200;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    Leaf(u64, Value),
    Reduce(u32, u64),
    /// The value of the whole reduction, for the stage that completes the run.
    Finish(Value),
}

/// A message, and what it says of its run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    generation: Option<u8>,
    fan_in: u32,
    work: Work,
}

/// Generation, level and index.
type Group = (u8, u32, u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Which generation has the id.
    record: u8,
    sent: BTreeSet<Message>,
    slots: BTreeMap<(Group, u32), Value>,
    retired: BTreeSet<Group>,
    /// The result of the run that has the id.
    result: Option<Value>,
    /// Messages that the stranger may still write.
    writes: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// The first run's record is gone, and the id is used again.
    BeginAgain,
    Write(Message),
    Deliver(Message),
}

/// The runs: `leaves` and `fan_in` of the first and the second.
#[derive(Clone, Debug)]
struct Setting {
    leaves: [u64; 2],
    fan_in: [u32; 2],
    writes: u8,
    /// Rules that are broken.
    broken: Vec<Rule>,
}

impl Setting {
    fn keeps(&self, rule: Rule) -> bool {
        !self.broken.contains(&rule)
    }

    fn of<T: Copy>(both: [T; 2], generation: u8) -> T {
        match generation {
            FIRST => both[0],
            _ => both[1],
        }
    }

    fn leaves(&self, generation: u8) -> u64 {
        Self::of(self.leaves, generation)
    }

    fn fan_in(&self, generation: u8) -> u32 {
        Self::of(self.fan_in, generation)
    }

    /// The messages that a run's submission sends.
    fn submission(&self, generation: u8) -> impl Iterator<Item = Message> {
        let (fan_in, first) = (self.fan_in(generation), Self::of([OF_FIRST, 0], generation));
        (0..self.leaves(generation)).map(move |leaf| Message {
            generation: Some(generation),
            fan_in,
            work: Work::Leaf(
                leaf,
                Value {
                    items: vec![first + leaf as u8],
                    contains: 1,
                },
            ),
        })
    }

    /// The key under which the store has what belongs to a generation.
    fn key(&self, generation: u8) -> u8 {
        match self.keeps(Rule::KeysHaveTheGeneration) {
            true => generation,
            false => 0,
        }
    }

    /// A group as the store reports it.
    fn group(&self, state: &State, group: Group) -> GroupState {
        let (key, level, index) = group;
        // Without generations in its keys, the store has the sizes of the run that was sealed last.
        let run = if key == 0 { state.record } else { key };
        let edges = Tree::new(self.leaves(run), self.fan_in(run)).edges();
        let mut edges = edges.into_iter();
        let edge = edges.find(|edge| (edge.level, edge.index) == (level, index));
        let is_sealed = run <= state.record;
        let edge = edge.filter(|_| is_sealed);
        GroupState {
            arrived: state.slots.range((group, 0)..=(group, u32::MAX)).count() as u32,
            expected: edge.map(|edge| edge.expected),
            root: edge.is_some_and(|edge| edge.root),
            retired: state.retired.contains(&group),
        }
    }

    fn is_ready(&self, group: &GroupState, fan_in: u32) -> bool {
        match self.keeps(Rule::StraysDoNotFillAGroup) {
            true => group.is_ready(fan_in),
            false => !group.retired && group.arrived == group.expected.unwrap_or(fan_in),
        }
    }

    /// A value arrives at the parent of a node. If that is complete then, its reduction is asked for.
    fn arrive(&self, state: &mut State, of: (u8, u32), node: (u32, u64), value: Value) {
        let (generation, fan_in) = of;
        let (level, index, slot) = tree::parent(node.0, node.1, fan_in);
        let group = (self.key(generation), level, index);
        if state.retired.contains(&group) {
            return;
        }
        state.slots.entry((group, slot)).or_insert(value);
        if self.is_ready(&self.group(state, group), fan_in) {
            state.sent.insert(Message {
                generation: Some(generation),
                fan_in,
                work: Work::Reduce(level, index),
            });
        }
    }

    /// The members of a group, if all of them are there.
    fn members(&self, state: &State, group: Group, size: u32) -> Option<Value> {
        let slots = state.slots.range((group, 0)..=(group, u32::MAX));
        let slots = slots.map(|((_, slot), value)| (*slot, value));
        let mut members: Vec<(u32, &Value)> = slots.collect();
        if self.keeps(Rule::StraysAreNotCombined) {
            members.retain(|(slot, _)| *slot < size);
            if !members.iter().map(|(slot, _)| *slot).eq(0..size) {
                return None;
            }
        }
        Some(Value {
            items: members
                .iter()
                .flat_map(|(_, value)| value.items.clone())
                .collect(),
            contains: members.iter().map(|(_, value)| value.contains).sum(),
        })
    }

    fn reduce(&self, state: &mut State, of: (u8, u32), level: u32, index: u64) {
        let (generation, fan_in) = of;
        let group = (self.key(generation), level, index);
        let found = self.group(state, group);
        let size = found.expected.unwrap_or(fan_in);
        if !self.is_ready(&found, fan_in) {
            return;
        }
        let Some(value) = self.members(state, group, size) else {
            return;
        };
        if !found.root {
            self.arrive(state, of, (level, index), value);
        } else if self.is_whole(state, generation, &value) {
            state.sent.insert(Message {
                generation: Some(generation),
                fan_in,
                work: Work::Finish(value),
            });
        } else {
            return;
        }
        state.retired.insert(group);
    }

    /// Whether a value stands for the whole array of the run that has the id, which is of this generation.
    fn is_whole(&self, state: &State, generation: u8, value: &Value) -> bool {
        let is_this_run =
            generation == state.record || !self.keeps(Rule::CompletingHasTheGeneration);
        is_this_run && value.contains == self.leaves(state.record)
    }

    fn deliver(&self, state: &mut State, message: &Message) {
        let generation = match message.generation {
            Some(generation) => generation,
            None if self.keeps(Rule::MessagesHaveAGeneration) => return,
            None => state.record,
        };
        if message.fan_in != self.fan_in(generation) && self.keeps(Rule::TheFanInIsTheRuns) {
            return;
        }
        let of = (generation, message.fan_in);
        match &message.work {
            Work::Leaf(_, value)
                if value.contains != value.items.len() as u64
                    && self.keeps(Rule::CountsAreThoseOfTheValues) => {}
            Work::Leaf(leaf, value) => self.arrive(state, of, (0, *leaf), value.clone()),
            Work::Reduce(level, index) => self.reduce(state, of, *level, *index),
            Work::Finish(value) => {
                let is_whole = match self.keeps(Rule::WhoeverCompletesChecks) {
                    true => self.is_whole(state, generation, value),
                    false => generation == state.record,
                };
                if is_whole {
                    state.result.get_or_insert_with(|| value.clone());
                }
            }
        }
    }

    fn after(&self, before: &State, action: &Action) -> State {
        let mut state = before.clone();
        match action {
            Action::BeginAgain => {
                state.record = SECOND;
                state.result = None;
                state.sent.extend(self.submission(SECOND));
            }
            Action::Write(message) => {
                state.writes -= 1;
                state.sent.insert(message.clone());
            }
            Action::Deliver(message) => self.deliver(&mut state, message),
        }
        state
    }
}

impl Model for Setting {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            record: FIRST,
            sent: self.submission(FIRST).collect(),
            slots: BTreeMap::new(),
            retired: BTreeSet::new(),
            result: None,
            writes: self.writes,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.record == FIRST {
            actions.push(Action::BeginAgain);
        }
        if state.writes > 0 {
            let written = self.written().into_iter();
            actions.extend(
                written
                    .filter(|message| !state.sent.contains(message))
                    .map(Action::Write),
            );
        }
        actions.extend(state.sent.iter().cloned().map(Action::Deliver));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        // A delivery that changes nothing leads nowhere.
        Some(self.after(before, &action)).filter(|after| after != before)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::sometimes(rules::ENDS, |setting: &Self, state: &State| {
                state.record == SECOND && state.result.is_some() && setting.is_quiet(state)
            }),
            Property::always(rules::RIGHT, |setting: &Self, state: &State| {
                let items = (0..setting.leaves(SECOND)).map(|leaf| leaf as u8);
                let result = state.result.as_ref().filter(|_| state.record == SECOND);
                result.is_none_or(|result| result.items.iter().copied().eq(items))
            }),
            Property::always(rules::NOT_STUCK, |setting: &Self, state: &State| {
                state.record == FIRST || state.result.is_some() || !setting.is_quiet(state)
            }),
        ]
    }
}

impl Setting {
    /// Whether no delivery changes anything any more.
    fn is_quiet(&self, state: &State) -> bool {
        let mut sent = state.sent.iter();
        sent.all(|message| self.after(state, &Action::Deliver(message.clone())) == *state)
    }
}
