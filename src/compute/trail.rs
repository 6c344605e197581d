//! From the outputs of functions in a row back to the items that they came from.
//!
//! Nothing is written down per output: a function notes how many outputs each of its inputs has, and only if that is not
//! one each. The way back is walked when something has failed.

use std::sync::Arc;

use crate::packet::unit_of;

/// How neighbouring values of a packet went through functions in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    /// The position in the packet of the first of these values.
    begin: usize,
    /// How many outputs each input has, for each function in turn that does not make one of each.
    counts: Vec<Arc<Vec<u32>>>,
}

impl Trace {
    /// Values from position `begin` on, before the first function.
    pub(super) fn at(begin: usize) -> Self {
        Self {
            begin,
            counts: Vec::new(),
        }
    }

    /// Adds a function; `counts` is absent if it made one output of each input.
    pub(super) fn add(&mut self, counts: Option<Vec<u32>>) {
        self.counts.extend(counts.map(Arc::new));
    }

    /// Whether each value has one output.
    pub(super) fn is_plain(&self) -> bool {
        self.counts.is_empty()
    }

    /// The position in the packet of the value that the output at `position` came from.
    pub(super) fn source(&self, position: usize) -> usize {
        let counts = self.counts.iter().rev();
        self.begin + counts.fold(position, |position, counts| unit_of(counts, position))
    }

    /// The same for the first `count` outputs in order.
    pub(super) fn sources(&self, count: usize) -> Vec<usize> {
        let mut counts = self.counts.iter();
        let Some(first) = counts.next() else {
            return (self.begin..self.begin + count).collect();
        };
        let first = first.iter().zip(self.begin..);
        let mut sources: Vec<usize> = first
            .flat_map(|(count, value)| std::iter::repeat_n(value, *count as usize))
            .collect();
        for counts in counts {
            let each = counts.iter().zip(sources);
            sources = each
                .flat_map(|(count, value)| std::iter::repeat_n(value, *count as usize))
                .collect();
        }
        sources.truncate(count);
        sources
    }

    /// Number of outputs of each of the first `values` of these values.
    pub(super) fn each(&self, values: usize) -> Vec<u32> {
        let mut each = vec![1u32; values];
        for counts in &self.counts {
            let mut counts = counts.iter();
            for count in &mut each {
                *count = counts.by_ref().take(*count as usize).sum();
            }
        }
        each
    }
}

/// Where the outputs of a packet came from.
#[derive(Clone, Debug)]
pub(super) enum Trail {
    /// Neighbouring values went through the functions together. Each part has the number of its values, and the end of
    /// its outputs.
    Parts(Vec<Part>),
    /// The number of outputs of each value of the packet.
    Counted(Vec<u32>),
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    trace: Trace,
    values: usize,
    end: usize,
}

impl Trail {
    /// Adds the next values, whose outputs end at `end`.
    pub(super) fn add(&mut self, trace: Trace, values: usize, end: usize) {
        if let Self::Parts(parts) = self {
            parts.push(Part { trace, values, end });
        }
    }

    /// Appends the trail of the next values. There are `values` of these, with `outputs` in all.
    pub(super) fn append(&mut self, next: Self, values: usize, outputs: usize) {
        match (&mut *self, next) {
            (Self::Parts(parts), Self::Parts(next)) => {
                parts.extend(next.into_iter().map(|part| Part {
                    end: part.end + outputs,
                    ..part
                }));
            }
            (_, next) => {
                let mut counts = self.each().unwrap_or_else(|| vec![1; values]);
                counts.extend(next.each().unwrap_or_default());
                *self = Self::Counted(counts);
            }
        }
    }

