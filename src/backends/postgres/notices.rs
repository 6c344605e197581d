//! Word to other processes by `NOTIFY`, if the application wants it.
//!
//! A notification says that something may be new, and nothing of what: a process that hears it polls at once, and often for a
//! while. So one that follows another within a moment is not needed, and is not sent.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::AsyncMessage;
use tokio_postgres::types::Type;

use super::database::{Database, quoted};
use super::errors::failed;
use crate::core::error::{Result, describe};

/// A process sends at most one notification in this time.
const EVERY: Duration = Duration::from_millis(100);

pub(super) struct Notices {
    is_on: bool,
    /// The schema's name.
    channel: String,
    heard: watch::Sender<()>,
    /// When another notification may be sent.
    next: Mutex<Instant>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl Notices {
    pub(super) fn new(schema: &str, is_on: bool) -> Self {
        Self {
            is_on,
            channel: schema.to_owned(),
            heard: watch::channel(()).0,
            next: Mutex::new(Instant::now()),
            listener: Mutex::default(),
        }
    }

    /// Changes when another process has sent word.
    pub(super) fn word(&self) -> watch::Receiver<()> {
        self.heard.subscribe()
    }

    /// Sends word, in a task of its own, unless this process has just done so. One that is lost costs nothing but time.
    pub(super) fn send(&self, database: &Arc<Database>) {
        const NOTIFY: &str = "SELECT pg_notify($1, '')";
        if !self.is_on || !self.is_time() {
            return;
        }
        let (database, channel) = (Arc::clone(database), self.channel.clone());
        tokio::spawn(async move {
            let params = [(&channel as _, Type::TEXT)];
            if let Err(error) = database.query("notifying", NOTIFY, &params).await {
                tracing::debug!(error = %describe(&error), "a notification could not be sent");
            }
        });
    }

    fn is_time(&self) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_time = now >= *next;
        if is_time {
            *next = now + EVERY;
        }
        is_time
    }

    /// Listens from now on, if that is wanted and is not done yet. Called with every poll, so that a connection that breaks
    /// is made again.
    pub(super) fn listen(&self, database: &Arc<Database>) {
        if !self.is_on {
            return;
        }
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_none_or(JoinHandle::is_finished) {
            let (database, heard) = (Arc::downgrade(database), self.heard.clone());
            let statement = format!("LISTEN {}", quoted(&self.channel));
            *listener = Some(tokio::spawn(async move {
                if let Err(error) = listen(database, &statement, &heard).await {
                    tracing::info!(error = %describe(&error), "notifications are not heard for now");
                }
            }));
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let listener = self.listener.get_mut();
        if let Some(listener) = listener.unwrap_or_else(PoisonError::into_inner).take() {
            listener.abort();
        }
    }
}

/// Listens until the connection ends.
async fn listen(
    database: Weak<Database>,
    statement: &str,
    heard: &watch::Sender<()>,
) -> Result<()> {
    const WHAT: &str = "listening";
    let Some(database) = database.upgrade() else {
        return Ok(());
    };
    database.requests.count(WHAT);
    let (client, mut messages) = database.connect(WHAT).await?;
    let place = database.place.clone();
    // It must not keep the backend alive.
    drop(database);
    let fail = |error| failed(WHAT, &place, error);
    let begin = client.batch_execute(statement);
    tokio::pin!(begin);
    let mut has_begun = false;
    loop {
        tokio::select! {
            begun = &mut begin, if !has_begun => {
                begun.map_err(fail)?;
                has_begun = true;
                // Something may have happened before.
                heard.send_replace(());
            }
            message = messages.next() => match message {
                Some(Ok(AsyncMessage::Notification(_))) => {
                    heard.send_replace(());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(fail(error)),
                None => return Ok(()),
            },
        }
    }
}
