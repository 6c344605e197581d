//! Where services honestly differ.

use std::time::Duration;

/// How a queue is tested, and what it cannot do. The default is a queue that can do everything.
///
/// ```
/// use std::time::Duration;
/// use catchment::testing::queue::Capabilities;
/// let coarse = Capabilities::new()
///     .visibility_timeout(Duration::from_secs(5))
///     .exact_depth(false);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// The visibility timeout that the suite's queues are opened with. The suite waits for
    /// it about a dozen times and allows a call a quarter of it, so over a network it should
    /// be some seconds. Default: 4 seconds.
    pub visibility_timeout: Duration,
    /// How long the suite waits for something that has to happen before it calls it missing.
    /// Default: 10 seconds.
    pub patience: Duration,
    /// Whether [`depth`](crate::queue::Queue::depth) counts, rather than estimates. Default: true.
    pub exact_depth: bool,
    /// Whether a body may be any bytes, rather than text. Default: true.
    pub binary_bodies: bool,
    /// Whether the receipt of an earlier delivery is always told from that of a later one.
    /// Default: true.
    pub strict_receipts: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(4),
            patience: Duration::from_secs(10),
            exact_depth: true,
            binary_bodies: true,
            strict_receipts: true,
        }
    }
}

impl Capabilities {
    /// Those of a queue that can do everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another visibility timeout.
    #[must_use]
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_timeout = timeout;
        self
    }

    /// The same with another patience.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same, for a queue that counts its messages or estimates them.
    #[must_use]
    pub fn exact_depth(mut self, exact: bool) -> Self {
        self.exact_depth = exact;
        self
    }

    /// The same, for a queue that takes any bytes or only text.
    #[must_use]
    pub fn binary_bodies(mut self, binary: bool) -> Self {
        self.binary_bodies = binary;
        self
    }

    /// The same, for a queue that always tells receipts apart or not.
    #[must_use]
    pub fn strict_receipts(mut self, strict: bool) -> Self {
        self.strict_receipts = strict;
        self
    }
}
