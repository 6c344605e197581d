//! Lists take turns: a page is the one answer that is large whatever the run, and many at once would fill the memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::answer::Answer;

/// An answer of this size is sent without holding its place.
const SMALL: usize = 256 * 1024;
/// Bytes of a large answer that are handed to the connection at once.
const PART: usize = 64 * 1024;

/// The places of the lists that are read, written or sent at one time.
pub(super) struct Lists {
    places: Arc<Semaphore>,
    /// How long a client may take to receive an answer.
    patience: Duration,
}

/// A place among them, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    patience: Duration,
}

impl Lists {
    pub(super) fn new(places: usize, patience: Duration) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places)),
            patience,
        }
    }

    /// Waits for a place. The caller bounds the wait.
    pub(super) async fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).acquire_owned().await;
        // Nothing closes it.
        let permit = permit.ok()?;
        Some(Place {
            _permit: permit,
            patience: self.patience,
        })
    }
}

impl Place {
    /// An answer's body, which keeps the place until the client has it, or has taken too long. Then the body ends before it is
    /// complete, which closes the connection.
    pub(super) fn send(self, body: Vec<u8>) -> Body {
        if body.len() <= SMALL {
            return body.into();
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut rest = Bytes::from(body);
            let send = async {
                while !rest.is_empty() {
                    let part = rest.split_to(rest.len().min(PART));
                    // The connection may have gone.
                    if sender.send(Ok::<_, io::Error>(part)).await.is_err() {
                        return;
                    }
                }
            };
            if timeout(self.patience, send).await.is_err() {
                let slow = io::Error::new(io::ErrorKind::TimedOut, "the client is too slow");
                tracing::debug!("a list was not received in time");
                drop(rest);
                drop(self);
                // The connection learns of it when it asks for more.
                let _ = sender.send(Err(slow)).await;
            }
        });
        Body::from_stream(stream::unfold(receiver, async |mut receiver| {
            let part = receiver.recv().await?;
            Some((part, receiver))
        }))
    }
}

/// Writes an answer that may be large, off the runtime's threads.
pub(super) async fn written(write: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or_else(|_| Answer::panicked())
}
