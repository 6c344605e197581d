//! A definition at its place: under a deployment's name, with its queues and its scratchpad.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::attempt_log::AttemptLog;
use super::bundle::Bundling;
use crate::core::error::{Error, Result};
use crate::core::name;
use crate::packet::carrier::Carrier;
use crate::pipeline::definition::Definition;
use crate::queue::{Queue, Queues};
use crate::scratchpad::Scratchpad;

/// What every part of a deployment shares, types erased.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) definition: Definition,
    pub(crate) queues: Arc<dyn Queues>,
    pub(crate) scratchpad: Arc<dyn Scratchpad>,
    pub(crate) carrier: Carrier,
    /// How bundles are made and worked on, in a run that has any.
    pub(crate) bundling: Option<Arc<dyn Bundling>>,
    pub(crate) attempt_log: AttemptLog,
    /// One for each stage, opened when first used.
    opened: Vec<OnceCell<Arc<dyn Queue>>>,
}

impl Site {
    pub(crate) fn new(
        name: &str,
        definition: Definition,
        queues: Arc<dyn Queues>,
        scratchpad: Arc<dyn Scratchpad>,
        carrier: Carrier,
        bundling: Option<Arc<dyn Bundling>>,
    ) -> Self {
        let opened = definition
            .stages()
            .iter()
            .map(|_| OnceCell::new())
            .collect();
        let stages = definition.stages().iter();
        let attempt_log = AttemptLog::new(
            stages.map(|stage| (Arc::clone(&stage.name), stage.options.queue.attempts)),
        );
        Self {
            name: name.to_owned(),
            definition,
            queues,
            scratchpad,
            carrier,
            bundling,
            attempt_log,
            opened,
        }
    }

    /// The queue of the stage at this place.
    pub(crate) async fn queue(&self, stage: usize) -> Result<&Arc<dyn Queue>> {
        let (Some(cell), Some(definition)) = (self.opened.get(stage), self.definition.stage(stage))
        else {
            return Err(self.no_stage(stage));
        };
        cell.get_or_try_init(|| async {
            let name = name::queue(&self.name, &definition.name);
            self.queues.open(&name, &definition.options.queue).await
        })
        .await
    }

    /// The place of the stage of this name, which somebody is to serve.
    pub(crate) fn position(&self, who: &str, stage: &str) -> Result<usize> {
        let definition = &self.definition;
        definition.position(stage).ok_or_else(|| {
            let known: Vec<&str> = definition
                .stages()
                .iter()
                .map(|stage| &*stage.name)
                .collect();
            Error::invalid_argument(
                "stage",
                format!(
                    "{who} is to serve stage `{stage}`, but deployment `{}` has the stages {}",
                    self.name,
                    known.join(", ")
                ),
            )
        })
    }

    pub(crate) fn no_stage(&self, stage: usize) -> Error {
        Error::InvalidPipeline {
            problem: format!("deployment `{}` has no stage {stage}", self.name),
        }
    }

    pub(crate) fn scratchpad(&self) -> &dyn Scratchpad {
        self.scratchpad.as_ref()
    }
}
