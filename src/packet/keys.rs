//! The keys of a deployment, by which it knows its own messages.

use std::fmt;
use std::str::FromStr;

use crate::core::error::{Error, Result};

/// Bytes of a key.
const LENGTH: usize = 32;

/// A secret of 32 random bytes that a deployment's processes share. See [`Keys`].
///
/// `openssl rand -hex 32` makes one. `Debug` does not show it, and no error quotes it. Its memory is not overwritten when it
/// is dropped: code that can read the process's memory can forge messages in other ways as well.
///
/// ```
/// use catchment::Key;
///
/// let key = Key::from_hex("8f0c1e5ad26b49377c91e4f0b2d85a6313f7c0a9e86d542b1f39d07ab4c6e852")?;
/// assert_eq!(format!("{key:?}"), "Key(..)");
/// assert!(Key::from_hex("8f0c").is_err());
/// # Ok::<(), catchment::Error>(())
/// ```
#[derive(Clone)]
pub struct Key(pub(super) [u8; LENGTH]);

impl Key {
    /// A key of these bytes, which must come from a generator of random numbers, and not from a password.
    ///
    /// ```
    /// use catchment::{Key, Keys};
    ///
    /// # let bytes = [7; 32];
    /// let keys = Keys::new(Key::new(bytes)); // from wherever the application keeps its secrets
    /// ```
    pub const fn new(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// Reads a key of 64 hexadecimal digits. Space around it is ignored, such as the newline at the end of a file.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`key`) if the text is not that. The error does not quote it.
    pub fn from_hex(text: &str) -> Result<Self> {
        let digits = text.trim().as_bytes();
        let mut bytes = [0; LENGTH];
        if digits.len() != 2 * LENGTH || !decode_hex(&digits.to_ascii_lowercase(), &mut bytes) {
            let problem = format!(
                "a key is {} hexadecimal digits: `openssl rand -hex {LENGTH}` makes one",
                2 * LENGTH
            );
            return Err(Error::invalid_argument("key", problem));
        }
        Ok(Self(bytes))
    }

    /// Reads a key, as [`from_hex`](Self::from_hex) does, from an environment variable.
    ///
    /// ```
    /// use catchment::Key;
    ///
    /// let error = Key::from_env("NO_SUCH_VARIABLE").unwrap_err();
    /// assert_eq!(error.to_string(), "environment variable NO_SUCH_VARIABLE is not set, and should have a key");
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`key`) if the variable is not set, or is not a key. The error names the variable and does
    /// not quote it.
    pub fn from_env(variable: &str) -> Result<Self> {
        let text = read_env(variable)?;
        Self::from_hex(&text).map_err(|error| of_variable(variable, &error))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(..)")
    }
}

impl From<[u8; LENGTH]> for Key {
    fn from(bytes: [u8; LENGTH]) -> Self {
        Self::new(bytes)
    }
}

impl FromStr for Key {
    type Err = Error;

    /// As [`from_hex`](Self::from_hex).
    fn from_str(text: &str) -> Result<Self> {
        Self::from_hex(text)
    }
}

/// The keys of a deployment: the first one signs, and each of them verifies. For
/// [`Deployment::signed`](crate::Deployment::signed).
///
/// Every process of a deployment needs them: those that submit, work, read results or list dead letters.
///
/// # Rotation
/// A new key is introduced and the old one removed without a pause, each step in all processes before the next one begins:
///
/// 1. `Keys::new(old).also(new)`: everybody accepts the new key, and nobody signs with it yet.
/// 2. `Keys::new(new).also(old)`: everybody signs with the new key.
/// 3. `Keys::new(new)`, when nothing that the old key has signed is needed any more: no message of a run under way, no result
///    that has not been read, no dead letter that is to be redriven.
///
/// What bears the tag of a key that was removed too early is refused like a forgery. Nothing is lost by that: once the key is
/// back, a [redrive](crate::Run::redrive) completes the runs.
///
/// # Introducing keys
/// A deployment that is in use has messages without tags, and processes without keys. Let all processes
/// [accept those](Self::accept_unsigned) first, and take that back once every process signs and everything from before is done.
///
/// ```
/// use catchment::{Backend, Key, Keys, Pipeline};
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// # let (this_year, last_year) = (Key::new([1; 32]), Key::new([2; 32]));
/// let keys = Keys::new(this_year).also(last_year);
/// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
/// let adder = adder.deploy("adder", Backend::memory())?.signed(keys);
/// let worker = adder.worker().start();
/// assert_eq!(adder.submit(1..=5).await?.result().await?, 30);
/// worker.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "keys do nothing until a deployment has them"]
pub struct Keys {
    signing: Key,
    others: Vec<Key>,
    accepts_unsigned: bool,
}

