//! Hashes of keys inside the process. They leave it nowhere, so they need not be stable; each process has a seed of its own,
//! so that input from outside cannot be made to collide.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::OnceLock;

/// Odd numbers with about as many ones as zeros.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const LAST: u64 = 0xd6e8_feb8_6659_fd93;

fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().build_hasher().finish())
}

/// The hash of a key.
pub(super) fn of<K: Hash>(key: &K) -> u64 {
    let mut mixer = Mixer(seed());
    key.hash(&mut mixer);
    mixer.finish()
}

/// Multiplies eight bytes at a time into the state, and folds the product's halves: a few cycles for a number or a short
/// text.
struct Mixer(u64);

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // Both halves matter.
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.write_u64(u64::from_le_bytes(*chunk));
        }
        let mut last = 0;
        for byte in rest {
            last = last << 8 | u64::from(*byte);
        }
        // The length tells a text from the same one followed by zeros.
        self.write_u64(last ^ (bytes.len() as u64).rotate_right(8));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = fold(self.0 ^ number, MULTIPLIER);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.0, LAST)
    }
}

/// A key with its hash, so that a table that grows, is split or is merged with another need not hash again.
#[derive(Clone)]
pub(super) struct Hashed<K> {
    hash: u64,
    pub(super) key: K,
}

impl<K: Hash> Hashed<K> {
    #[inline]
    pub(super) fn new(key: K) -> Self {
        Self {
            hash: of(&key),
            key,
        }
    }
}

impl<K> Hashed<K> {
    /// One of `parts` parts, by bits that a hash map does not use to find a place.
    #[inline]
    pub(super) fn part(&self, parts: usize) -> usize {
        (self.hash >> 40) as usize % parts.max(1)
    }
}

impl<K> Hash for Hashed<K> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K: PartialEq> PartialEq for Hashed<K> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl<K: Eq> Eq for Hashed<K> {}

/// Takes the hash that a key has.
#[derive(Clone, Copy, Default)]
pub(super) struct Known(u64);

impl Hasher for Known {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `Hashed` is hashed with it, by the method above.
        self.0 = of(&bytes);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_that_differ_a_little_have_different_hashes() {
        let numbers: HashSet<u64> = (0..100_000u32).map(|number| of(&number)).collect();
        assert_eq!(numbers.len(), 100_000);
        let texts = (0..1000).flat_map(|number| [format!("{number}"), format!("{number}\0")]);
        let texts: HashSet<u64> = texts.map(|text| of(&text)).collect();
        assert_eq!(texts.len(), 2000);
    }

    #[test]
    fn every_part_gets_about_as_many() {
        let mut parts = [0; 16];
        for number in 0..16_000u64 {
            parts[Hashed::new(number << 32).part(16)] += 1;
        }
        assert!(
            parts.iter().all(|count| (800..1200).contains(count)),
            "{parts:?}"
        );
    }
}