    /// Cuts the outputs of the part added last: its values belong to groups of these sizes. Appends the end of each
    /// group's outputs to `ends`.
    pub(super) fn ends_of_last(&self, sizes: &[u32], ends: &mut Vec<usize>) {
        let Self::Parts(parts) = self else {
            return;
        };
        let Some(last) = parts.last() else {
            return;
        };
        let before = parts.len().checked_sub(2).and_then(|at| parts.get(at));
        let mut end = before.map_or(0, |before| before.end);
        if last.trace.is_plain() {
            ends.extend(sizes.iter().map(|size| {
                end += *size as usize;
                end
            }));
            return;
        }
        let counts = last.trace.counts.iter();
        let mut counts: Vec<&[u32]> = counts.map(|counts| counts.as_slice()).collect();
        for size in sizes {
            let mut outputs = *size as usize;
            for counts in &mut counts {
                let (these, rest) = counts.split_at(outputs.min(counts.len()));
                outputs = these.iter().map(|count| *count as usize).sum();
                *counts = rest;
            }
            end += outputs;
            ends.push(end);
        }
    }

    /// The position in the packet of the value that the output at `position` came from.
    pub(super) fn source(&self, position: usize) -> usize {
        match self {
            Self::Counted(counts) => unit_of(counts, position),
            Self::Parts(parts) => {
                let part = parts.partition_point(|part| part.end <= position);
                let before = part.checked_sub(1).and_then(|before| parts.get(before));
                let begin = before.map_or(0, |before| before.end);
                let part = parts.get(part);
                part.map_or(position, |part| part.trace.source(position - begin))
            }
        }
    }

    /// Whether each value has one output.
    fn is_plain(&self) -> bool {
        match self {
            Self::Parts(parts) => parts.iter().all(|part| part.trace.is_plain()),
            Self::Counted(counts) => counts.iter().all(|count| *count == 1),
        }
    }

    /// Number of outputs of each value; `None` if one each.
    pub(super) fn each(&self) -> Option<Vec<u32>> {
        if self.is_plain() {
            return None;
        }
        Some(match self {
            Self::Counted(counts) => counts.clone(),
            Self::Parts(parts) => {
                let each = parts.iter().map(|part| part.trace.each(part.values));
                each.collect::<Vec<_>>().concat()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values 5 to 8: the first function makes 2, 0, 1 and 3 of them, the second one drops each third output.
    fn trace() -> Trace {
        let mut trace = Trace::at(5);
        trace.add(Some(vec![2, 0, 1, 3]));
        trace.add(None);
        trace.add(Some(vec![1, 1, 0, 1, 1, 0]));
        trace
    }

    #[test]
    fn outputs_know_their_values() {
        let trace = trace();
        assert_eq!([0, 1, 2, 3].map(|at| trace.source(at)), [5, 5, 8, 8]);
        assert_eq!(trace.sources(4), [5, 5, 8, 8]);
        assert_eq!(trace.sources(2), [5, 5]);
        assert_eq!(trace.each(4), [2, 0, 0, 2]);
        assert_eq!(Trace::at(3).source(4), 7);
    }

    #[test]
    fn a_packet_in_parts_is_one_packet() {
        let mut trail = Trail::Parts(Vec::new());
        trail.add(Trace::at(0), 5, 5);
        assert_eq!((trail.source(4), trail.each()), (4, None));
        trail.add(trace(), 4, 9);
        trail.add(Trace::at(9), 2, 11);
        let sources = (0..11).map(|at| trail.source(at));
        assert!(sources.eq([0, 1, 2, 3, 4, 5, 5, 8, 8, 9, 10]));
        let counts = vec![1, 1, 1, 1, 1, 2, 0, 0, 2, 1, 1];
        assert_eq!(trail.each().as_ref(), Some(&counts));
        let (mut parts, mut ends) = (trail.clone(), Vec::new());
        parts.add(trace(), 4, 15);
        parts.ends_of_last(&[1, 0, 2, 1], &mut ends);
        assert_eq!(ends, [13, 13, 13, 15]);
        let counted = Trail::Counted(counts);
        assert!((0..11).all(|at| trail.source(at) == counted.source(at)));
        assert_eq!(Trail::Counted(vec![1, 1]).each(), None);
    }
}
