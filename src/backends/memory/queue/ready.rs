//! The messages of a queue that are ready: those of a run in their order, and the runs in turn.

use std::collections::{HashMap, VecDeque};
use std::mem::replace;

use super::state::Message;
use crate::core::id::RunId;

/// A run; `None` are the messages that belong to none, in a turn of their own.
type Of = Option<RunId>;

/// A run's turn ends with the message that makes it this many bytes. They stand for work: a packet of a large run has a
/// thousand items, and a small run's ten packets, of an item each, go in one turn.
const TURN: usize = 4 * 1024;

/// Takes messages of each run in turn, so that a run of ten items does not wait for all that one of ten million has on the
/// queue. With the messages of one run, it is a list, and looks nothing up.
#[derive(Default)]
pub(super) struct Ready {
    /// Whose turn it is, and that run's messages. They are empty only if there are no others.
    first: (Of, VecDeque<Message>),
    /// Bytes that were taken in this turn.
    taken: usize,
    /// The messages of the runs that wait for their turn, none of which is without.
    others: HashMap<Of, VecDeque<Message>>,
    /// The order of `others`.
    turns: VecDeque<Of>,
    length: usize,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Makes room for messages that are probably of the one run that is there.
    pub(super) fn reserve(&mut self, messages: usize) {
        if self.turns.is_empty() {
            self.first.1.reserve(messages);
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        let (of, messages) = &mut self.first;
        if self.length == 0 && *of != message.sent.run {
            of.clone_from(&message.sent.run);
        }
        self.length += 1;
        if *of == message.sent.run {
            messages.push_back(message);
        } else if let Some(messages) = self.others.get_mut(&message.sent.run) {
            messages.push_back(message);
        } else {
            let of = message.sent.run.clone();
            self.turns.push_back(of.clone());
            self.others.insert(of, VecDeque::from([message]));
        }
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.first.1.pop_front()?;
        self.length -= 1;
        self.taken += message.sent.size();
        if self.taken < TURN && !self.first.1.is_empty() {
            return Some(message);
        }
        self.taken = 0;
        if let Some(next) = self.turns.pop_front() {
            let messages = self.others.remove(&next).unwrap_or_default();
            let (of, messages) = replace(&mut self.first, (next, messages));
            if !messages.is_empty() {
                self.turns.push_back(of.clone());
                self.others.insert(of, messages);
            }
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Outgoing;

    /// Of a size that makes a turn.
    fn push(ready: &mut Ready, body: &'static str) {
        push_sized(ready, body, TURN);
    }

    fn push_sized(ready: &mut Ready, body: &'static str, size: usize) {
        let sent = Outgoing::new(body).attribute("", "x".repeat(size));
        // A message is named after its run.
        let run = body.trim_end_matches(|c: char| c.is_ascii_digit());
        ready.push(Message::new(match run {
            "" => sent,
            run => sent.run(run),
        }));
    }

    fn pop(ready: &mut Ready) -> String {
        let message = ready.pop().unwrap();
        String::from_utf8(message.sent.body.to_vec()).unwrap()
    }

    fn all(ready: &mut Ready) -> Vec<String> {
        (0..ready.len()).map(|_| pop(ready)).collect()
    }

    #[test]
    fn one_run_is_a_list() {
        for of in ["", "a"] {
            let mut ready = Ready::default();
            assert!(ready.is_empty() && ready.pop().is_none());
            for message in ["1", "2", "3"] {
                let message = format!("{of}{message}").leak();
                push(&mut ready, message);
            }
            assert_eq!(ready.len(), 3);
            assert_eq!(all(&mut ready), ["1", "2", "3"].map(|n| format!("{of}{n}")));
            assert!(ready.is_empty() && ready.others.is_empty() && ready.turns.is_empty());
        }
    }

    #[test]
    fn runs_take_turns_and_each_keeps_its_order() {
        let mut ready = Ready::default();
        for message in ["a1", "a2", "a3", "a4", "b1", "1", "c1", "c2", "2"] {
            push(&mut ready, message);
        }
        assert_eq!([pop(&mut ready), pop(&mut ready)], ["a1", "b1"]);
        // A run that comes again waits for those that are there.
        push(&mut ready, "b2");
        let rest = ["1", "c1", "a2", "b2", "2", "c2", "a3", "a4"];
        assert_eq!(all(&mut ready), rest);
        assert!(ready.is_empty() && ready.others.is_empty() && ready.turns.is_empty());
        push(&mut ready, "d1");
        assert_eq!(all(&mut ready), ["d1"]);
    }

    #[test]
    fn many_small_messages_go_in_one_turn() {
        let mut ready = Ready::default();
        for message in ["a1", "a2", "a3"] {
            push(&mut ready, message);
        }
        for message in ["b1", "b2", "b3", "b4", "b5"] {
            push_sized(&mut ready, message, TURN / 4);
        }
        let all = all(&mut ready);
        assert_eq!(all, ["a1", "b1", "b2", "b3", "b4", "a2", "b5", "a3"]);
    }

    #[test]
    fn what_is_pushed_comes_once_whatever_the_order() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut ready, mut there) = (Ready::default(), Vec::new());
        for n in 0..5_000 {
            if random.u8(..) < 140 {
                let of = ["", "a", "b", "c"][random.usize(..4)];
                let body = format!("{of}{n}");
                there.push(body.clone());
                push_sized(&mut ready, body.leak(), random.usize(..2 * TURN));
            } else if !there.is_empty() {
                let popped = pop(&mut ready);
                let at = there.iter().position(|one| *one == popped).unwrap();
                there.remove(at);
            }
            assert_eq!(ready.len(), there.len());
        }
        let mut rest = all(&mut ready);
        rest.sort();
        there.sort();
        assert_eq!(rest, there);
    }
}
