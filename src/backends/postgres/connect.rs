//! How a connection is made: with or without TLS, whichever the application's connector does.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Socket};

/// What drives a connection until it is closed.
pub(super) type Driver = BoxFuture<'static, Result<(), tokio_postgres::Error>>;
type Connecting = BoxFuture<'static, Result<(Client, Driver), tokio_postgres::Error>>;

/// Makes connections. The type of the TLS connector is erased, so that it shows in no public type.
#[derive(Clone)]
pub(super) struct Connect(Arc<dyn Fn(Config) -> Connecting + Send + Sync>);

impl Connect {
    pub(super) fn with<T>(tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
    {
        Self(Arc::new(move |config| {
            let tls = tls.clone();
            async move {
                let (client, connection) = config.connect(tls).await?;
                Ok((client, connection.boxed()))
            }
            .boxed()
        }))
    }

    pub(super) async fn connect(
        &self,
        config: &Config,
    ) -> Result<(Client, Driver), tokio_postgres::Error> {
        (self.0)(config.clone()).await
    }
}
