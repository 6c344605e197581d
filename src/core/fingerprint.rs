//! What stands for a list of items, so that two lists can be compared without having both.

use std::fmt;
use std::str::FromStr;

/// A hash of everything that was submitted up to some packet: equal items in equal packets have equal fingerprints, in
/// every process and on every machine. How it is computed is described in `docs/wire-format.md`.
///
/// It protects from mistakes, not from attacks: someone who means to can find other items of the same fingerprint.
///
/// As text it has 32 hexadecimal digits:
///
/// ```
/// use catchment::scratchpad::Fingerprint;
///
/// let fingerprint = Fingerprint::from(7);
/// assert_eq!(fingerprint.to_string(), "00000000000000000000000000000007");
/// assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl From<u128> for Fingerprint {
    fn from(hash: u128) -> Self {
        Self(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}
