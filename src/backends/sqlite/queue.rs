//! Queues in the file.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use super::clock::milliseconds;
use super::job::Job;
use super::messages::{self, Claimed};
use super::store::{Store, task};
use super::trouble::Trouble;
use crate::core::clock::after;
use crate::core::error::{Error, Oversized, Result};
use crate::core::provision::Change;
use crate::queue::find::Room;
use crate::queue::{
    BuriedMessage, Cursor, Delivery, Depth, Outgoing, Page, Queue, QueueOptions, Queues, Receipt,
};

/// The name of the list of dead letters in its cursors.
const DEAD_LETTERS: &str = "sqlite-dead-letters";
/// The largest value, in bytes: SQLite takes a little more.
pub(super) const LARGEST: usize = 900_000_000;

/// Queues in a [`SqliteFile`](super::SqliteFile), made when they are first opened. A clone is another handle on the same
/// queues.
///
/// In addition to the contract of [`Queue`]:
///
/// - **Order.** None is promised. In practice those of a [run](Outgoing::run) arrive in the order in which they were sent,
///   the runs in turn by the bytes of their messages, and redelivered ones arrive first.
/// - **Receipts.** Only that of a message's last delivery counts. Once its visibility timeout is over, it still
///   acknowledges, extends, releases and buries the message until the next delivery.
/// - **Dead letters** are kept until they are redriven or discarded.
/// - A message that a process held when it was killed is delivered again within about a second, on Linux, if another
///   process waits for messages; elsewhere after its visibility timeout. So are the messages that a handle held when the
///   last clone of it was dropped.
/// - A message may have 900 MB.
#[derive(Clone, Debug)]
pub struct SqliteQueues(pub(super) Arc<Store>);

#[async_trait]
impl Queues for SqliteQueues {
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        Ok(Arc::new(SqliteQueue {
            store: Arc::clone(&self.0),
            name: name.into(),
            visibility_timeout: milliseconds(options.visibility_timeout),
        }))
    }

    async fn provision(&self, name: &str, _options: &QueueOptions) -> Result<Vec<Change>> {
        let queue = name.to_owned();
        let made = self
            .0
            .write(format!("making queue `{name}`"), move |session| {
                let is_there = messages::queue(session.db, &queue)?.is_some();
                messages::make_queue(session.db, &queue)?;
                Ok(!is_there)
            });
        let resource = format!("queue {name}");
        Ok(vec![match made.await? {
            true => Change::created(resource),
            false => Change::unchanged(resource),
        }])
    }

    async fn deprovision(&self, name: &str) -> Result<Vec<Change>> {
        let queue = name.to_owned();
        let removed = self
            .0
            .write(format!("removing queue `{name}`"), move |session| {
                Ok(messages::remove_queue(session.db, &queue)?)
            });
        let resource = format!("queue {name}");
        Ok(vec![match removed.await? {
            true => Change::deleted(resource),
            false => Change::unchanged(resource),
        }])
    }
}

/// A handle on a queue.
#[derive(Debug)]
struct SqliteQueue {
    store: Arc<Store>,
    name: Arc<str>,
    visibility_timeout: i64,
}

impl SqliteQueue {
    fn operation(&self, what: &str) -> String {
        format!("{what} queue `{}`", self.name)
    }

    /// Runs something on each receipt. Returns those for which it returns false, and those that no queue of a file can have
    /// issued. `shows` tells receivers that a message may be visible sooner than they know.
    async fn each(
        &self,
        what: &str,
        receipts: Vec<Receipt>,
        shows: bool,
        on: impl Fn(&rusqlite::Connection, (i64, i64)) -> rusqlite::Result<bool> + Send + 'static,
    ) -> Result<Vec<Receipt>> {
        if receipts.is_empty() {
            return Ok(receipts);
        }
        let name = Arc::clone(&self.name);
        let written = self.store.write(self.operation(what), move |session| {
            let mut stale = Vec::new();
            for receipt in &receipts {
                let is_current = match messages::read_receipt(receipt) {
                    Some(delivery) => on(session.db, delivery)?,
                    None => false,
                };
                if !is_current {
                    stale.push(receipt.clone());
                }
            }
            if shows {
                session.effects.borrow_mut().queue(&name);
            }
            Ok(stale)
        });
        written.await
    }

