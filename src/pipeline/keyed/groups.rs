//! The answer of a pipeline that ends with a grouped reduction.

use std::fmt;
use std::hash::Hash;

use futures::{Stream, stream};
use serde::{Serialize, Serializer};

use super::table::Table;
use crate::core::error::Result;
use crate::stage::Data;

/// The values of a [grouped](crate::Pipeline::group_by) reduction, by key.
///
/// A clone is a handle on the same values.
///
/// ```
/// use std::collections::BTreeMap;
/// use catchment::Pipeline;
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// let counts = Pipeline::new().group_by(|n: &u64| n % 3).count().run(0..10).await?;
/// assert_eq!(counts.len(), 3);
/// assert_eq!(counts.get(&0).await?, Some(4));
/// let all: BTreeMap<u64, u64> = counts.collect().await?;
/// assert_eq!(all, BTreeMap::from([(0, 4), (1, 3), (2, 3)]));
/// # Ok(()) }
/// ```
pub struct Groups<K, V> {
    table: Table<K, V>,
}

impl<K, V> Groups<K, V> {
    pub(in crate::pipeline) fn new(table: Table<K, V>) -> Self {
        Self { table }
    }

    /// The number of keys.
    pub fn len(&self) -> u64 {
        self.table.len() as u64
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Data + Ord + Hash, V: Data> Groups<K, V> {
    /// The value of a key, if the input had items with it. Reads only what it has to.
    ///
    /// Cancel safe: dropping the future changes nothing.
    ///
    /// ```
    /// # use catchment::Pipeline;
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let longest = Pipeline::new()
    ///     .group_by(|word: &String| word.chars().next())
    ///     .reduce(String::new, |a, b| if b.len() > a.len() { b } else { a });
    /// let longest = longest.run(["rain", "river", "slope"].map(String::from)).await?;
    /// assert_eq!(longest.get(&Some('r')).await?.as_deref(), Some("river"));
    /// assert_eq!(longest.get(&Some('x')).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the store that has the values; none after [`run`](crate::Pipeline::run), whose values are in memory.
    pub async fn get(&self, key: &K) -> Result<Option<V>> {
        Ok(self.table.get(key).cloned())
    }

    /// All pairs. Those of a [`run`](crate::Pipeline::run) are in the order of their keys.
    ///
    /// ```
    /// # use catchment::Pipeline;
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let parities = Pipeline::new().group_by(|n: &u64| n % 2 == 1).collect().run(1..=4).await?;
    /// let pairs: Vec<(bool, Vec<u64>)> = parities.stream().try_collect().await?;
    /// assert_eq!(pairs, [(false, vec![2, 4]), (true, vec![1, 3])]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// An item of the stream is an error if the store that has the values fails.
    pub fn stream(&self) -> impl Stream<Item = Result<(K, V)>> + Send + use<K, V> {
        stream::iter(self.table.clone().into_sorted().into_iter().map(Ok))
    }

    /// Collects all pairs, as [`stream`](Self::stream) has them: into a map, a list, or anything else that is made of pairs.
    ///
    /// Cancel safe: dropping the future changes nothing.
    ///
    /// ```
    /// # use catchment::Pipeline;
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let counts = Pipeline::new().group_by(|n: &u64| n % 2).count().run(1..=5).await?;
    /// assert_eq!(counts.collect::<Vec<_>>().await?, [(0, 2), (1, 3)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub async fn collect<M: FromIterator<(K, V)>>(&self) -> Result<M> {
        Ok(self.table.clone().into_sorted().into_iter().collect())
    }
}

impl<K, V> Clone for Groups<K, V> {
    fn clone(&self) -> Self {
        Self {
            table: self.table.clone(),
        }
    }
}

impl<K, V> fmt::Debug for Groups<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups = formatter.debug_struct("Groups");
        groups.field("len", &self.len()).finish_non_exhaustive()
    }
}

/// As a list of pairs, in the order of their keys.
impl<K: Serialize + Ord, V: Serialize> Serialize for Groups<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table.serialize(serializer)
    }
}
