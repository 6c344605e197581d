//! The algorithm that the library grew from, over the same services, written down as straightforwardly as it is told: a
//! message an item; whoever maps writes a packet to the table and sends a message that asks for a reduction; whoever
//! reduces takes any two packets, writes their sum, deletes both and asks for another reduction; once a packet stands for the
//! whole array, it is the result.
//!
//! It is wrong under faults (examples/torture counts how often). Here there are none, and only one worker reduces, since two
//! could take the same pair.

mod calls;

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::Message;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::bill::Bill;
use crate::emulators::{self, unique};
use crate::meter::Meter;
use crate::resources::{self, ARRAY, Item, PACKET};

/// Who submits and who maps does so many things at once.
const SIDE_BY_SIDE: usize = 8;
const PACKET_VALUE: &str = "value";

#[derive(Clone, Serialize, Deserialize)]
struct Packet {
    id: String,
    contains: u64,
    value: u64,
}

struct World {
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
    to_map: String,
    to_reduce: String,
    length: u64,
    /// Messages a receive: one, as it is told, or ten, as Lambda takes them from a queue. Ten are deleted together.
    together: i32,
}

/// Adds up the numbers to `length`, doubled, and returns what it took.
pub(crate) async fn run(length: u64, together: i32, far: bool) -> Result<Bill> {
    let meter = Meter::new(far);
    let config = emulators::metered(&meter).await?;
    let sqs = aws_sdk_sqs::Client::new(&config);
    let dynamodb = aws_sdk_dynamodb::Client::new(&config);
    let table = unique("handbook");
    resources::make_table(&dynamodb, &table).await?;
    let world = World {
        to_map: resources::make_queue(&sqs, &format!("{table}-map")).await?,
        to_reduce: resources::make_queue(&sqs, &format!("{table}-reduce")).await?,
        sqs,
        dynamodb,
        table,
        length,
        together,
    };
    meter.take();
    let result = tokio::select! {
        never = world.work() => match never? {},
        result = world.submit_and_wait() => result?,
    };
    let bill = meter.take();
    ensure!(result == length * (length + 1), "a wrong result: {result}");
    for queue in [&world.to_map, &world.to_reduce] {
        world.sqs.delete_queue().queue_url(queue).send().await?;
    }
    let delete = world.dynamodb.delete_table().table_name(&world.table);
    delete.send().await?;
    Ok(bill)
}

impl World {
    async fn submit_and_wait(&self) -> Result<u64> {
        let send = |n: u64| async move {
            let packet = Packet {
                id: format!("0/{n}"),
                contains: 1,
                value: n,
            };
            self.send(&self.to_map, serde_json::to_string(&packet)?)
                .await
        };
        let sends = futures::stream::iter(1..=self.length).map(send);
        let sends = sends.buffer_unordered(SIDE_BY_SIDE);
        sends.try_collect::<()>().await?;
        loop {
            let look = self.dynamodb.get_item().table_name(&self.table);
            let look = look.key(ARRAY, text("results")).key(PACKET, text("array"));
            if let Some(item) = look.send().await?.item {
                return Ok(packet(&item)?.value);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn work(&self) -> Result<Infallible> {
        let map = futures::future::select_all((0..SIDE_BY_SIDE).map(|_| self.map_all().boxed()));
        let map = async { map.await.0 };
        let reduce = self.reduce_all();
        tokio::select! {
            never = map => never,
            never = reduce => never,
        }
    }

    async fn map_all(&self) -> Result<Infallible> {
        loop {
            let messages = self.receive(&self.to_map).await?;
            for message in &messages {
                self.map(message).await?;
            }
            self.delete(&self.to_map, messages).await?;
        }
    }

    async fn reduce_all(&self) -> Result<Infallible> {
        loop {
            let messages = self.receive(&self.to_reduce).await?;
            for _ in &messages {
                self.reduce().await?;
            }
            self.delete(&self.to_reduce, messages).await?;
        }
    }

    async fn map(&self, message: &Message) -> Result<()> {
        let mut packet: Packet = serde_json::from_str(message.body().unwrap_or_default())?;
        packet.value *= 2;
        self.put("array", &packet.id, &packet).await?;
        self.send(&self.to_reduce, "go".to_owned()).await
    }

    async fn reduce(&self) -> Result<()> {
        let any_two = self.dynamodb.query().table_name(&self.table);
        let any_two = any_two
            .key_condition_expression("#array = :array")
            .expression_attribute_names("#array", ARRAY)
            .expression_attribute_values(":array", text("array"))
            .consistent_read(true)
            .limit(2);
        let found = any_two.send().await?.items.unwrap_or_default();
        let found = found.iter().map(packet).collect::<Result<Vec<_>>>()?;
        match found.as_slice() {
            [whole] if whole.contains >= self.length => self.put("results", "array", whole).await,
            [a, b] => {
                let sum = Packet {
                    id: unique("sum"),
                    contains: a.contains + b.contains,
                    value: a.value + b.value,
                };
                self.put("array", &sum.id, &sum).await?;
                for packet in [a, b] {
                    let delete = self.dynamodb.delete_item().table_name(&self.table);
                    let delete = delete.key(ARRAY, text("array"));
                    delete.key(PACKET, text(&packet.id)).send().await?;
                }
                self.send(&self.to_reduce, "go".to_owned()).await
            }
            _ => Ok(()),
        }
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn packet(item: &Item) -> Result<Packet> {
    let value = item.get(PACKET_VALUE).and_then(|value| value.as_s().ok());
    let value = value.context("a packet without a value")?;
    Ok(serde_json::from_str(value)?)
}
