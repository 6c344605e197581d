//! A definition at its place: under a deployment's name, with its queues and its scratchpad.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::attempt_log::AttemptLog;
use super::bundle::Bundling;
use crate::core::error::{Error, Result};
use crate::core::name;
use crate::core::tree::MIN_FAN_IN;
use crate::outbox::Outbox;
use crate::packet::carrier::Carrier;
use crate::packet::codec::Form;
use crate::pipeline::definition::Definition;
use crate::progress::{Counted, Counters};
use crate::queue::{Queue, Queues};
use crate::scratchpad::Scratchpad;

/// What every part of a deployment shares, types erased.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) definition: Definition,
    pub(crate) queues: Arc<dyn Queues>,
    pub(crate) scratchpad: Arc<dyn Scratchpad>,
    /// Where applications submit inside their own transactions, if the backend has such a place.
    pub(crate) outbox: Option<Arc<dyn Outbox>>,
    pub(crate) carrier: Carrier,
    /// How bundles are made and worked on, in a run that has any.
    pub(crate) bundling: Option<Arc<dyn Bundling>>,
    /// What is counted for a listener, which only a run inside the process has.
    pub(crate) counters: Counters,
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
        let counters = counters(&definition, &carrier);
        let stages = definition.stages().iter();
        let attempt_log = AttemptLog::new(
            stages.map(|stage| (Arc::clone(&stage.name), stage.options.queue.attempts)),
        );
        Self {
            name: name.to_owned(),
            definition,
            queues,
            scratchpad,
            outbox: None,
            carrier,
            bundling,
            counters,
            attempt_log,
            opened,
        }
    }

    /// The same site with an outbox.
    pub(crate) fn with_outbox(self, outbox: Option<Arc<dyn Outbox>>) -> Self {
        Self { outbox, ..self }
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

/// Counters for the stages, if a listener wants to know and the run is this process's own.
fn counters(definition: &Definition, carrier: &Carrier) -> Counters {
    if carrier.form() != Form::Local || !definition.listener.is_listening() {
        return Counters::default();
    }
    let fan_in = definition.reductions().next();
    let fan_in = fan_in.map_or(MIN_FAN_IN, |stage| stage.options.fan_in);
    let stages = definition.stages().iter().map(|stage| Counted {
        name: Arc::clone(&stage.name),
        is_reduction: stage.is_reduction(),
        works_on_items: stage.works_on_items,
    });
    Counters::new(stages, fan_in)
}
