//! What went wrong with a source item, before the item's index in the array is known.

use std::error::Error as StdError;
use std::sync::Arc;

use crate::core::error::{BoxError, is_permanent};

/// One source item of the packet that failed, or, without a unit, the packet as a whole.
#[derive(Clone)]
pub(super) struct Trouble {
    pub(super) unit: Option<usize>,
    pub(super) error: Arc<dyn StdError + Send + Sync>,
    pub(super) permanent: bool,
    /// What the item is called, once that has been asked.
    pub(super) label: Option<String>,
}

impl Trouble {
    pub(super) fn new(unit: Option<usize>, error: impl Into<BoxError>) -> Self {
        let error = error.into();
        Self {
            unit,
            permanent: is_permanent(&error),
            error: error.into(),
            label: None,
        }
    }
}

/// An error of one of several functions of a stage.
#[derive(Debug, thiserror::Error)]
#[error("function {number} of {count} (`{name}`)")]
pub(super) struct InFunction {
    /// From 1.
    pub(super) number: usize,
    pub(super) count: usize,
    /// The method of the builder that added it.
    pub(super) name: &'static str,
    pub(super) source: Arc<dyn StdError + Send + Sync>,
}
