//! Messages that somebody else has written.

mod forge;
mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use self::forge::{COPY, Draft, IMPERSONATION, KINDS};
use self::known::{Known, Seen, id_of, values_of};
use super::hooks::{HookedQueues, Hooks, Named};
use crate::core::error::Result;
use crate::core::id::RunId;
use crate::queue::{Attributes, Delivery, Outgoing, Queue, Queues, Receipt};

/// The attribute that marks a message of the stranger, so that its fate can be followed. The library passes none on to
/// what a message causes.
const MARK: &str = "stranger";
/// Forgeries that are drawn for one that is sent.
const DRAWS: usize = 8;
/// Forgeries that wait for a later call.
const HELD: usize = 64;

/// A writer that can read and write all queues, has no key, and sends well-formed messages that contradict themselves, their
/// run or the queue they are on. They are made of messages that it has read, by a seed, and sent before, beside and after
/// those. On tokio's clock, and with one thread, the same seed and the same calls give the same forgeries. Cloning gives
/// another handle on the same draws and counts.
///
/// # What must hold, whatever it sends
///
/// A message can be told from the run's own unless all of this holds for it; then it is an *impersonation*:
///
/// 1. It is a packet of items, for the deployment and the stage whose queue it is on, of the version that is read, and the
///    stage takes packets.
/// 2. Its run is under way: it bears its id, its present generation and its fan-in.
/// 3. Its packet is one of the run's.
/// 4. It agrees with itself: its numbers are in range and add up, within themselves and to the number of its values, which
///    are of the stage's type. After a reduction, they add up to the run's length, in the one packet 0.
/// 5. Its values or counts are not those of the packet with this id that it has read on the same queue. A copy is no
///    impersonation, whatever its offset and the length that it declares: the result depends on neither.
///
/// A request to reduce a group is never an impersonation: a group that is not complete is not reduced, and one that is has
/// the same value each time. Whatever is no impersonation must not change any result. What is one can be told by a signature
/// only, so that none is sent unless [`impersonates`](Self::impersonates) says so, and the runs are
/// [listed](Self::impersonated). What can be told cheaply is more than what is checked above: an impersonation may still be
/// found out, by the counts that come together in the result.
///
/// So a test can demand:
///
/// - A run that was not impersonated has the right result. Until it has, it may say that it failed, since a message with its
///   name became a dead letter; it says so with the message's name, and a redrive or a discard does no harm.
/// - A run that was impersonated ends as well: with a result or with an error.
/// - A [spared](Self::spare) run, whose name the stranger does not write, does not notice: it never reads as failed, and
///   takes no longer, but for the items of the stranger that a rate limit paces ([`items`](Self::items)).
/// - No message of the library's own becomes a dead letter ([`genuine_dead_letters`](Self::genuine_dead_letters)), except of
///   a run that was impersonated.
/// - In the end no queue has a message, and there are no more dead letters than forgeries.
///
/// Values are told apart by their JSON types, so that the stages' values have to be numbers, or text, or objects, throughout.
/// A deployment with a compact codec is left alone.
///
/// ```
/// use std::sync::Arc;
/// use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
/// use catchment::testing::faults::Stranger;
/// use catchment::{Backend, Pipeline};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true)
/// # .build().unwrap().block_on(async {
/// let stranger = Stranger::new(7, 20).spare("a");
/// let queues = stranger.queues(Arc::new(MemoryQueues::new()));
/// let sum = Pipeline::new()
///     .then(|n: u64| async move { Ok::<_, std::convert::Infallible>(n * 2) })
///     .reduce(|| 0, |a, b| a + b)
///     .deploy("sum", Backend::new(queues, Arc::new(MemoryScratchpad::new())))?;
/// let _worker = sum.worker().start();
/// assert_eq!(sum.submit_as("a", 1..=100).await?.result().await?, 10_100);
/// assert!(stranger.counts().values().map(|tally| tally.sent).sum::<u64>() > 0);
/// # Ok::<_, catchment::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Stranger {
    state: Arc<Mutex<State>>,
}

/// What became of a stranger's messages of one kind. Those that are neither buried nor acknowledged are under way, or were held back
/// for a later moment that did not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Sent.
    pub sent: u64,
    /// Of these: dead letters.
    pub buried: u64,
    /// Of these: acknowledged.
    pub acknowledged: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.buried += other.buried;
        self.acknowledged += other.acknowledged;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    UnderWay,
    Buried,
    Acknowledged,
}

