//! Putting together what the items of a packet have become, in their order.

use super::super::list::{List, OtherType};
use super::super::trail::Trail;
use super::Mapped;

/// What neighbouring values have become.
pub(super) struct Piece {
    /// The position in the packet of the first of these values, and how many they are.
    pub(super) begin: usize,
    pub(super) values: usize,
    pub(super) outputs: List,
    pub(super) trail: Trail,
    /// The turn in which it was made.
    pub(super) turn: u64,
}

/// A stretch of values whose outputs count.
struct Stretch {
    begin: usize,
    counts: Vec<u32>,
    outputs: List,
}

/// The outputs of all of a packet's `values`, in order; there are none in `outputs` yet. `is_valid` says whether what the
/// value at a position became in a turn counts.
pub(super) fn assemble(
    pieces: Vec<Piece>,
    values: usize,
    is_valid: impl Fn(usize, u64) -> bool,
    mut outputs: List,
) -> Result<Mapped, OtherType> {
    let mut stretches = Vec::with_capacity(pieces.len());
    for piece in pieces {
        cut(piece, &is_valid, &mut stretches);
    }
    stretches.sort_unstable_by_key(|stretch| stretch.begin);
    let mut counts = vec![0; values];
    for stretch in stretches {
        outputs.append(stretch.outputs)?;
        let places = counts.iter_mut().skip(stretch.begin);
        for (place, count) in places.zip(stretch.counts) {
            *place = count;
        }
    }
    Ok(Mapped {
        outputs,
        trail: Trail::Counted(counts),
    })
}

/// Cuts a piece into the stretches that count.
fn cut(piece: Piece, is_valid: &impl Fn(usize, u64) -> bool, stretches: &mut Vec<Stretch>) {
    let counts = match piece.trail {
        Trail::Counted(counts) => counts,
        trail => trail.each().unwrap_or_else(|| vec![1; piece.values]),
    };
    if (0..counts.len()).all(|place| is_valid(piece.begin + place, piece.turn)) {
        return stretches.push(Stretch {
            begin: piece.begin,
            counts,
            outputs: piece.outputs,
        });
    }
    let valid = |place: usize| is_valid(piece.begin + place, piece.turn);
    let mut outputs = piece.outputs.supply();
    let mut place = 0;
    while place < counts.len() {
        let keeps = valid(place);
        let end = (place..counts.len()).find(|place| valid(*place) != keeps);
        let end = end.unwrap_or(counts.len());
        let stretch = counts.get(place..end).unwrap_or_default();
        let total = stretch.iter().map(|count| *count as usize).sum();
        let taken = outputs.next(total);
        if keeps {
            stretches.push(Stretch {
                begin: piece.begin + place,
                counts: stretch.to_vec(),
                outputs: taken,
            });
        }
        place = end;
    }
}
