//! Its calls on the services.

use anyhow::Result;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message};

use super::{PACKET_VALUE, Packet, World, text};
use crate::resources::{ARRAY, PACKET};

impl World {
    pub(super) async fn send(&self, queue: &str, body: String) -> Result<()> {
        let send = self.sqs.send_message().queue_url(queue);
        send.message_body(body).send().await?;
        Ok(())
    }

    pub(super) async fn receive(&self, queue: &str) -> Result<Vec<Message>> {
        let receive = self.sqs.receive_message().queue_url(queue);
        let receive = receive.max_number_of_messages(self.together);
        let received = receive.wait_time_seconds(20).send().await?;
        Ok(received.messages.unwrap_or_default())
    }

    pub(super) async fn delete(&self, queue: &str, messages: Vec<Message>) -> Result<()> {
        let receipts = messages
            .into_iter()
            .filter_map(|message| message.receipt_handle);
        let receipts: Vec<String> = receipts.collect();
        match receipts.as_slice() {
            [] => {}
            [receipt] => {
                let delete = self.sqs.delete_message().queue_url(queue);
                delete.receipt_handle(receipt).send().await?;
            }
            receipts => {
                let mut delete = self.sqs.delete_message_batch().queue_url(queue);
                for (id, receipt) in receipts.iter().enumerate() {
                    let entry = DeleteMessageBatchRequestEntry::builder();
                    let entry = entry.id(id.to_string()).receipt_handle(receipt);
                    delete = delete.entries(entry.build()?);
                }
                delete.send().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn put(&self, array: &str, id: &str, packet: &Packet) -> Result<()> {
        let put = self.dynamodb.put_item().table_name(&self.table);
        let put = put.item(ARRAY, text(array)).item(PACKET, text(id));
        let value = serde_json::to_string(packet)?;
        put.item(PACKET_VALUE, text(&value)).send().await?;
        Ok(())
    }
}
