//! How far a packet's items are: which are done, which are to be tried again, and which have failed for good.

mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::list::OtherType;
use super::super::step::{Failures, Input, ItemFailure};
use super::super::trouble::Trouble;
use super::Pass;
use super::assemble::Piece;
use crate::core::attempts::{LISTED, MOST_ITEMS};
use crate::core::backoff::Backoff;
pub(super) use parts::Part;

/// Failed attempts that are kept with all of an item's earlier ones. Beyond that, each item keeps its last one.
const MOST_ATTEMPTS: usize = 1_000;

/// A unit that has failed before.
#[derive(Debug, Default)]
struct Tried {
    /// Its attempts that failed.
    failed: u32,
    /// The turn in which it failed last, and that in which what it became was made.
    failed_in: Option<u64>,
    done_in: Option<u64>,
    is_final: bool,
}

/// The units of a packet.
pub(super) struct State {
    attempts: u32,
    leaves_out: bool,
    backoff: Backoff,
    /// The packet's values, once they have been read.
    pub(super) count: usize,
    /// The last round that was begun: what older ones make is dropped.
    round: u64,
    /// In a turn, each unit that is to be tried has one attempt.
    turn: u64,
    /// Values before this position have had their turn.
    frontier: usize,
    /// Whether only units that failed are tried in this turn.
    only_failed: bool,
    /// The unit that is tried by itself, if they are tried one at a time.
    apart: Option<usize>,
    tried: BTreeMap<usize, Tried>,
    /// The units whose asynchronous functions are under way.
    at_work: Vec<usize>,
    pub(super) pieces: Vec<Piece>,
    /// Failed attempts at the packet as a whole; whether there is another one.
    whole_failed: u32,
    whole_is_final: bool,
    is_whole_open: bool,
    /// Whether the sink has lost the outputs because of one unit, and if so, whether that one waits for another attempt.
    redo: Option<bool>,
    pub(super) wait: Duration,
    pub(super) history: Failures,
    /// How many `history` may have before only each item's last one is kept.
    most_attempts: usize,
    /// The failed attempts that will be followed by others, as far as they have not been told.
    pub(super) untold: Failures,
}

/// What is left to do for a packet.
pub(super) enum Left {
    /// Its outputs can be handed on.
    Nothing,
    /// Units wait for their next attempt.
    Again,
    /// It has failed for good.
    Failed(Failures),
}

impl State {
    pub(super) fn new(input: &Input) -> Self {
        let terms = &input.terms;
        let mut tried = BTreeMap::new();
        for before in &terms.before {
            let is_final = terms.leaves_out && before.failed >= terms.attempts;
            // Without items that are left out, the last attempt is made once more if its outcome did not come through.
            let failed = match is_final {
                true => before.failed,
                false => before.failed.min(terms.attempts.saturating_sub(1)),
            };
            let unit = Tried {
                failed,
                is_final,
                ..Tried::default()
            };
            tried.insert(before.unit, unit);
        }
        Self {
            attempts: terms.attempts,
            leaves_out: terms.leaves_out,
            backoff: terms.backoff,
            count: 0,
            round: 0,
            turn: 0,
            frontier: 0,
            only_failed: false,
            apart: None,
            tried,
            at_work: Vec::new(),
            pieces: Vec::new(),
            whole_failed: terms.whole_failed,
            whole_is_final: false,
            is_whole_open: false,
            redo: None,
            wait: Duration::ZERO,
            history: Vec::new(),
            most_attempts: MOST_ATTEMPTS,
            untold: Vec::new(),
        }
    }

    pub(super) fn begin_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    pub(super) fn is_current(&self, round: u64) -> bool {
        self.round == round
    }

    /// Whether the values have to be read for the first time.
    pub(super) fn is_first(&self) -> bool {
        self.turn == 0 && self.frontier == 0 && self.pieces.is_empty() && self.apart.is_none()
    }

    pub(super) fn attempt_of(&self, unit: usize) -> u32 {
        let tried = self.tried.get(&unit);
        tried.map_or(1, |tried| tried.failed.saturating_add(1))
    }

