//! From a pipeline to its deployment.

use std::sync::Arc;

use super::{Backend, Deployment, take_up};
use crate::core::error::{Error, Result};
use crate::core::name;
use crate::packet::carrier::Carrier;
use crate::pipeline::definition::Definition;
use crate::pipeline::{Answer, Pipeline};
use crate::protocol::bundle::Bundling;
use crate::stage::Data;

impl<I: Data, O: Data, S: Answer<O>> Pipeline<I, O, S> {
    /// Makes the pipeline ready to run over a backend, under a name that its queues and tables bear. The
    /// same definition deployed under the same name in many processes is one deployment. Nothing is asked
    /// of the backend yet.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::memory())?;
    /// let worker = adder.worker().start();
    /// assert_eq!(adder.submit(1..=5).await?.result().await?, 30);
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidPipeline`] for what types cannot tell: two stages of one name, a name that no
    /// queue accepts (ASCII letters, digits, `-` and `_`; no `--`, and no `-` at the beginning or the end), options out of their
    /// range or out of the range of the backend's services.
    pub fn deploy(
        &self,
        name: &str,
        backend: impl Into<Backend>,
    ) -> Result<Deployment<I, S::Value>> {
        self.carried(
            name,
            backend.into(),
            Carrier::wire(self.codec_of_values(), name),
            None,
        )
    }

    pub(crate) fn carried(
        &self,
        name: &str,
        backend: Backend,
        carrier: Carrier,
        bundling: Option<Arc<dyn Bundling>>,
    ) -> Result<Deployment<I, S::Value>> {
        let (definition, extract) = self.define(name)?;
        let backend = backend.bound_to(name);
        check(name, &definition, &backend)?;
        Ok(Deployment::new(
            name,
            definition,
            backend,
            carrier,
            bundling,
            extract,
            take_up::chore::<I>,
        ))
    }
}

/// Whether the backend's services take what the deployment needs of them.
fn check(deployment: &str, definition: &Definition, backend: &Backend) -> Result<()> {
    for stage in definition.stages() {
        let queue = name::queue(deployment, &stage.name);
        let checked = backend.queues.check(&queue, &stage.options.queue);
        checked.map_err(|error| match error {
            Error::InvalidPipeline { problem } => {
                Error::invalid_pipeline(format!("stage `{}`: {problem}", stage.name))
            }
            other => other,
        })?;
    }
    backend.scratchpad.check()
}