struct State {
    random: fastrand::Rng,
    most: usize,
    impersonates: bool,
    spared: BTreeSet<String>,
    known: Known,
    queues: BTreeMap<Arc<str>, Arc<dyn Queue>>,
    held: Vec<Forged>,
    /// Of all forgeries, by their numbers.
    fates: Vec<(&'static str, Fate)>,
    bodies: Vec<String>,
    deliveries: BTreeMap<(Arc<str>, Receipt), usize>,
    impersonated: BTreeSet<String>,
    genuine_dead_letters: Vec<String>,
    items: u64,
    bytes: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut state = formatter.debug_struct("State");
        state
            .field("most", &self.most)
            .field("sent", &self.fates.len());
        state.finish_non_exhaustive()
    }
}

struct Forged {
    queue: Arc<str>,
    message: Outgoing,
}

impl Stranger {
    /// Sends up to `most` messages, drawn from this seed.
    pub fn new(seed: u64, most: usize) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            most,
            impersonates: false,
            spared: BTreeSet::new(),
            known: Known::default(),
            queues: BTreeMap::new(),
            held: Vec::new(),
            fates: Vec::new(),
            bodies: Vec::new(),
            deliveries: BTreeMap::new(),
            impersonated: BTreeSet::new(),
            genuine_dead_letters: Vec::new(),
            items: 0,
            bytes: 0,
        };
        let state = Arc::new(Mutex::new(state));
        Self { state }
    }

    /// Sets whether it also sends messages that only a signature could tell from a run's own.
    #[must_use]
    pub fn impersonates(self, impersonates: bool) -> Self {
        self.lock().impersonates = impersonates;
        self
    }

    /// Never writes a message in this run's name.
    #[must_use]
    pub fn spare(self, run: impl Into<RunId>) -> Self {
        self.lock().spared.insert(run.into().as_str().to_owned());
        self
    }

    /// Says that the map stage of this queue (`{deployment}--{stage}`) comes after a reduction.
    #[must_use]
    pub fn after_reduction(self, queue: &str) -> Self {
        self.lock().known.finishes.insert(queue.to_owned());
        self
    }

    /// Queues that the stranger can read and write.
    pub fn queues(&self, inner: Arc<dyn Queues>) -> Arc<dyn Queues> {
        let hooks = self.clone();
        Arc::new(HookedQueues { hooks, inner })
    }

    /// What was sent by kind, and what became of it.
    pub fn counts(&self) -> BTreeMap<&'static str, Tally> {
        let mut counts: BTreeMap<&'static str, Tally> = BTreeMap::new();
        for (kind, fate) in &self.lock().fates {
            *counts.entry(*kind).or_default() += Tally {
                sent: 1,
                buried: u64::from(*fate == Fate::Buried),
                acknowledged: u64::from(*fate == Fate::Acknowledged),
            };
        }
        counts
    }

    /// The runs in whose name it has sent what only a signature could tell from their own.
    pub fn impersonated(&self) -> BTreeSet<String> {
        self.lock().impersonated.clone()
    }

    /// The library's own messages that became dead letters: queue, body and reason.
    pub fn genuine_dead_letters(&self) -> Vec<String> {
        self.lock().genuine_dead_letters.clone()
    }

    /// The number of values in all of its messages, which a rate limit may pace.
    pub fn items(&self) -> u64 {
        self.lock().items
    }

    /// The bytes of all of its messages.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Every message that it has sent, in order: kind, queue and body.
    pub fn sent(&self) -> Vec<String> {
        self.lock().bodies.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One forgery, of this message or of one that was read before. `None` if there is to be no more, or none could be made.
    fn forge(&mut self, of: Option<&Seen>) -> Option<Forged> {
        if self.fates.len() >= self.most {
            return None;
        }
        for _ in 0..DRAWS {
            let number = self.random.usize(..self.known.messages.len().max(1));
            let base = match of.filter(|_| self.random.bool()) {
                Some(seen) => seen,
                None => self.known.messages.get(number)?,
            };
            let (mut kind, mutate) = *KINDS.get(self.random.usize(..KINDS.len()))?;
            let mut draft = Draft::new(base, &mut self.random, &self.known);
            mutate(&mut draft);
            if draft.again()
                && let Some((_, and)) = KINDS.get(draft.one_of(KINDS.len()))
            {
                and(&mut draft);
            }
            let (queue, fields) = (Arc::clone(&draft.queue), draft.fields);
            let is_as_it_was = fields == base.fields;
            let body = match is_as_it_was {
                true => base.body.clone(),
                false => serde_json::to_vec(&fields).unwrap_or_default().into(),
            };
            if is_as_it_was && queue == base.queue {
                kind = COPY;
            }
            let id = id_of(&fields);
            if self.spared.contains(&id) {
                continue;
            }
            if self.known.is_impersonation(&queue, &fields) {
                if !self.impersonates {
                    continue;
                }
                kind = IMPERSONATION;
                self.impersonated.insert(id);
            }
            self.known.invented(&fields);
            self.items += values_of(&fields).map_or(1, |values| values.len().max(1) as u64);
            self.bytes += body.len();
            let text = String::from_utf8_lossy(&body);
            self.bodies.push(format!("{kind} to {queue}: {text}"));
            let mark = self.fates.len().to_string();
            self.fates.push((kind, Fate::UnderWay));
            let message = Outgoing::new(body).attribute(MARK, mark);
            return Some(Forged { queue, message });
        }
        None
    }

    /// What is sent to this queue instead of `messages`, and what to others.
    fn beside(&mut self, queue: &Named, messages: Vec<Outgoing>) -> (Vec<Outgoing>, Vec<Forged>) {
        let mut own = Vec::with_capacity(messages.len());
        let mut others = Vec::new();
        for message in messages {
            let seen = match mark_of(&message.attributes) {
                None => self.known.note(&queue.name, &message.body),
                Some(_) => None,
            };
            let forged = match seen {
                Some(seen) if self.random.u32(0..3) == 0 => self.forge(Some(&seen)),
                _ => None,
            };
            let Some(forged) = forged else {
                own.push(message);
                continue;
            };
            match self.random.u32(0..3) {
                0 if self.held.len() < HELD => {
                    own.push(message);
                    self.held.push(forged);
                }
                _ if forged.queue != queue.name => {
                    own.push(message);
                    others.push(forged);
                }
                1 => own.extend([message, forged.message]),
                _ => own.extend([forged.message, message]),
            }
        }
        (own, others)
    }

    /// What is sent before messages are received.
    fn later(&mut self) -> Option<Forged> {
        match self.random.u32(0..4) {
            0 if !self.held.is_empty() => {
                let number = self.random.usize(..self.held.len());
                Some(self.held.swap_remove(number))
            }
            1 => self.forge(None),
            _ => None,
        }
    }

    fn received(&mut self, queue: &Named, received: &[Delivery]) {
        for delivery in received {
            if let Some(number) = mark_of(&delivery.attributes) {
                let key = (Arc::clone(&queue.name), delivery.receipt.clone());
                self.deliveries.insert(key, number);
            }
        }
    }

    fn acknowledged(&mut self, queue: &Named, receipts: &[Receipt]) {
        for receipt in receipts {
            let key = (Arc::clone(&queue.name), receipt.clone());
            if let Some(number) = self.deliveries.remove(&key) {
                self.end(number, Fate::Acknowledged);
            }
        }
    }

    fn buried(&mut self, queue: &Named, delivery: &Delivery, reason: &str) {
        let key = (Arc::clone(&queue.name), delivery.receipt.clone());
        self.deliveries.remove(&key);
        match mark_of(&delivery.attributes) {
            Some(number) => self.end(number, Fate::Buried),
            None => {
                let text = String::from_utf8_lossy(&delivery.body);
                let letter = format!("{}: {text}: {reason}", queue.name);
                self.genuine_dead_letters.push(letter);
            }
        }
    }

    fn end(&mut self, number: usize, end: Fate) {
        if let Some((_, fate)) = self.fates.get_mut(number) {
            *fate = end;
        }
    }
}

