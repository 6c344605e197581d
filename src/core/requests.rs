//! The number of requests a process has made to a service, which is what the service bills.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the requests to a service, by kind. A clone is another handle on the same counts.
///
/// Every attempt counts, including the client's own retries.
///
/// ```
/// use catchment::Backend;
/// assert_eq!(Backend::memory().requests().total(), 0); // nobody is asked
/// ```
#[derive(Clone, Debug, Default)]
pub struct Requests {
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Requests {
    /// All counts at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one request of this kind, such as `SQS SendMessageBatch`.
    pub fn count(&self, kind: &str) {
        let mut counts = self.lock();
        match counts.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(counts.insert(kind.to_owned(), 1)),
        }
    }

    /// The number of requests of each kind, in alphabetical order.
    pub fn by_kind(&self) -> BTreeMap<String, u64> {
        self.lock().clone()
    }

    /// The total number of requests.
    pub fn total(&self) -> u64 {
        self.lock().values().sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `7 requests: DynamoDB GetItem 3, SQS SendMessageBatch 4`
impl fmt::Display for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.by_kind();
        write!(formatter, "{} requests", counts.values().sum::<u64>())?;
        for (place, (kind, count)) in counts.iter().enumerate() {
            let before = if place == 0 { ": " } else { ", " };
            write!(formatter, "{before}{kind} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_share_their_counts() {
        let requests = Requests::new();
        let other = requests.clone();
        for kind in [
            "SQS SendMessageBatch",
            "DynamoDB GetItem",
            "DynamoDB GetItem",
        ] {
            other.count(kind);
        }
        assert_eq!(requests.total(), 3);
        assert_eq!(
            requests.to_string(),
            "3 requests: DynamoDB GetItem 2, SQS SendMessageBatch 1"
        );
        assert_eq!(Requests::new().to_string(), "0 requests");
    }
}