    /// Keeps what a round has made. Returns whether it may go on.
    pub(super) fn keep(
        &mut self,
        round: u64,
        mut piece: Piece,
        failed: Vec<Trouble>,
        pass: &Pass,
    ) -> bool {
        if !self.is_current(round) {
            return false;
        }
        self.frontier = piece.begin + piece.values;
        piece.turn = self.turn;
        let mut goes_on = true;
        for trouble in failed {
            goes_on &= self.fail(trouble, pass);
        }
        match self.add(piece) {
            Ok(()) => goes_on,
            Err(error) => self.fail(Trouble::new(None, error.permanent()), pass),
        }
    }

    fn add(&mut self, piece: Piece) -> Result<(), OtherType> {
        if let Some(last) = self.pieces.last_mut()
            && last.turn == piece.turn
            && last.begin + last.values == piece.begin
        {
            let before = last.outputs.len();
            last.outputs.append(piece.outputs)?;
            last.trail.append(piece.trail, last.values, before);
            last.values += piece.values;
            return Ok(());
        }
        self.pieces.push(piece);
        Ok(())
    }

    pub(super) fn begins(&mut self, unit: usize) {
        // Its values begin one by one, and end together.
        if !self.at_work.contains(&unit) {
            self.at_work.push(unit);
        }
    }

    fn ended(&mut self, unit: usize) {
        if let Some(place) = self.at_work.iter().position(|other| *other == unit) {
            self.at_work.swap_remove(place);
        }
    }

    pub(super) fn at_work(&self) -> BTreeSet<usize> {
        self.at_work.iter().copied().collect()
    }

    /// The work was stopped: these have failed an attempt. What it makes after that is dropped.
    pub(super) fn cut_off(&mut self, troubles: Vec<Trouble>, pass: &Pass) -> Left {
        for trouble in troubles {
            self.fail(trouble, pass);
        }
        self.begin_round();
        match self.has_failed() {
            true => Left::Failed(self.culprits()),
            false => {
                self.wait = self.backoff.draw(self.most_failed());
                Left::Again
            }
        }
    }

    /// A unit has come to its end, among others that go on.
    pub(super) fn done(&mut self, unit: usize, mut piece: Piece) {
        self.ended(unit);
        piece.turn = self.turn;
        if let Some(tried) = self.tried.get_mut(&unit) {
            tried.done_in = Some(self.turn);
        }
        self.pieces.push(piece);
    }

    /// An attempt has failed. Returns whether the others go on.
    pub(super) fn fail(&mut self, trouble: Trouble, pass: &Pass) -> bool {
        let Some(unit) = trouble.unit else {
            self.whole_failed = self.whole_failed.saturating_add(1);
            self.whole_is_final = trouble.permanent || self.whole_failed >= self.attempts;
            self.is_whole_open = !self.whole_is_final;
            let failure = pass.named(trouble, self.whole_failed, self.whole_is_final);
            self.note(failure);
            return false;
        };
        let tried = self.tried.entry(unit).or_default();
        if tried.failed_in == Some(self.turn) || tried.is_final {
            // Of an item's values, the first that fails counts.
            return true;
        }
        tried.failed = tried.failed.saturating_add(1);
        tried.failed_in = Some(self.turn);
        tried.done_in = None;
        tried.is_final = trouble.permanent || tried.failed >= self.attempts;
        let (attempt, is_final) = (tried.failed, tried.is_final);
        let failure = pass.named(trouble, attempt, is_final);
        self.note(failure);
        !is_final || self.leaves_out
    }

    fn note(&mut self, failure: ItemFailure) {
        if !failure.permanent {
            self.untold.push(failure.clone());
        }
        if self.history.len() >= self.most_attempts {
            // Each item's last one is kept. The next time is far off, since this takes as long as there are attempts.
            let mut seen = BTreeSet::from([failure.item]);
            let newest_first = self.history.drain(..).rev();
            let mut last: Failures = newest_first
                .filter(|earlier| seen.insert(earlier.item))
                .collect();
            last.reverse();
            self.history = last;
            self.most_attempts = MOST_ATTEMPTS.max(2 * self.history.len());
        }
        self.history.push(failure);
    }

