//! The proof of one delivery.

use std::sync::Arc;

/// Proof of one delivery, required to acknowledge, release, extend or bury a message. Opaque to
/// everyone but the queue that issued it. A later delivery of the same message has another
/// receipt, and makes the earlier one stale.
///
/// ```
/// use catchment::queue::Receipt;
///
/// let handle = Receipt::new("AQEB6xh");
/// assert_eq!((handle.as_str(), handle.as_u64()), (Some("AQEB6xh"), None));
/// let number = Receipt::from(7);
/// assert_eq!((number.as_str(), number.as_u64()), (None, Some(7)));
/// // The text of a number is read as that number.
/// assert_eq!(Receipt::new(number.to_string()).as_u64(), Some(7));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt(Proof);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Proof {
    Number(u64),
    Text(Arc<str>),
}

impl Receipt {
    /// A receipt that is text, such as the handle a service issues.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(Proof::Text(text.into()))
    }

    /// The text it was made of; `None` if it was made of a number.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Proof::Text(text) => Some(text),
            Proof::Number(_) => None,
        }
    }

    /// The number it was made of, or the number its text spells out: a receipt may have travelled
    /// as text, for example in a Lambda event. `None` if it is neither.
    pub fn as_u64(&self) -> Option<u64> {
        match &self.0 {
            Proof::Number(number) => Some(*number),
            Proof::Text(text) => text.parse().ok(),
        }
    }
}

/// For queues that number their deliveries. Allocates nothing.
impl From<u64> for Receipt {
    fn from(number: u64) -> Self {
        Self(Proof::Number(number))
    }
}

/// As text: the number's digits, or the text itself.
impl std::fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Proof::Number(number) => number.fmt(formatter),
            Proof::Text(text) => text.fmt(formatter),
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part: &dyn std::fmt::Debug = match &self.0 {
            Proof::Number(number) => number,
            Proof::Text(text) => text,
        };
        formatter.debug_tuple("Receipt").field(part).finish()
    }
}
