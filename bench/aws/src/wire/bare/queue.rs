//! Requests to the queue, of the kinds and sizes that the library makes.

use anyhow::{Result, ensure};
use aws_config::SdkConfig;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageSystemAttributeName, SendMessageBatchRequestEntry,
};

use super::Requests;
use crate::resources;

/// As the library hides them.
const VISIBILITY: i32 = 30;

pub(super) struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
    /// Of every message.
    body: String,
    requests: Requests,
}

impl Queue {
    pub(super) async fn new(
        name: &str,
        body: String,
        requests: Requests,
        config: &SdkConfig,
    ) -> Result<Self> {
        let client = aws_sdk_sqs::Client::new(config);
        Ok(Self {
            url: resources::make_queue(&client, name).await?,
            client,
            body,
            requests,
        })
    }

    pub(super) async fn send(&self, messages: u64) -> Result<()> {
        self.requests.count();
        let mut send = self.client.send_message_batch().queue_url(&self.url);
        for id in 0..messages {
            let entry = SendMessageBatchRequestEntry::builder().id(id.to_string());
            send = send.entries(entry.message_body(&self.body).build()?);
        }
        ensure!(
            send.send().await?.failed.is_empty(),
            "a message was not taken"
        );
        Ok(())
    }

    /// Receipts of up to so many messages.
    pub(super) async fn receive(&self, most: i32) -> Result<Vec<String>> {
        self.requests.count();
        let receive = self.client.receive_message().queue_url(&self.url);
        let received = receive
            .max_number_of_messages(most)
            .wait_time_seconds(1)
            .visibility_timeout(VISIBILITY)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await?;
        let messages = received.messages.unwrap_or_default().into_iter();
        Ok(messages
            .filter_map(|message| message.receipt_handle)
            .collect())
    }

    pub(super) async fn hide(&self, receipts: &[String]) -> Result<()> {
        self.requests.count();
        let mut hide = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url);
        for (id, receipt) in receipts.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id.to_string());
            let entry = entry.receipt_handle(receipt).visibility_timeout(VISIBILITY);
            hide = hide.entries(entry.build()?);
        }
        hide.send().await?;
        Ok(())
    }

    pub(super) async fn delete(&self, receipts: &[String]) -> Result<()> {
        self.requests.count();
        let mut delete = self.client.delete_message_batch().queue_url(&self.url);
        for (id, receipt) in receipts.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(id.to_string());
            delete = delete.entries(entry.receipt_handle(receipt).build()?);
        }
        ensure!(
            delete.send().await?.failed.is_empty(),
            "a message was not deleted"
        );
        Ok(())
    }

    pub(super) async fn remove(&self) -> Result<()> {
        let delete = self.client.delete_queue().queue_url(&self.url);
        delete.send().await?;
        Ok(())
    }
}
