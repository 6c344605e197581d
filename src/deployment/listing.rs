//! Lists that are read page by page.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt, TryStreamExt};

use crate::core::error::{Error, Result};
use crate::core::page::{Cursor, Page};
use crate::core::runtime;

/// Items of a page, unless set otherwise.
const LIMIT: usize = 100;
/// Items that are read in one call where bytes count.
#[cfg(feature = "http")]
const PIECE: usize = 50;

type Reading<T> = Pin<Box<dyn Future<Output = Result<Page<T>>> + Send>>;
type Read<T> = Arc<dyn Fn(Option<Cursor>, usize) -> Reading<T> + Send + Sync>;

/// A list that is read page by page. Nothing is asked of the backend before it is awaited, which reads one page, or
/// [streamed](Self::stream), which reads all of them.
///
/// A page may have fewer items than its [limit](Self::limit), even none, and still not be the last: a list has ended
/// where [`next`](Page::next) is `None`.
///
/// ```
/// use catchment::{Backend, Pipeline, RunFilter};
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
/// let adder = adder.deploy("adder", Backend::memory())?;
/// for id in ["monday", "tuesday", "wednesday"] {
///     adder.submit_as(id, [1, 2, 3]).await?;
/// }
/// let page = adder.runs(RunFilter::new()).limit(2).await?;
/// assert_eq!(page.len(), 2);
/// // The cursor is text, and can wait, or come back over HTTP.
/// let rest = adder.runs(RunFilter::new()).limit(2).after(page.next).await?;
/// assert_eq!(rest.len(), 1);
/// assert!(rest.next.is_none());
/// # Ok(()) }
/// ```
#[must_use = "nothing is read before the list is awaited or streamed"]
pub struct Listing<T> {
    read: Read<T>,
    after: Option<Cursor>,
    limit: usize,
}

impl<T> std::fmt::Debug for Listing<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Listing")
            .field("after", &self.after)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Listing<T> {
    pub(super) fn new<F>(read: impl Fn(Option<Cursor>, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Page<T>>> + Send + 'static,
    {
        Self {
            read: Arc::new(move |cursor, limit| match runtime::check() {
                Ok(()) => Box::pin(read(cursor, limit)),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }),
            after: None,
            limit: LIMIT,
        }
    }

    /// Sets how many items a page has at most; 100 by default, at least 1.
    pub fn limit(mut self, items: usize) -> Self {
        self.limit = items.max(1);
        self
    }

    /// Begins after this cursor, the [`next`](Page::next) of a page of the same list. `None` begins at its beginning.
    pub fn after(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.after = cursor.into();
        self
    }

    /// One page, of the items whose sizes are at most `bytes` together, and at least of one. It is read piece by piece, so
    /// that no more than a piece above that is in memory.
    #[cfg(feature = "http")]
    pub(crate) async fn within(self, bytes: usize, size: impl Fn(&T) -> usize) -> Result<Page<T>> {
        let Self { read, after, limit } = self;
        let (mut items, mut cursor, mut left) = (Vec::new(), after, bytes);
        loop {
            let wanted = (limit - items.len()).min(PIECE);
            let mut page = read(cursor.clone(), wanted).await?;
            let mut sum = 0;
            let overflows = page.iter().position(|item| {
                sum += size(item);
                sum > left
            });
            let fitting = overflows.map(|index| index.max(usize::from(items.is_empty())));
            match fitting {
                Some(0) => return Ok(Page::new(items, cursor)),
                // Only the backend can make the cursor that leads on from there.
                Some(fitting) if fitting < page.len() => page = read(cursor, fitting).await?,
                _ => {}
            }
            left = left.saturating_sub(sum);
            let is_short = page.len() < wanted;
            items.extend(page.items);
            cursor = page.next;
            if is_short || cursor.is_none() || items.len() >= limit {
                return Ok(Page::new(items, cursor).truncated(page.truncated));
            }
        }
    }

    /// All items from here on, page after page as the stream is read. It ends after the first error.
    ///
    /// If the service cannot list everything, the stream has the items of one [truncated](Page::truncated) page and
    /// does not say so.
    pub fn stream(self) -> impl Stream<Item = Result<T>> + Send + Unpin + 'static {
        let Self { read, after, limit } = self;
        let pages = stream::try_unfold(Some(after), move |cursor| {
            let read = Arc::clone(&read);
            async move {
                let Some(cursor) = cursor else {
                    return Ok::<_, Error>(None);
                };
                let mut page = read(cursor, limit).await?;
                let next = page.next.take().map(Some);
                Ok(Some((stream::iter(page.items.into_iter().map(Ok)), next)))
            }
        });
        pages.try_flatten().boxed()
    }
}

/// Reads one page.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the cursor is not one of this list, and otherwise those of the
/// method that made the list.
impl<T: Send + 'static> IntoFuture for Listing<T> {
    type Output = Result<Page<T>>;
    type IntoFuture = Reading<T>;

    fn into_future(self) -> Self::IntoFuture {
        (self.read)(self.after, self.limit)
    }
}