    /// Takes what is visible, and says in how many milliseconds more becomes so by itself.
    async fn claim(&self, max: usize) -> Result<(Vec<Claimed>, Option<i64>)> {
        let (name, owner) = (Arc::clone(&self.name), self.store.owner);
        let now = self.store.clock.now();
        let visible_at = now.saturating_add(self.visibility_timeout);
        let claim = move |session: &super::job::Session<'_>| {
            let Some(queue) = messages::queue(session.db, &name)? else {
                return Ok((Vec::new(), None));
            };
            let claimed = messages::claim(session.db, queue, max, now, visible_at, owner)?;
            let due = messages::next_due(session.db, queue, now)?;
            Ok::<_, Trouble>((claimed, due.map(|due| due.saturating_sub(now).max(1))))
        };
        let name = Arc::clone(&self.name);
        let undo = move |(claimed, _): (Vec<Claimed>, Option<i64>)| hand_back(name, claimed);
        let receive = self.operation("receiving from");
        self.store
            .write_or_undo(receive, claim, Box::new(undo))
            .await
    }
}

/// Makes messages visible again that a cancelled call had taken.
fn hand_back(name: Arc<str>, claimed: Vec<Claimed>) -> Option<Box<dyn Job>> {
    if claimed.is_empty() {
        return None;
    }
    let release = move |session: &super::job::Session<'_>| {
        for message in &claimed {
            let delivery = (message.id, i64::from(message.receives));
            messages::release(session.db, delivery, 0)?;
        }
        session.effects.borrow_mut().queue(&name);
        Ok(())
    };
    let (task, _) = task("releasing messages".to_owned(), release, None, false);
    Some(Box::new(task))
}

fn delivery(claimed: Claimed) -> Delivery {
    let receipt = claimed.receipt();
    let sent_at = Duration::from_millis(u64::try_from(claimed.sent_at).unwrap_or(0));
    let Claimed {
        id, receives, sent, ..
    } = claimed;
    Delivery::new(sent, receipt, receives)
        .message_id(id.to_string())
        .sent_at(UNIX_EPOCH + sent_at)
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        if let Some(large) = messages.iter().find(|message| message.size() > LARGEST) {
            let what = format!("a message for queue `{}`", self.name);
            return Err(Error::too_large(
                Oversized::Message,
                what,
                large.size(),
                LARGEST,
            ));
        }
        if messages.is_empty() {
            return Ok(());
        }
        let (name, now) = (Arc::clone(&self.name), self.store.clock.now());
        let sent = self
            .store
            .write(self.operation("sending to"), move |session| {
                let queue = messages::make_queue(session.db, &name)?;
                messages::send(session.db, queue, &messages, now)?;
                session.effects.borrow_mut().queue(&name);
                Ok(())
            });
        sent.await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let until = after(Instant::now(), wait);
        let arrivals = self.store.notices.queue(&self.name);
        let mut waiting = None;
        loop {
            let mut arrival = std::pin::pin!(arrivals.notified());
            // From here on no notice is missed.
            arrival.as_mut().enable();
            if !wait.is_zero() {
                waiting.get_or_insert_with(|| self.store.notices.wait());
            }
            let (claimed, due) = self.claim(max.max(1)).await?;
            if !claimed.is_empty() || until <= Instant::now() {
                return Ok(claimed.into_iter().map(delivery).collect());
            }
            let due = due.and_then(|due| u64::try_from(due).ok());
            let due = due.map_or(until, |due| {
                after(Instant::now(), Duration::from_millis(due))
            });
            tokio::select! {
                biased;
                () = arrival => {}
                () = sleep_until(due.min(until)) => {}
            }
        }
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        self.each("acknowledging on", receipts, false, messages::remove)
            .await
            .map(drop)
    }

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        let visible_at = match milliseconds(after) {
            0 => 0,
            delay => self.store.clock.now().saturating_add(delay),
        };
        let release = move |db: &rusqlite::Connection, delivery| {
            messages::release(db, delivery, visible_at).map(|()| true)
        };
        self.each("releasing on", receipts, true, release)
            .await
            .map(drop)
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        let visible_at = self.store.clock.now().saturating_add(milliseconds(by));
        let extend =
            move |db: &rusqlite::Connection, delivery| messages::extend(db, delivery, visible_at);
        self.each("extending on", receipts, true, extend).await
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        let (reason, now) = (reason.to_owned(), self.store.clock.now());
        let bury = move |db: &rusqlite::Connection, delivery| {
            messages::bury(db, delivery, &reason, now).map(|()| true)
        };
        self.each("burying on", vec![delivery.receipt], false, bury)
            .await
            .map(drop)
    }

    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>> {
        let after = cursor.map(|cursor| cursor.decode::<i64>(DEAD_LETTERS));
        let after = after.transpose()?.unwrap_or(0);
        let (name, max) = (Arc::clone(&self.name), max.max(1));
        let read = move |db: &rusqlite::Connection| dead_letters(db, &name, after, max);
        let operation = self.operation("reading the dead letters of");
        let (letters, more_after) = self.store.read(operation, read).await?;
        let next = more_after.map(|id| Cursor::encode(DEAD_LETTERS, &id));
        Ok(Page::new(letters, next.transpose()?))
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        let (name, now) = (Arc::clone(&self.name), self.store.clock.now());
        let redriven = self
            .store
            .write(self.operation("redriving on"), move |session| {
                let queue = messages::make_queue(session.db, &name)?;
                session.effects.borrow_mut().queue(&name);
                Ok(messages::redrive(session.db, queue, &messages, now)?)
            });
        redriven.await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        let name = Arc::clone(&self.name);
        let discarded =
            self.store
                .write(self.operation("discarding on"), move |session| {
                    let queue = messages::queue(session.db, &name)?;
                    each_letter(&messages, |receipt| match queue {
                        Some(queue) => messages::exhume(session.db, queue, receipt)
                            .map(|found| found.is_some()),
                        None => Ok(false),
                    })
                });
        discarded.await
    }

    async fn depth(&self) -> Result<Depth> {
        let (name, now) = (Arc::clone(&self.name), self.store.clock.now());
        let read = move |db: &rusqlite::Connection| {
            let Some(queue) = messages::queue(db, &name)? else {
                return Ok(Depth::new());
            };
            let counts = db
                .prepare_cached(
                    "SELECT (SELECT COUNT(*) FROM message WHERE queue = ?1 AND visible_at <= ?2),
                     (SELECT COUNT(*) FROM message WHERE queue = ?1 AND visible_at > ?2 AND is_held),
                     (SELECT COUNT(*) FROM message WHERE queue = ?1 AND visible_at > ?2 AND NOT is_held),
                     (SELECT COUNT(*) FROM dead_letter WHERE queue = ?1)",
                )?
                .query_row((queue, now), |row| {
                    let count = |column| row.get::<_, i64>(column).map(|count| count as u64);
                    Ok(Depth::new()
                        .ready(count(0)?)
                        .in_flight(count(1)?)
                        .delayed(count(2)?)
                        .dead(count(3)?))
                })?;
            Ok(counts)
        };
        self.store.read(self.operation("counting"), read).await
    }
}

