//! Reading postcard with a limit to the stack that it takes. Its reader recurses as deeply as the bytes say: a megabyte of them
//! that nests a recursive type a million times would overflow the stack, which ends the process, and the next one that is
//! given the message.

use postcard::de_flavors::{Flavor, Slice};
use postcard::{Deserializer, Error};
use serde::Deserialize;

use super::Malformed;

/// Bytes of the stack that reading may take. A thread has 2 MiB unless it was asked for less, and what can be
/// [written](super::strict) takes much less.
const MOST_STACK: usize = 1024 * 1024;

/// Postcard has no such error. This one is none that reading makes.
const TOO_DEEP: Error = Error::SerializeBufferFull;

/// Reads a value, and returns the bytes after it too.
pub(super) fn read<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
) -> Result<(T, &'de [u8]), Malformed> {
    let mut reader = Deserializer::from_flavor(Bounded {
        bytes: Slice::new(bytes),
        begin: here(),
    });
    let value = T::deserialize(&mut reader);
    match value.and_then(|value| Ok((value, reader.finalize()?))) {
        Err(TOO_DEEP) => Err(Malformed::TooDeep),
        read => Ok(read?),
    }
}

/// An address in the current part of the stack.
#[inline]
fn here() -> usize {
    let marker = 0u8;
    std::ptr::from_ref(&marker).addr()
}

/// Bytes that are read only as long as the stack has not grown too much.
struct Bounded<'de> {
    bytes: Slice<'de>,
    begin: usize,
}

impl Bounded<'_> {
    #[inline]
    fn check(&self) -> Result<(), Error> {
        match self.begin.abs_diff(here()) <= MOST_STACK {
            true => Ok(()),
            false => Err(TOO_DEEP),
        }
    }
}

impl<'de> Flavor<'de> for Bounded<'de> {
    type Remainder = &'de [u8];
    type Source = &'de [u8];

    #[inline]
    fn pop(&mut self) -> Result<u8, Error> {
        self.check()?;
        self.bytes.pop()
    }

    fn size_hint(&self) -> Option<usize> {
        self.bytes.size_hint()
    }

    #[inline]
    fn try_take_n(&mut self, count: usize) -> Result<&'de [u8], Error> {
        self.check()?;
        self.bytes.try_take_n(count)
    }

    fn finalize(self) -> Result<&'de [u8], Error> {
        self.bytes.finalize()
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Node(Box<Tree>),
        List(Vec<Tree>),
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Chain {
        next: Option<Box<Chain>>,
    }

    #[test]
    fn a_million_levels_are_an_error() {
        // `Node` a million times, and lists of one list; and options that are there, within each other.
        let nodes = vec![1; 1_000_000];
        let lists = [2, 1].repeat(1_000_000);
        for bytes in [&nodes, &lists] {
            let read = read::<Tree>(bytes);
            assert!(matches!(read, Err(Malformed::TooDeep)), "{read:?}");
        }
        let read = read::<Chain>(&nodes);
        assert!(matches!(read, Err(Malformed::TooDeep)), "{read:?}");
    }

    #[test]
    fn what_is_left_over_is_returned() {
        let (value, rest) = read::<u64>(&[7, 8, 9]).unwrap();
        assert_eq!((value, rest), (7, [8, 9].as_slice()));
        assert!(matches!(read::<u64>(&[]), Err(Malformed::Postcard(_))));
    }
}
