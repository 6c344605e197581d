//! Submitting inside the application's own transactions, by an outbox in its own database.

mod parts;

use std::pin::pin;

use futures::{Stream, StreamExt};
use tokio_postgres::GenericClient;

use self::parts::Cutter;
pub use self::parts::OutboxParts;
use super::Deployment;
use super::run::Run;
use crate::backends::postgres::{OutboxInsert, PostgresOutbox};
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::runtime;
use crate::stage::Data;

/// The most bytes of items in one statement. The server's own limit is a gigabyte.
const LARGEST: usize = 256 * 1024 * 1024;

impl<I: Data, R: Send + 'static> Deployment<I, R> {
    /// Makes the one `INSERT` that submits these items under this id, for any client in any language. The application runs
    /// it inside a transaction of its own, on the database of this deployment's backend. The run exists if and only if that
    /// transaction commits: a [worker](Self::worker) takes the submission up, and makes a run of it, exactly once.
    ///
    /// Nothing is asked of the database here. All items are in the statement, up to 256 MiB; for more of them see
    /// [`outbox_parts`](Self::outbox_parts), and [`submit_in`](Self::submit_in) for a program that uses `tokio_postgres`.
    ///
    /// An id stands for its items, as in [`submit_as`](Self::submit_as). Inserting the same items again is the same run.
    /// Other items under a used id are refused by the worker. The row stays then, with the reason in its column `error`.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline};
    ///
    /// # fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::postgres("postgres://localhost/app")?)?;
    /// let insert = adder.outbox("invoices/2026-11-21", [1, 2, 3, 4, 5])?;
    /// // For a client with parameters, all of which are texts:
    /// assert!(insert.text().starts_with(r#"INSERT INTO "catchment".outbox (deployment, id, "#));
    /// assert_eq!(insert.params()[1], "invoices/2026-11-21");
    /// // For one without, such as `psql`:
    /// assert!(insert.to_string().contains("'[1,2,3,4,5]'::text::json"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`backend`) if the deployment is not over PostgreSQL, and (`items`) if there are more than
    /// 256 MiB of them. [`Error::InvalidRunId`], and [`Error::Encode`], which names the item.
    pub fn outbox<V>(&self, id: impl Into<RunId>, items: V) -> Result<OutboxInsert>
    where
        V: IntoIterator<Item = I>,
    {
        let mut cutter = self.cutter(id.into())?;
        for item in items {
            cutter.add(&item)?;
            if cutter.bytes() > LARGEST {
                let problem = format!(
                    "the items have more than {LARGEST} bytes, which is too much for one statement: use `outbox_parts`"
                );
                return Err(Error::invalid_argument("items", problem));
            }
        }
        Ok(cutter.part(true))
    }

    /// Makes the statements of a large submission, each with about half a megabyte of items. They are made while they are
    /// asked for, so that the memory needed does not grow with the number of items. The application runs all of them, in
    /// their order and inside one transaction.
    ///
    /// ```
    /// use catchment::{Backend, Pipeline};
    ///
    /// # fn main() -> Result<(), catchment::Error> {
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::postgres("postgres://localhost/app")?)?;
    /// let mut statements = 0;
    /// for insert in adder.outbox_parts("all-numbers", 0..300_000)? {
    ///     let insert = insert?;
    ///     statements += 1; // run insert.text() with insert.params()
    /// }
    /// assert_eq!(statements, 4);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`outbox`](Self::outbox). The iterator returns those of an item, and ends with them: roll the transaction back then.
    pub fn outbox_parts<V>(
        &self,
        id: impl Into<RunId>,
        items: V,
    ) -> Result<OutboxParts<V::IntoIter>>
    where
        V: IntoIterator<Item = I>,
    {
        Ok(OutboxParts::new(self.cutter(id.into())?, items.into_iter()))
    }

    /// Submits inside a transaction of the application's: [`outbox_parts`](Self::outbox_parts), run on `client`. The run
    /// exists if and only if the transaction commits. Until then the returned handle knows of no run; after that, waiting
    /// for the result waits for a worker to take the submission up as well.
    ///
    /// ```no_run
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// # let adder = adder.deploy("adder", Backend::postgres("postgres://localhost/app")?)?;
    /// # let (mut client, _connection) = tokio_postgres::connect("postgres://localhost/app", tokio_postgres::NoTls).await?;
    /// let transaction = client.transaction().await?;
    /// transaction.execute("INSERT INTO orders (id) VALUES (7)", &[]).await?;
    /// let run = adder.submit_in(&transaction, "orders/7", 1..=5).await?;
    /// transaction.commit().await?;
    /// assert_eq!(run.result().await?, 30);
    /// # Ok(()) }
    /// ```
    ///
    /// If the future is dropped, some parts may have been written without the last one: roll the transaction back.
    ///
    /// # Errors
    /// As [`outbox`](Self::outbox), and [`Error::Backend`] with the server's reason: the transaction has failed then. If
    /// that is retryable, the whole transaction may succeed later.
    pub async fn submit_in<V>(
        &self,
        client: &impl GenericClient,
        id: impl Into<RunId>,
        items: V,
    ) -> Result<Run<R>>
    where
        V: IntoIterator<Item = I>,
    {
        let id = id.into();
        runtime::check()?;
        let outbox = self.postgres_outbox()?;
        for part in self.outbox_parts(id.clone(), items)? {
            outbox.run(client, &part?).await?;
        }
        outbox.expect();
        Ok(self.attach(id))
    }

    /// Submits the items of a stream inside a transaction of the application's, as [`submit_in`](Self::submit_in) does those
    /// of an iterator. Workers see nothing of them before the transaction commits.
    ///
    /// # Errors
    /// As [`submit_in`](Self::submit_in).
    pub async fn submit_stream_in<V>(
        &self,
        client: &impl GenericClient,
        id: impl Into<RunId>,
        items: V,
    ) -> Result<Run<R>>
    where
        V: Stream<Item = I>,
    {
        let id = id.into();
        runtime::check()?;
        let outbox = self.postgres_outbox()?;
        let mut cutter = self.cutter(id.clone())?;
        let mut items = pin!(items);
        while let Some(item) = items.next().await {
            if let Some(part) = cutter.add_to_part(&item)? {
                outbox.run(client, &part).await?;
            }
        }
        outbox.run(client, &cutter.part(true)).await?;
        outbox.expect();
        Ok(self.attach(id))
    }

    fn postgres_outbox(&self) -> Result<&PostgresOutbox> {
        self.backend.outbox.as_ref().ok_or_else(|| {
            let problem = format!(
                "deployment `{}` is over {:?}, which has no outbox: that is a table of a PostgreSQL database (`Backend::postgres`)",
                self.name(),
                self.backend
            );
            Error::invalid_argument("backend", problem)
        })
    }

    fn cutter(&self, id: RunId) -> Result<Cutter> {
        let outbox = self.postgres_outbox()?;
        id.validate()?;
        Ok(Cutter::new(outbox, id, self.site.carrier.form()))
    }
}