/// Runs something on each dead letter. Returns the receipts of those that it did not find.
fn each_letter(
    letters: &[BuriedMessage],
    on: impl Fn(&Receipt) -> rusqlite::Result<bool>,
) -> Result<Vec<Receipt>, Trouble> {
    let mut gone = Vec::new();
    for letter in letters {
        if !on(&letter.receipt)? {
            gone.push(letter.receipt.clone());
        }
    }
    Ok(gone)
}

/// The first dead letters after one: at most `max`, and as many as make a page. The number of the last of them, if there are
/// more.
fn dead_letters(
    db: &rusqlite::Connection,
    name: &str,
    after: i64,
    max: usize,
) -> Result<(Vec<BuriedMessage>, Option<i64>), Trouble> {
    let mut found = Room::new(max);
    let mut last = None;
    let Some(queue) = messages::queue(db, name)? else {
        return Ok((found.messages, None));
    };
    let mut letters = db.prepare_cached(
        "SELECT body, attributes, id, reason FROM dead_letter WHERE queue = ?1 AND id > ?2 ORDER BY id",
    )?;
    let mut rows = letters.query((queue, after))?;
    while let Some(row) = rows.next()? {
        if found.is_full() {
            return Ok((found.messages, last));
        }
        let id: i64 = row.get(2)?;
        let sent = messages::read_sent(row)??;
        let letter = BuriedMessage::new(sent, row.get::<_, String>(3)?, Receipt::from(id as u64));
        if !found.fits(&letter) {
            return Ok((found.messages, last));
        }
        found.push(letter);
        last = Some(id);
    }
    Ok((found.messages, None))
}
