//! The tags of what is signed: where they stand, and what they bind.
//!
//! A body is sealed and opened as bytes, once it is written and before it is read, whatever fields it has:
//!
//! - JSON: the object's first field is `"tag"`, with 64 lower-case hexadecimal digits, and no spaces around it. A reader
//!   without keys skips it as a field that it does not know.
//! - The compact codec: the byte 2, the 32 bytes of the tag, and the body as it is without one.
//!
//! A tag is the keyed BLAKE3 hash of where the body belongs and of the body without the tag.

use bytes::Bytes;

#[cfg(feature = "postcard")]
use super::compact;
#[cfg(feature = "signed")]
use super::keys::{self, Keys};
use super::malformed::Malformed;
use crate::core::generation::RunKey;
use crate::core::group::GroupId;

/// The first byte of a signed body in the compact codec. JSON text never begins with it.
#[cfg(feature = "postcard")]
const MARK: u8 = 2;
/// Bytes of a tag.
#[cfg(any(feature = "signed", feature = "postcard"))]
const TAG: usize = 32;
/// Bytes that most places take, of what is hashed.
#[cfg(feature = "signed")]
const PLACE: usize = 256;
/// What stands around the tag of a JSON object, whose other fields follow.
#[cfg(feature = "signed")]
const BEFORE: &[u8] = b"{\"tag\":\"";
#[cfg(feature = "signed")]
const AFTER: &[u8] = b"\",";

/// Where a body belongs. It is part of what is signed, so that a body that is genuine is refused anywhere else.
#[cfg_attr(not(feature = "signed"), allow(dead_code, reason = "nothing binds it"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// The queue of this stage, or its dead letters.
    Queue(&'a str),
    /// A slot of a group.
    Slot(&'a GroupId, u32),
    /// The result of a run.
    Result(&'a RunKey),
    /// What says how long a run is.
    Length(&'a RunKey),
    /// The reason of a dead letter of this stage, beside this body.
    Reason(&'a str, &'a [u8]),
}

#[cfg(feature = "signed")]
impl Place<'_> {
    /// Appends the place to what is hashed: texts, each with its length before it. The first one fixes the number of them.
    fn append(&self, deployment: &str, hashed: &mut Vec<u8>) {
        let mut add = |text: &[u8]| {
            hashed.extend_from_slice(&(text.len() as u64).to_le_bytes());
            hashed.extend_from_slice(text);
        };
        let kind = match self {
            Self::Queue(_) => "message",
            Self::Slot(..) => "slot",
            Self::Result(_) => "result",
            Self::Length(_) => "length",
            Self::Reason(..) => "reason",
        };
        add(kind.as_bytes());
        add(deployment.as_bytes());
        match self {
            Self::Queue(stage) => add(stage.as_bytes()),
            Self::Slot(group, slot) => {
                add(group.stage.as_bytes());
                add(group.to_string().as_bytes());
                add(slot.to_string().as_bytes());
            }
            Self::Result(run) | Self::Length(run) => add(run.to_string().as_bytes()),
            Self::Reason(stage, body) => {
                add(stage.as_bytes());
                add(body);
            }
        }
    }
}

/// Signs what is written and verifies what is read, if the deployment has keys.
#[derive(Clone, Default)]
pub(crate) struct Seal {
    #[cfg(feature = "signed")]
    keys: Option<std::sync::Arc<Keys>>,
}

#[cfg(feature = "signed")]
impl Seal {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys: Some(std::sync::Arc::new(keys)),
        }
    }

    pub(super) fn keys(&self) -> Option<&Keys> {
        self.keys.as_deref()
    }

    /// The body with its tag.
    pub(super) fn seal(&self, deployment: &str, place: &Place<'_>, body: Bytes) -> Bytes {
        let Some(keys) = &self.keys else {
            return body;
        };
        let tag = tag(keys.signing(), deployment, place, &[&body]);
        match body.split_first() {
            Some((b'{', rest)) => {
                let digits = tag.to_hex();
                [BEFORE, digits.as_bytes(), AFTER, rest].concat().into()
            }
            #[cfg(feature = "postcard")]
            Some((&compact::MARK, _)) => [&[MARK], &tag.as_bytes()[..], &body].concat().into(),
            // Nothing else is written.
            _ => body,
        }
    }

    /// The body to read, if its tag verifies.
    pub(super) fn open(
        &self,
        deployment: &str,
        place: &Place<'_>,
        body: &Bytes,
    ) -> Result<Bytes, Malformed> {
        let Some(keys) = &self.keys else {
            return Ok(without_tag(body));
        };
        let Some(sealed) = Sealed::read(body) else {
            return match keys.accepts_unsigned() {
                true => Ok(body.clone()),
                false => Err(Malformed::Unsigned),
            };
        };
        let is_ours = |key| tag(key, deployment, place, &sealed.signed) == sealed.tag;
        match keys.all().any(is_ours) {
            true => Ok(without_tag(body)),
            false => Err(Malformed::Forged),
        }
    }
}

#[cfg(not(feature = "signed"))]
impl Seal {
    pub(super) fn seal(&self, _deployment: &str, _place: &Place<'_>, body: Bytes) -> Bytes {
        body
    }

    pub(super) fn open(
        &self,
        _deployment: &str,
        _place: &Place<'_>,
        body: &Bytes,
    ) -> Result<Bytes, Malformed> {
        Ok(without_tag(body))
    }
}

/// The body as it is read, of whatever tag it has. JSON is read with its tag.
pub(super) fn without_tag(body: &Bytes) -> Bytes {
    #[cfg(feature = "postcard")]
    if let Some((&MARK, _)) = body.split_first()
        && body.get(1 + TAG) == Some(&compact::MARK)
    {
        return body.slice(1 + TAG..);
    }
    body.clone()
}

/// The tag of a body in this place. Two tags are compared in constant time.
#[cfg(feature = "signed")]
fn tag(key: &keys::Key, deployment: &str, place: &Place<'_>, signed: &[&[u8]]) -> blake3::Hash {
    // Hashed as one text: several chunks of it are hashed at a time, which they are not where it comes in parts.
    let length = signed.iter().map(|part| part.len()).sum::<usize>();
    let mut hashed = Vec::with_capacity(length + PLACE);
    place.append(deployment, &mut hashed);
    for part in signed {
        hashed.extend_from_slice(part);
    }
    blake3::keyed_hash(&key.0, &hashed)
}

/// A body that has a tag, genuine or not.
#[cfg(feature = "signed")]
struct Sealed<'a> {
    tag: blake3::Hash,
    /// The body without the tag, in two parts.
    signed: [&'a [u8]; 2],
}

#[cfg(feature = "signed")]
impl<'a> Sealed<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        #[cfg(feature = "postcard")]
        if let Some((&MARK, rest)) = body.split_first() {
            let (tag, inner) = rest.split_first_chunk::<TAG>()?;
            // JSON text with a tag of this kind is nobody's.
            (inner.first() == Some(&compact::MARK)).then_some(())?;
            return Some(Self {
                tag: blake3::Hash::from_bytes(*tag),
                signed: [inner, b""],
            });
        }
        let rest = body.strip_prefix(BEFORE)?;
        let (digits, rest) = rest.split_at_checked(2 * TAG)?;
        let rest = rest.strip_prefix(AFTER)?;
        let mut tag = [0; TAG];
        // Digits of the other case would be another text for the same tag.
        keys::decode_hex(digits, &mut tag).then_some(Self {
            tag: blake3::Hash::from_bytes(tag),
            signed: [b"{", rest],
        })
    }
}

#[cfg(all(test, feature = "signed"))]
mod tests;