impl Keys {
    /// The key that signs, and verifies.
    pub fn new(signing: impl Into<Key>) -> Self {
        Self {
            signing: signing.into(),
            others: Vec::new(),
            accepts_unsigned: false,
        }
    }

    /// Adds a key that verifies only. What bears none of the tags is hashed once with each key.
    pub fn also(mut self, key: impl Into<Key>) -> Self {
        self.others.push(key.into());
        self
    }

    /// Reads keys from an environment variable: one or several of 64 hexadecimal digits, separated by commas or spaces. The
    /// first one signs.
    ///
    /// ```
    /// use catchment::Keys;
    ///
    /// let error = Keys::from_env("NO_SUCH_VARIABLE").unwrap_err();
    /// assert_eq!(error.to_string(), "environment variable NO_SUCH_VARIABLE is not set, and should have a key");
    /// ```
    ///
    /// # Errors
    /// As [`Key::from_env`].
    pub fn from_env(variable: &str) -> Result<Self> {
        let text = read_env(variable)?;
        let mut keys = text
            .split([',', ' ', '\n'])
            .filter(|key| !key.trim().is_empty())
            .map(|key| Key::from_hex(key).map_err(|error| of_variable(variable, &error)));
        // An empty text is not a key: its error says what one is.
        let signing = keys
            .next()
            .unwrap_or_else(|| Key::from_hex("").map_err(|error| of_variable(variable, &error)))?;
        Ok(Self {
            signing,
            others: keys.collect::<Result<_>>()?,
            accepts_unsigned: false,
        })
    }

    /// Takes what bears no tag for genuine, so that keys can be introduced while runs are under way: what is written is
    /// signed, and what was written before the keys were there is still read. A tag that is there has to verify all the same.
    ///
    /// **It protects from nobody**, since a forger only has to leave the tag out. It is for the time of the introduction:
    ///
    /// 1. All processes get `Keys::new(key).accept_unsigned()`, one after the other. A process that has no keys yet reads
    ///    signed messages, and ignores their tags. It reads those of the codec `postcard` only from the version on that has
    ///    this method, so all processes get that version first.
    /// 2. Once each of them has the keys, and every message, result and dead letter from before is done with, all processes
    ///    get `Keys::new(key)`.
    pub fn accept_unsigned(mut self) -> Self {
        self.accepts_unsigned = true;
        self
    }

    pub(super) fn accepts_unsigned(&self) -> bool {
        self.accepts_unsigned
    }

    pub(super) fn signing(&self) -> &Key {
        &self.signing
    }

    /// All keys, the one that signs first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.signing).chain(&self.others)
    }
}

impl From<Key> for Keys {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}

fn read_env(variable: &str) -> Result<String> {
    std::env::var(variable).map_err(|problem| {
        let problem = match problem {
            std::env::VarError::NotPresent => "is not set, and should have a key",
            std::env::VarError::NotUnicode(_) => "is not text, and should have a key",
        };
        Error::invalid_argument("key", format!("environment variable {variable} {problem}"))
    })
}

fn of_variable(variable: &str, error: &Error) -> Error {
    Error::invalid_argument("key", format!("environment variable {variable}: {error}"))
}

/// Reads lower-case digits. Whether they are that, and as many as `bytes` takes.
pub(super) fn decode_hex(digits: &[u8], bytes: &mut [u8; LENGTH]) -> bool {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != LENGTH || !rest.is_empty() {
        return false;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (value(*high), value(*low)) else {
            return false;
        };
        *byte = high << 4 | low;
    }
    true
}
