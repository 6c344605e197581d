//! What processes do, and what happens to them.

use super::rules::Mutation;
use super::state::{
    Behaviour, Counts, Named, Noted, Packet, Phase, Place, Progress, Slot, State, TWO, Value,
};
use super::{Policy, System};

impl System {
    /// Whether an item has failed as often as it may. Its deaths are read when its delivery begins and when it is
    /// named, and not once more when it fails.
    fn has_failed(&self, counts: Counts, item: usize, failed: u8) -> bool {
        match self.mutation {
            Some(Mutation::UnnamedDeathsAndFailures | Mutation::DeathsAndFailures) => {
                self.is_final(counts, item, failed)
            }
            _ => failed >= self.attempts,
        }
    }

    /// Whether an item is final that has failed so often by now, with these other deliveries on record.
    fn is_final(&self, counts: Counts, item: usize, failed: u8) -> bool {
        let deaths = counts.deaths[item];
        let left = self.attempts.saturating_sub(counts.unfinished).max(1);
        let failed_for_good = failed >= self.attempts;
        match self.mutation {
            Some(Mutation::DeathsDoNotCount) => failed_for_good,
            Some(Mutation::UnnamedDeathsCount) => failed_for_good || deaths >= left,
            Some(Mutation::UnnamedDeathsAndFailures) => deaths + failed >= left,
            Some(Mutation::DeathsAndFailures) => deaths + failed >= self.attempts,
            _ => failed_for_good || deaths >= self.attempts,
        }
    }

    /// Whether the message is final as a whole.
    fn is_given_up(&self, counts: Counts, received: u8) -> bool {
        counts.unfinished >= self.attempts && received > self.attempts
    }

    pub(super) fn receive(&self, state: &mut State, process: usize, packet: usize, copy: usize) {
        let message = &mut state.packets[packet].copies[copy];
        message.place = Place::InFlight;
        message.received = (message.received + 1).min(self.attempts + 1);
        let received = message.received;
        state.processes[process][packet] = Slot {
            phase: Phase::Holds,
            copy: copy as u8,
            received,
            is_leased: true,
            ..Slot::default()
        };
    }

    pub(super) fn step(&self, state: &mut State, process: usize, packet: usize) {
        match state.processes[process][packet].phase {
            Phase::Holds => self.begin(state, process, packet),
            Phase::Checks => self.check(state, process, packet),
            Phase::Records => self.record(state, process, packet),
            Phase::Arrives => self.arrive(state, process, packet),
            Phase::Buries(named) => self.bury(state, process, packet, named),
            Phase::Returns => {
                state.processes[process][packet].noted = Noted::Nothing;
                state.abandon(process, packet);
            }
            Phase::Acknowledges => {
                let slot = &mut state.processes[process][packet];
                if std::mem::take(&mut slot.is_leased) {
                    let copy = usize::from(slot.copy);
                    state.packets[packet].copies[copy].place = Place::Gone;
                }
                state.abandon(process, packet);
            }
            Phase::Idle | Phase::Runs => {}
        }
    }

    /// The functions are about to begin. From the second delivery on that is on record, and the counts are read.
    fn begin(&self, state: &mut State, process: usize, packet: usize) {
        let received = state.processes[process][packet].received;
        let counts = state.counts(process, packet);
        let on_record = &state.packets[packet];
        let slot = &mut state.processes[process][packet];
        slot.phase = Phase::Runs;
        if received == 1 {
            return;
        }
        slot.noted = Noted::Whole;
        slot.is_suspect = self.would_be_suspect(counts);
        let mut is_final = self.is_given_up(counts, received);
        for (index, item) in slot.items.iter_mut().enumerate() {
            if !self.has(Mutation::ForgetFailures) {
                item.failed = on_record.failed[index];
            }
            if self.has(Mutation::DropWhatWasSkipped) && on_record.skipped[index] {
                item.progress = Progress::Worked;
            } else if self.is_final(counts, index, item.failed) {
                item.progress = Progress::Final;
                is_final = true;
            }
        }
        if is_final {
            slot.phase = Phase::Checks;
        } else {
            self.go_on(slot);
        }
    }

    /// Something is final by what is on record, unless the message is done.
    fn check(&self, state: &mut State, process: usize, packet: usize) {
        let counts = state.counts(process, packet);
        let received = state.processes[process][packet].received;
        let is_done = state.packets[packet].value.is_some() && !self.has(Mutation::DoNotLook);
        let slot = &mut state.processes[process][packet];
        if is_done {
            slot.phase = Phase::Acknowledges;
        } else if self.is_given_up(counts, received) {
            slot.phase = Phase::Buries(Named::Whole);
        } else {
            self.go_on(slot);
        }
    }