    /// Takes the failed attempts of items that are to be tried again, to be put on record.
    pub(super) fn take_open(&mut self) -> Failures {
        let is_final = self.final_items();
        let history = std::mem::take(&mut self.history);
        let (last, open) = history
            .into_iter()
            .partition(|failure| is_final.contains(&failure.item));
        self.history = last;
        open
    }

    /// A unit failed among others that go on. Returns how long it is to wait, or `None` if it has failed for good.
    pub(super) fn fail_one(&mut self, trouble: Trouble, pass: &Pass) -> Option<Duration> {
        let unit = trouble.unit;
        self.fail(trouble, pass);
        self.ended(unit?);
        let tried = self.tried.get_mut(&unit?)?;
        if self.apart.is_none() {
            // Its next attempt is a turn of its own. Units that are tried one at a time have one attempt each before any has
            // another, because nothing is on record of those that follow.
            tried.failed_in = None;
        }
        (!tried.is_final).then(|| self.backoff.draw(tried.failed))
    }

    /// Whether the packet has failed for good.
    pub(super) fn has_failed(&self) -> bool {
        // Not looked for after each failure if it does not matter.
        let mut tried = self.tried.values();
        self.whole_is_final || (!self.leaves_out && tried.any(|tried| tried.is_final))
    }

    /// What is left to do after a turn. If there is more, it is arranged.
    pub(super) fn left(&mut self, round: u64) -> Left {
        if !self.is_current(round) {
            // Nobody waits for it.
            return Left::Failed(vec![ItemFailure::whole("it was given up")]);
        }
        if self.has_failed() {
            return Left::Failed(self.culprits());
        }
        if let Some(waits) = self.redo.take() {
            self.forget_outputs();
            self.next_turn();
            self.wait = match waits {
                true => self.backoff.draw(self.most_failed()),
                false => Duration::ZERO,
            };
            return Left::Again;
        }
        if let Some(apart) = self.apart {
            let turn = self.turn;
            let tried = self.tried.entry(apart).or_default();
            if !tried.is_final && tried.failed_in != Some(turn) {
                tried.done_in = Some(turn);
            }
            self.wait = Duration::ZERO;
            return Left::Again;
        }
        if self.is_whole_open {
            self.wait = self.backoff.draw(self.whole_failed);
            self.is_whole_open = false;
            self.forget_outputs();
            self.next_turn();
            return Left::Again;
        }
        self.mark_done();
        if self.open() == 0 {
            return Left::Nothing;
        }
        self.wait = self.backoff.draw(self.most_failed());
        self.only_failed = true;
        self.next_turn();
        Left::Again
    }

    fn next_turn(&mut self) {
        self.turn += 1;
        self.frontier = 0;
    }

    /// Units that had their turn and did not fail in it are done.
    fn mark_done(&mut self) {
        let turn = self.turn;
        for tried in self.tried.values_mut() {
            if !tried.is_final && tried.failed_in != Some(turn) && tried.done_in.is_none() {
                tried.done_in = Some(turn);
            }
        }
    }

    pub(super) fn outgrows_the_record(&self) -> bool {
        self.tried.len() > MOST_ITEMS
    }

    /// How many units are to be tried again.
    pub(super) fn open(&self) -> usize {
        let is_open = |tried: &&Tried| !tried.is_final && tried.done_in.is_none();
        self.tried.values().filter(is_open).count()
    }

    fn most_failed(&self) -> u32 {
        let open = self.tried.values();
        let open = open.filter(|tried| !tried.is_final && tried.done_in.is_none());
        open.map(|tried| tried.failed).max().unwrap_or(1)
    }

