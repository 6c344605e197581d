//! The price on AWS: what runs take in requests, bytes, billed units and dollars, beside the handbook's algorithm and the
//! floor.

mod rows;

use anyhow::Result;

use crate::bill::Bill;
use crate::table::{Table, thousands};
use crate::workload::Setting;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A million items with one item a packet, too, which takes about half an hour.
    #[arg(long)]
    million: bool,
    /// Most items of 10 KB.
    #[arg(long, default_value_t = 10_000, value_name = "ITEMS")]
    large: u64,
    /// Items for the handbook's algorithm; 0 leaves it out.
    #[arg(long, default_value_t = 1_000, value_name = "ITEMS")]
    handbook: u64,
    /// Only rows whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    #[command(flatten)]
    setting: Setting,
}

/// Measures, prints, and returns the tables as Markdown and what missed its target.
pub(crate) async fn run(options: &Options) -> Result<(String, Vec<String>)> {
    let mut requests = Table::new(&[
        "", "items", "send", "receive", "delete", "hide", "writes", "reads", "requests", "an item",
        "floor", "target",
    ]);
    let mut money = Table::new(&[
        "",
        "items",
        "MB sent",
        "SQS requests",
        "write units",
        "read units",
        "$ a million items",
        "floor",
    ]);
    let mut missed = Vec::new();
    for row in rows::rows(options) {
        let name = row.name();
        if options
            .only
            .as_ref()
            .is_some_and(|only| !name.contains(only))
        {
            continue;
        }
        eprintln!("{name}, {} items ...", thousands(row.items));
        let bill = row.measure(options.setting).await?;
        let floor = row.floor();
        let an_item = |count: f64| count / row.items as f64;
        let requested = an_item(bill.total() as f64);
        let target = match row.target {
            None => String::new(),
            Some(target) if requested <= target => format!("≤ {target}"),
            Some(target) => {
                missed.push(format!(
                    "{name}, {} items: {requested:.4} requests an item, more than {target}",
                    row.items
                ));
                format!("≤ {target}: missed")
            }
        };
        requests.row([
            name.clone(),
            thousands(row.items),
            thousands(bill.of(&["SendMessage", "SendMessageBatch"])),
            thousands(bill.of(&["ReceiveMessage"])),
            thousands(bill.of(&["DeleteMessage", "DeleteMessageBatch"])),
            thousands(bill.of(&["ChangeMessageVisibility", "ChangeMessageVisibilityBatch"])),
            thousands(bill.of(&["PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"])),
            thousands(bill.of(&["GetItem", "Query", "BatchGetItem"])),
            thousands(bill.total()),
            format!("{requested:.4}"),
            format!("{:.4}", an_item(floor.total() as f64)),
            target,
        ]);
        let dollars = |bill: &Bill| format!("{:.4}", an_item(bill.dollars() * 1e6));
        money.row([
            name,
            thousands(row.items),
            format!("{:.1}", bill.bytes as f64 / 1e6),
            thousands(bill.sqs_units.round() as u64),
            thousands(bill.write_units.round() as u64),
            thousands(bill.read_units.round() as u64),
            dollars(&bill),
            dollars(&floor),
        ]);
    }
    let text = format!("{}\n{}", requests.markdown(), money.markdown());
    Ok((text, missed))
}