    /// What is next, once an item has worked or is final.
    fn go_on(&self, slot: &mut Slot) {
        let is = |progress| slot.items.iter().position(|item| item.progress == progress);
        slot.phase = match (is(Progress::Final), is(Progress::Open)) {
            (Some(_), _) if self.policy == Policy::Fail && self.has(Mutation::BlameTheFirst) => {
                Phase::Buries(Named::Item(0))
            }
            (Some(item), _) if self.policy == Policy::Fail => {
                Phase::Buries(Named::Item(item as u8))
            }
            (_, Some(_)) => Phase::Runs,
            (Some(_), None) if !self.has(Mutation::ArriveFirst) => Phase::Records,
            _ => Phase::Arrives,
        };
    }

    /// The process writes down that it is at an item, and reads the counts once more.
    pub(super) fn name(&self, state: &mut State, process: usize, packet: usize, item: usize) {
        let slot = &mut state.processes[process][packet];
        let former = std::mem::replace(&mut slot.noted, Noted::Item(item as u8));
        if let (Noted::Item(former), true) = (former, self.has(Mutation::KeepFormerNames)) {
            state.packets[packet].deaths[usize::from(former)] += 1;
        }
        let counts = state.counts(process, packet);
        let slot = &mut state.processes[process][packet];
        if self.is_final(counts, item, slot.items[item].failed) {
            slot.items[item].progress = Progress::Final;
            slot.phase = Phase::Checks;
        }
    }

    pub(super) fn call(&self, state: &mut State, process: usize, packet: usize, item: usize) {
        let counts = state.counts(process, packet);
        let truth = &mut state.packets[packet];
        let slot = &mut state.processes[process][packet];
        slot.items[item].calls += 1;
        state.is_too_often |= slot.items[item].calls > self.attempts;
        let is_first = truth.kills[item] == 0;
        match self.behaviour(packet, item) {
            Behaviour::Kills => return self.kill(state, process, packet, item),
            Behaviour::KillsOnce if is_first => return self.kill(state, process, packet, item),
            Behaviour::Permanent => self.fail_for_good(slot, item),
            Behaviour::Fails => self.fail(truth, slot, counts, item),
            Behaviour::FailsFirst(calls) if truth.failures[item] < calls => {
                self.fail(truth, slot, counts, item);
            }
            Behaviour::Works | Behaviour::KillsOnce | Behaviour::FailsFirst(_) => {
                slot.items[item].progress = Progress::Worked;
                slot.items[item].outputs = (slot.items[item].outputs + 1).min(2);
            }
        }
        if self.has(Mutation::NameAfterCalling) && slot.is_suspect {
            slot.noted = Noted::Item(item as u8);
        }
        self.go_on(slot);
    }

    fn fail_for_good(&self, slot: &mut Slot, item: usize) {
        slot.items[item].failed += 1;
        slot.items[item].progress = Progress::Final;
        if self.has(Mutation::PermanentForThePacket) {
            let open = slot.items.iter_mut();
            for neighbour in open.filter(|item| item.progress == Progress::Open) {
                neighbour.progress = Progress::Final;
            }
        }
    }

    fn fail(&self, truth: &mut Packet, slot: &mut Slot, counts: Counts, item: usize) {
        truth.failures[item] += 1;
        slot.items[item].failed += 1;
        if self.has(Mutation::CountForThePacket) {
            let failed = slot.items.iter().map(|item| item.failed).max();
            slot.items.iter_mut().for_each(|item| {
                item.failed = failed.unwrap_or_default();
            });
        }
        if self.has_failed(counts, item, slot.items[item].failed) {
            slot.items[item].progress = Progress::Final;
        } else if self.has(Mutation::RunAllAgain) {
            let worked = slot.items.iter_mut();
            for neighbour in worked.filter(|item| item.progress == Progress::Worked) {
                neighbour.progress = Progress::Open;
            }
        }
    }

    fn kill(&self, state: &mut State, process: usize, packet: usize, item: usize) {
        state.packets[packet].kills[item] += 1;
        self.end(state, process);
    }

    /// A process ends, and with it each delivery that it holds.
    fn end(&self, state: &mut State, process: usize) {
        for packet in 0..TWO {
            if !state.processes[process][packet].is_idle() {
                state.packets[packet].lost += 1;
                state.abandon(process, packet);
            }
        }
    }

    /// The counts of failed attempts are added to the record.
    fn write(&self, state: &mut State, process: usize, packet: usize) {
        let items = state.processes[process][packet].items;
        let failed = &mut state.packets[packet].failed;
        for (on_record, item) in failed.iter_mut().zip(items) {
            if item.failed == 0 {
                continue;
            }
            let before = *on_record;
            *on_record = match self.has(Mutation::KeepTheLastCount) {
                true => item.failed,
                false => before.max(item.failed),
            };
            state.has_forgotten |= *on_record < before;
        }
    }

    fn record(&self, state: &mut State, process: usize, packet: usize) {
        self.write(state, process, packet);
        let slot = &mut state.processes[process][packet];
        for (skipped, item) in state.packets[packet].skipped.iter_mut().zip(&slot.items) {
            *skipped |= item.progress == Progress::Final;
        }
        slot.phase = match self.has(Mutation::ArriveFirst) {
            true => Phase::Acknowledges,
            false => Phase::Arrives,
        };
    }

