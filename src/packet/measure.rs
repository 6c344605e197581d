//! How much memory values take, about: what is in flight inside the process is bounded in bytes.
//!
//! A type that needs no drop owns nothing on the heap, so its size is known. Of any other type, serde visits the strings,
//! lists and numbers that a value owns, and a [`Counter`] adds up their sizes. Memory that a type's `Serialize` does not
//! show is not seen.

mod counter;

use std::mem::needs_drop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;

use counter::Counter;

/// Packets of up to this many items are measured in full, and as many items of any other packet.
const FEW: usize = 32;
/// Of a larger packet, one item of this many is measured.
const ONE_OF: usize = 8;
/// Items vary if the largest takes more than this many times the mean. Then every item is measured.
const VARIED: usize = 2;

/// Estimated memory of a value, in bytes.
pub(crate) fn value<T: Serialize>(value: &T) -> usize {
    match needs_drop::<T>() {
        true => guarded(size_of::<T>(), || one(value)),
        false => size_of::<T>(),
    }
}

/// Measures the packets of one submission.
pub(crate) struct Measure {
    random: fastrand::Rng,
    /// Whether the items of the packet before varied.
    is_varied: bool,
}

impl Measure {
    pub(crate) fn new() -> Self {
        Self {
            // The same input is measured at the same items each time.
            random: fastrand::Rng::with_seed(0),
            is_varied: false,
        }
    }

    /// Estimated memory of a packet's items, in bytes.
    pub(crate) fn list<T: Serialize>(&mut self, items: &[T]) -> usize {
        match needs_drop::<T>() {
            true => guarded(size_of_val(items), || self.measure(items)),
            false => size_of_val(items),
        }
    }

    fn measure<T: Serialize>(&mut self, items: &[T]) -> usize {
        let samples = (items.len() / ONE_OF).max(FEW);
        if !self.is_varied && samples < items.len() {
            let sampled = self.sample(items, samples);
            if !sampled.is_varied() {
                return sampled.mean().saturating_mul(items.len());
            }
        }
        let all = items.iter().fold(Sizes::default(), Sizes::with);
        self.is_varied = all.is_varied();
        all.sum
    }

    /// Measures one item of each of about `samples` stretches, at a random place: a pattern in the input cannot hide.
    fn sample<T: Serialize>(&mut self, items: &[T], samples: usize) -> Sizes {
        let stretches = items.chunks(items.len().div_ceil(samples.max(1)).max(1));
        stretches.fold(Sizes::default(), |sizes, stretch| {
            match stretch.get(self.random.usize(..stretch.len().max(1))) {
                Some(item) => sizes.with(item),
                None => sizes,
            }
        })
    }
}

/// Sizes of some items.
#[derive(Clone, Copy, Default)]
struct Sizes {
    count: usize,
    sum: usize,
    largest: usize,
}

impl Sizes {
    fn with<T: Serialize>(self, item: &T) -> Self {
        let size = one(item);
        Self {
            count: self.count + 1,
            sum: self.sum.saturating_add(size),
            largest: self.largest.max(size),
        }
    }

    fn mean(&self) -> usize {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    fn is_varied(&self) -> bool {
        self.largest > VARIED.saturating_mul(self.mean())
    }
}

/// An error of the type's own `Serialize` ends the count, and is none of the run's.
#[inline]
fn one<T: Serialize>(value: &T) -> usize {
    let mut counter = Counter::new();
    let _ = value.serialize(&mut counter);
    counter.bytes().max(size_of::<T>())
}

/// As `measure` says; `otherwise` if the type's own `Serialize` panics.
fn guarded(otherwise: usize, measure: impl FnOnce() -> usize) -> usize {
    catch_unwind(AssertUnwindSafe(measure)).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_owns_nothing_has_its_size() {
        assert_eq!(value(&(1u8, 2u64)), 16);
        assert_eq!(Measure::new().list(&[1u64; 1_000]), 8_000);
    }

    #[test]
    fn a_uniform_packet_is_estimated_from_some_items() {
        let items: Vec<_> = (0..10_000u64)
            .map(|n| (n, "x".repeat(1_000 + n as usize % 7)))
            .collect();
        let bytes = Measure::new().list(&items);
        assert!((10_000_000..10_500_000).contains(&bytes), "{bytes}");
    }

    /// An item in a thousand has all the memory, at a place that differs from packet to packet: within some packets one
    /// is seen, and from then on all are.
    #[test]
    fn a_few_large_items_are_found() {
        const LARGE: usize = 100_000;
        let mut measure = Measure::new();
        let estimates = (0..100).map(|packet| {
            let items: Vec<_> = (0..1_000)
                .map(|n| match n == (packet * 37) % 1_000 {
                    true => "x".repeat(LARGE),
                    false => String::new(),
                })
                .collect();
            measure.list(&items)
        });
        let estimates: Vec<usize> = estimates.collect();
        let missed = estimates.iter().take_while(|bytes| **bytes < LARGE).count();
        assert!(missed < 20, "{missed}");
        assert!(estimates.iter().skip(missed).all(|bytes| *bytes >= LARGE));
    }

    /// Items of two sizes that take turns are not mistaken for items of one.
    #[test]
    fn a_pattern_is_not_hidden() {
        for period in [2usize, 8, 16, 32, 100] {
            let items: Vec<_> = (0..3_200)
                .map(|n| "x".repeat(10_000 * usize::from(n % period == 0)))
                .collect();
            let real = 10_000 * 3_200usize.div_ceil(period);
            let bytes = Measure::new().list(&items);
            assert!((real / 2..real * 2).contains(&bytes), "{period}: {bytes}");
        }
    }

    #[test]
    fn a_type_that_cannot_be_written_has_its_own_size() {
        struct Odd(#[allow(dead_code)] String, bool);
        impl Serialize for Odd {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                assert!(!self.1, "cannot be written");
                Err(serde::ser::Error::custom("nor this"))
            }
        }
        for panics in [false, true] {
            let odd = [Odd("rain".into(), panics), Odd("hail".into(), panics)];
            assert_eq!(Measure::new().list(&odd), size_of_val(&odd));
            assert_eq!(value(&odd), size_of_val(&odd));
        }
    }
}