impl Stranger {
    async fn send_other(&self, forged: Option<Forged>) -> Result<()> {
        let Some(forged) = forged else {
            return Ok(());
        };
        let queue = self.lock().queues.get(&forged.queue).cloned();
        match queue {
            Some(queue) => queue.send(vec![forged.message]).await,
            None => Ok(()),
        }
    }
}

fn mark_of(attributes: &Attributes) -> Option<usize> {
    attributes.get(MARK)?.parse().ok()
}

#[async_trait]
impl Hooks for Stranger {
    async fn send(&self, queue: &Named, messages: Vec<Outgoing>) -> Result<()> {
        let (own, others) = {
            let mut state = self.lock();
            let name = Arc::clone(&queue.name);
            state
                .queues
                .entry(name)
                .or_insert_with(|| Arc::clone(&queue.inner));
            state.beside(queue, messages)
        };
        queue.inner.send(own).await?;
        for forged in others {
            self.send_other(Some(forged)).await?;
        }
        Ok(())
    }

    async fn receive(&self, queue: &Named, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let forged = {
            let mut state = self.lock();
            let name = Arc::clone(&queue.name);
            state
                .queues
                .entry(name)
                .or_insert_with(|| Arc::clone(&queue.inner));
            state.later()
        };
        self.send_other(forged).await?;
        let received = queue.inner.receive(max, wait).await?;
        self.lock().received(queue, &received);
        Ok(received)
    }

    async fn acknowledge(&self, queue: &Named, receipts: Vec<Receipt>) -> Result<()> {
        self.lock().acknowledged(queue, &receipts);
        queue.inner.acknowledge(receipts).await
    }

    async fn bury(&self, queue: &Named, delivery: Delivery, reason: &str) -> Result<()> {
        self.lock().buried(queue, &delivery, reason);
        queue.inner.bury(delivery, reason).await
    }
}
