//! How many messages a queue has.

/// The number of messages in a queue. Services that only estimate it say so in their own docs.
///
/// ```
/// use catchment::queue::Depth;
///
/// let depth = Depth::new().ready(3).dead(1);
/// assert_eq!((depth.ready, depth.in_flight, depth.dead), (3, 0, 1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Depth {
    /// Waiting to be received.
    pub ready: u64,
    /// Received, and neither acknowledged nor visible again.
    pub in_flight: u64,
    /// Released with a delay that is not over.
    pub delayed: u64,
    /// In the dead-letter queue.
    pub dead: u64,
}

impl Depth {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of messages waiting to be received.
    #[must_use]
    pub fn ready(mut self, messages: u64) -> Self {
        self.ready = messages;
        self
    }

    /// Sets the number of messages received and not yet acknowledged.
    #[must_use]
    pub fn in_flight(mut self, messages: u64) -> Self {
        self.in_flight = messages;
        self
    }

    /// Sets the number of messages that were released with a delay.
    #[must_use]
    pub fn delayed(mut self, messages: u64) -> Self {
        self.delayed = messages;
        self
    }

    /// Sets the number of dead letters.
    #[must_use]
    pub fn dead(mut self, messages: u64) -> Self {
        self.dead = messages;
        self
    }
}