    fn arrive(&self, state: &mut State, process: usize, packet: usize) {
        let slot = &mut state.processes[process][packet];
        let value = Value {
            outputs: slot.items.map(|item| item.outputs),
            left_out: slot.items.map(|item| item.progress == Progress::Final),
        };
        let at_slot = &mut state.packets[packet].value;
        match at_slot {
            None => *at_slot = Some(value),
            Some(former) if self.has(Mutation::AddToTheValue) => {
                let both = former.outputs.iter_mut().zip(value.outputs);
                both.for_each(|(former, more)| *former = (*former + more).min(2));
            }
            Some(_) => {}
        }
        let is_late = self.has(Mutation::ArriveFirst) && value.left_out != [false; TWO];
        slot.phase = match is_late {
            true => Phase::Records,
            false => Phase::Acknowledges,
        };
    }

    fn bury(&self, state: &mut State, process: usize, packet: usize, named: Named) {
        self.write(state, process, packet);
        state.packets[packet].dead.get_or_insert(named);
        let slot = &mut state.processes[process][packet];
        slot.noted = Noted::Nothing;
        slot.phase = Phase::Acknowledges;
    }

    pub(super) fn give_back(&self, state: &mut State, process: usize, packet: usize) {
        state.faults_left -= 1;
        self.write(state, process, packet);
        let slot = &mut state.processes[process][packet];
        slot.phase = Phase::Returns;
        if self.has(Mutation::KeepWhatIsHandedBack) {
            state.abandon(process, packet);
        } else {
            slot.noted = Noted::Nothing;
        }
    }

    pub(super) fn crash(&self, state: &mut State, process: usize) {
        state.faults_left -= 1;
        for packet in 0..TWO {
            let noted = state.processes[process][packet].noted;
            let truth = &mut state.packets[packet];
            let hit = match noted {
                Noted::Nothing => continue,
                Noted::Whole => &mut truth.faults_of_whole,
                Noted::Item(item) => &mut truth.faults[usize::from(item)],
            };
            *hit = (*hit + 1).min(self.attempts);
        }
        self.end(state, process);
    }

    pub(super) fn lapse(&self, state: &mut State, process: usize, packet: usize) {
        state.faults_left -= 1;
        let is_on_record = state.processes[process][packet].received > 1;
        let slot = &mut state.processes[process][packet];
        slot.is_leased = false;
        let copy = usize::from(slot.copy);
        state.packets[packet].copies[copy].place = Place::Waits;
        state.packets[packet].lost += 1;
        if is_on_record {
            self.hit_wherever_it_is(&mut state.packets[packet]);
        }
    }

    pub(super) fn copy(&self, state: &mut State, packet: usize) {
        state.faults_left -= 1;
        let packet = &mut state.packets[packet];
        packet.copies[1].place = Place::Waits;
        packet.lost += 1;
        self.hit_wherever_it_is(packet);
    }

    /// A delivery may be unfinished beside another, at whatever item it is by then.
    fn hit_wherever_it_is(&self, truth: &mut Packet) {
        let [first, second] = &mut truth.faults;
        for hit in [first, second, &mut truth.faults_of_whole] {
            *hit = (*hit + 1).min(self.attempts);
        }
    }

    /// What is on record of a packet that nobody will ask for again makes no difference.
    pub(super) fn forget_what_is_over(&self, state: &mut State) {
        for packet in 0..self.packets.len() {
            let idle = state.processes.iter().all(|slots| slots[packet].is_idle());
            let Packet { copies, .. } = state.packets[packet];
            let over = copies.iter().all(|copy| match copy.place {
                Place::Unsent => state.faults_left == 0,
                place => place == Place::Gone,
            });
            if idle && over {
                let before = state.packets[packet];
                let gone = before.copies.map(|copy| super::state::Copy {
                    place: copy.place,
                    received: 0,
                });
                state.packets[packet] = Packet {
                    copies: gone,
                    skipped: before.skipped,
                    dead: before.dead,
                    value: before.value,
                    kills: before.kills,
                    faults: before.faults,
                    faults_of_whole: before.faults_of_whole,
                    ..Packet::default()
                };
            }
        }
    }

    /// Whether each packet is done or a dead letter, and no message is left.
    pub(super) fn is_over(&self, state: &State) -> bool {
        let idle = state.processes.iter().flatten().all(Slot::is_idle);
        let mut packets = state.packets[..self.packets.len()].iter();
        idle && packets.all(|packet| {
            let is_settled = packet.value.is_some() || packet.dead.is_some();
            let mut copies = packet.copies.iter();
            is_settled && copies.all(|copy| matches!(copy.place, Place::Unsent | Place::Gone))
        })
    }
}
