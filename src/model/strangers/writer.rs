//! What the stranger writes: messages of every kind with each field at its edges, except those that only a signature could tell
//! from the run's own.

use super::{FIRST, Message, OF_STRANGER, SECOND, Setting, Value, Work};
use crate::core::tree::Tree;

fn value(items: usize, contains: u64) -> Value {
    Value {
        items: vec![OF_STRANGER; items],
        contains,
    }
}

impl Setting {
    pub(super) fn written(&self) -> Vec<Message> {
        let mut written = Vec::new();
        let (leaves, own) = (self.leaves(SECOND), self.fan_in(SECOND));
        let other = own + 1;
        let mut write = |generation, fan_in, work| {
            written.push(Message {
                generation,
                fan_in,
                work,
            });
        };
        // Without a generation, anything.
        for leaf in 0..=leaves {
            write(None, own, Work::Leaf(leaf, value(1, 1)));
        }
        write(None, own, Work::Finish(value(1, leaves)));
        // In the name of the run, what contradicts it.
        for leaf in 0..leaves {
            write(Some(SECOND), own, Work::Leaf(leaf, value(3, 1)));
            write(Some(SECOND), own, Work::Leaf(leaf, value(0, 1)));
            write(Some(SECOND), other, Work::Leaf(leaf, value(1, 1)));
        }
        for leaf in [leaves, leaves + 1, 1 << 40] {
            write(Some(SECOND), own, Work::Leaf(leaf, value(1, 1)));
        }
        for contains in [0, leaves - 1, leaves + 1] {
            write(Some(SECOND), own, Work::Finish(value(1, contains)));
        }
        // Groups before their time, those that there are not, and with another size.
        let levels = Tree::new(leaves, own).root_level();
        for level in 1..=levels + 1 {
            for (group, fan_in) in [(0, own), (1, own), (0, other)] {
                write(Some(SECOND), fan_in, Work::Reduce(level, group));
            }
        }
        // A finished value of the first run, whatever became of it.
        let first = self.fan_in(FIRST);
        write(Some(FIRST), first, Work::Finish(value(1, leaves)));
        written
    }
}
