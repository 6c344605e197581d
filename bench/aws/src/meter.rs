//! Meters requests where they leave the client: what is counted is what goes over the wire, of the library as of the
//! handbook's algorithm.
//!
//! DynamoDB is asked to say what each request consumes, which the library does not ask for. The emulators do not mind
//! that the signature no longer fits.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::Value;

use crate::bill::Bill;

/// Milliseconds that are added to a request where the services are to be as far away as AWS says they are: see
/// bench/scaling for where the figures come from.
const SQS: std::ops::RangeInclusive<u64> = 10..=20;
const DYNAMODB: std::ops::RangeInclusive<u64> = 5..=10;

/// A client's connections, metered. Cloning it gives the same meter.
#[derive(Clone)]
pub(crate) struct Meter {
    client: SharedHttpClient,
    bill: Arc<Mutex<Bill>>,
    far: bool,
}

impl Meter {
    pub(crate) fn new(far: bool) -> Self {
        Self {
            client: Builder::new().build_http(),
            bill: Arc::default(),
            far,
        }
    }

    /// What has been metered so far, and begins again.
    pub(crate) fn take(&self) -> Bill {
        std::mem::take(&mut *self.bill())
    }

    fn bill(&self) -> std::sync::MutexGuard<'_, Bill> {
        self.bill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl HttpClient for Meter {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Metered {
            connector: self.client.http_connector(settings, components),
            meter: self.clone(),
        })
    }
}

#[derive(Debug)]
struct Metered {
    connector: SharedHttpConnector,
    meter: Meter,
}

impl HttpConnector for Metered {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (connector, meter) = (self.connector.clone(), self.meter.clone());
        HttpConnectorFuture::new(async move { meter.pass(&connector, request).await })
    }
}

impl Meter {
    async fn pass(
        &self,
        connector: &SharedHttpConnector,
        mut request: HttpRequest,
    ) -> Result<HttpResponse, ConnectorError> {
        let kind = kind(&request);
        let sent: Value = parse(request.body().bytes().unwrap_or_default());
        let bytes = request.body().bytes().map_or(0, <[u8]>::len) as u64;
        self.bill().leaves(&kind, bytes);
        let is_sqs = kind.starts_with("SQS");
        if !is_sqs {
            ask_for_capacity(&mut request, sent.clone());
        }
        if self.far {
            let milliseconds = fastrand::u64(if is_sqs { SQS } else { DYNAMODB });
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        let mut response = connector.call(request).await?;
        let body = std::mem::replace(response.body_mut(), SdkBody::taken());
        let body = ByteStream::new(body).collect().await;
        let body = body.map_err(|error| ConnectorError::io(error.into()))?;
        let body = body.into_bytes();
        self.bill().answered(&kind, &sent, &parse(&body));
        *response.body_mut() = SdkBody::from(body);
        Ok(response)
    }
}

/// `SQS SendMessageBatch`, as the library counts.
fn kind(request: &HttpRequest) -> String {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    let (service, operation) = target.split_once('.').unwrap_or(("", target));
    let service = match service {
        "AmazonSQS" => "SQS",
        _ => "DynamoDB",
    };
    format!("{service} {operation}")
}

fn parse(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

fn ask_for_capacity(request: &mut HttpRequest, mut body: Value) {
    let Some(fields) = body.as_object_mut() else {
        return;
    };
    // Requests about whole tables consume none.
    if !fields.contains_key("Key")
        && !fields.contains_key("Item")
        && !fields.contains_key("RequestItems")
        && !fields.contains_key("KeyConditionExpression")
    {
        return;
    }
    fields.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
    let text = body.to_string();
    let length = text.len().to_string();
    request.headers_mut().insert("content-length", length);
    *request.body_mut() = SdkBody::from(text);
}
