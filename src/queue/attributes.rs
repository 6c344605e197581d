//! Text attributes beside a message's body.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A small map of text attributes beside a message's body, such as a trace context: sorted by
/// name, one value per name. Names and values may be any text, including none. Empty by default;
/// an empty map allocates nothing, and cloning one copies no text.
///
/// ```
/// use catchment::queue::Attributes;
///
/// let attributes: Attributes = [("tenant", "9"), ("colour", "blue")].into_iter().collect();
/// assert_eq!(attributes.get("tenant"), Some("9"));
/// let names: Vec<&str> = attributes.iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["colour", "tenant"]);
/// assert_eq!(attributes.size(), "tenant9colourblue".len());
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Option<Arc<BTreeMap<String, String>>>);

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an attribute, replacing any earlier value of that name.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let map = self.0.get_or_insert_default();
        Arc::make_mut(map).insert(name.into(), value.into());
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(String::as_str)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter().flat_map(|map| map.iter());
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The number of attributes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all names and values.
    pub fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> Extend<(N, V)> for Attributes {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.insert(name, value);
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut attributes = Self::new();
        attributes.extend(pairs);
        attributes
    }
}
