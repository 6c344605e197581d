//! How a connection is made: with or without TLS, whichever the application's connector does.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Socket};

/// What drives a connection until it is closed: what the server sends of its own accord.
pub(super) type Driver = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;
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
                let (client, mut connection) = config.connect(tls).await?;
                let messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
                Ok((client, messages.boxed()))
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