    /// The sink has not taken the outputs. They are gone, and all units that count are tried again, the one at fault as
    /// well unless it has failed for good.
    pub(super) fn sink_failed(&mut self, trouble: Trouble, pass: &Pass) {
        let unit = trouble.unit;
        // It has had its attempt in this turn, but for the sink.
        self.turn += 1;
        self.fail(trouble, pass);
        if let Some(unit) = unit {
            let is_final = self.tried.get(&unit).is_some_and(|tried| tried.is_final);
            self.redo = Some(!is_final);
        }
    }

    /// A round has ended in the middle. What it had made is lost, and which units have had their turn is not known: all that
    /// count are tried again.
    pub(super) fn broken_off(&mut self, trouble: Trouble, pass: &Pass) {
        if self.has_failed() {
            return;
        }
        // One that has failed for good would be tried for ever: it is the packet that fails then.
        let is_final = |unit: &usize| self.tried.get(unit).is_some_and(|tried| tried.is_final);
        let unit = trouble.unit.filter(|unit| !is_final(unit));
        self.fail(Trouble { unit, ..trouble }, pass);
        if unit.is_some() {
            self.redo = Some(true);
        }
    }

    fn forget_outputs(&mut self) {
        self.pieces.clear();
        self.only_failed = false;
        for tried in self.tried.values_mut() {
            tried.done_in = None;
        }
    }

    /// The piece that has what all values have become, if nothing failed.
    pub(super) fn only_piece(&mut self) -> Option<Piece> {
        match self.pieces.as_slice() {
            [only] if self.tried.is_empty() && only.values == self.count => self.pieces.pop(),
            _ => None,
        }
    }

    /// Whether all that was made counts.
    pub(super) fn is_clean(&self) -> bool {
        self.tried.is_empty()
    }

    /// Whether what was made of a unit in a turn counts.
    pub(super) fn is_valid(&self, unit: usize, turn: u64) -> bool {
        let tried = self.tried.get(&unit);
        tried.is_none_or(|tried| !tried.is_final && tried.done_in == Some(turn))
    }

    /// The failed attempts at what makes the packet fail for good.
    fn culprits(&self) -> Failures {
        let is_final = match self.whole_is_final {
            true => BTreeSet::from([None]),
            false => self.final_items(),
        };
        let attempts = self.history.iter();
        let culprits = attempts.filter(|failure| is_final.contains(&failure.item));
        let mut culprits: Failures = culprits.cloned().collect();
        culprits.sort_by_key(|failure| failure.item);
        culprits
    }

    /// The items of attempts after which there is no other one.
    fn final_items(&self) -> BTreeSet<Option<u64>> {
        let attempts = self.history.iter();
        let last = attempts.filter(|failure| failure.permanent);
        last.map(|failure| failure.item).collect()
    }

    /// The items that are left out: the attempts that are not on record, how many items they are in all, and the first
    /// hundred of them.
    pub(super) fn left_out(&mut self) -> (Failures, u64, Vec<usize>) {
        let left_out = self.tried.iter().filter(|(_, tried)| tried.is_final);
        let count = left_out.clone().count() as u64;
        let first = left_out.map(|(unit, _)| *unit).take(LISTED).collect();
        let is_final = self.final_items();
        let mut skipped = std::mem::take(&mut self.history);
        skipped.retain(|failure| is_final.contains(&failure.item));
        (skipped, count, first)
    }

    /// Replaces a round that is stuck. `None` if nothing is left to do without the unit at fault.
    pub(super) fn replace(&mut self, round: u64, trouble: Trouble, pass: &Pass) -> Option<u64> {
        if !self.is_current(round) || !self.fail(trouble, pass) {
            return None;
        }
        Some(self.begin_round())
    }

    /// The next unit that is tried by itself.
    pub(super) fn next_apart(&mut self, units: usize) -> Option<usize> {
        let from = self.apart.map_or(0, |last| last + 1);
        self.apart = None;
        self.frontier = 0;
        let next = (from..units).find(|unit| self.is_due(*unit));
        self.apart = next;
        next
    }
}
