//! The changes that provisioning made.

use std::fmt;

/// What was done to one queue or table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Which resource, such as `SQS queue adder--sum`.
    pub resource: String,
    /// What was done.
    pub action: Action,
}

/// A change to a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It was missing and has been created.
    Created,
    /// It existed, and these settings were changed.
    Updated(String),
    /// It existed with the right settings.
    Unchanged,
    /// It has been removed.
    Deleted,
}

impl Change {
    /// The resource has been created.
    pub fn created(resource: impl Into<String>) -> Self {
        Self::new(resource, Action::Created)
    }

    /// These settings of the resource have been changed.
    pub fn updated(resource: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(resource, Action::Updated(what.into()))
    }

    /// The resource needed no change.
    pub fn unchanged(resource: impl Into<String>) -> Self {
        Self::new(resource, Action::Unchanged)
    }

    /// The resource has been removed.
    pub fn deleted(resource: impl Into<String>) -> Self {
        Self::new(resource, Action::Deleted)
    }

    fn new(resource: impl Into<String>, action: Action) -> Self {
        Self {
            resource: resource.into(),
            action,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = &self.resource;
        match &self.action {
            Action::Created => write!(formatter, "{resource}: created"),
            Action::Updated(what) => write!(formatter, "{resource}: updated {what}"),
            Action::Unchanged => write!(formatter, "{resource}: unchanged"),
            Action::Deleted => write!(formatter, "{resource}: deleted"),
        }
    }
}
