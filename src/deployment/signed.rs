//! A deployment that signs what it writes.

use std::sync::Arc;

use super::Deployment;
use crate::packet::keys::Keys;
use crate::protocol::site::Site;

impl<I, R> Deployment<I, R> {
    /// Signs every message, partial result, result and dead letter of this deployment, and believes only what bears a tag by
    /// one of these [keys](Keys). Handles, workers, handlers and routers that are made of the returned deployment do so; those
    /// that were made before, and clones, do not. All processes of the deployment need the keys.
    ///
    /// A message whose tag does not verify becomes a dead letter unread, and nothing is recorded of the run that it names: the
    /// run goes on. A partial result whose tag does not verify makes its group's reduction, and so the run, fail with an error
    /// that names the slot; a result is an [`Error::Decode`](crate::Error::Decode) to whoever reads it. The reason of a dead
    /// letter that does not verify is shown as such, and the letter belongs to no failure on record.
    ///
    /// A tag says for which deployment, queue, slot or run something was written, so that what is genuine is refused
    /// elsewhere. Nothing is encrypted, and what a store counts or keeps about a run is not signed, but for its values and its
    /// length (group sizes, which slots are taken and failures are not): `SECURITY.md` says what that leaves to those who can write there.
    ///
    /// In [`Pipeline::run`](crate::Pipeline::run) nothing leaves the process, and nothing is signed.
    ///
    /// ```
    /// use catchment::{Backend, Key, Keys, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let key = Key::new([7; 32]);
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::memory())?.signed(Keys::new(key));
    /// let worker = adder.worker().start();
    /// assert_eq!(adder.submit(1..=5).await?.result().await?, 30);
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn signed(self, keys: impl Into<Keys>) -> Self {
        let Site {
            name,
            definition,
            queues,
            scratchpad,
            carrier,
            bundling,
            outbox,
            ..
        } = self.site.as_ref();
        let site = Site::new(
            name,
            definition.clone(),
            Arc::clone(queues),
            Arc::clone(scratchpad),
            carrier.clone().signed(keys.into()),
            bundling.clone(),
        )
        .with_outbox(outbox.clone());
        Self {
            site: Arc::new(site),
            ..self
        }
    }
}
