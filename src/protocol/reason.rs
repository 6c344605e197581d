//! Why a message is a dead letter: what its queue keeps beside it.

use serde::{Deserialize, Serialize};

use crate::core::failure::{Attempt, DeadLetterId};

/// What stands beside a buried message, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reason {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<DeadLetterId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<u64>,
    pub(crate) error: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attempts: Vec<Attempt>,
}

impl Reason {
    /// An error of which nothing else is known.
    pub(super) fn new(error: String) -> Self {
        Self {
            id: None,
            item: None,
            error,
            attempts: Vec::new(),
        }
    }

    /// An error of a message that is nobody's here: its only attempt.
    pub(super) fn of(error: String, attempt: Attempt) -> Self {
        Self {
            attempts: vec![attempt],
            ..Self::new(error)
        }
    }

    /// What is shown of a reason that the deployment has not signed: nothing of it is believed.
    pub(crate) fn unverified(text: &str) -> Self {
        let Self { error, .. } = Self::read(text);
        Self::new(match text {
            // The queue itself has moved it, and knows no reason.
            "" => error,
            _ => format!("unverified, since it is not signed by this deployment: {error}"),
        })
    }

    pub(crate) fn write(&self) -> String {
        // Strings, numbers and a UUID: this cannot fail, and the error alone is better than nothing.
        serde_json::to_string(self).unwrap_or_else(|_| self.error.clone())
    }

    pub(crate) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| {
            Self::new(match text {
                "" => "the queue's own limit of deliveries was reached".to_owned(),
                text => text.to_owned(),
            })
        })
    }
}
