//! What it would take at least, whoever did it in queues and tables: computed, not measured.

use crate::bill::Bill;
use crate::prices;

/// Members a group, as the library's default.
pub(crate) const FAN_IN: u64 = 32;
/// Groups of the tree over so many packets, up to the root.
pub(crate) fn groups(packets: u64) -> u64 {
    let mut level = packets;
    let mut groups = 0;
    loop {
        // A level that is full needs one above it, as in the library.
        let is_last = level < FAN_IN;
        level = level.div_ceil(FAN_IN);
        groups += level;
        if is_last {
            return groups;
        }
    }
}

/// Messages and bytes of a request of SQS.
const MOST_MESSAGES: u64 = 10;
const MOST_BYTES: u64 = 1024 * 1024;

/// The floor for so many items of so many bytes each in packets of this size, whose partial results are as large as an
/// item:
///
/// - each packet is sent, received and deleted once, ten to a request, or fewer where ten would be more than 1 MiB;
/// - the partial results of a group of 32 share one write and are read by one query, and its reduction is a message,
///   again ten to a request;
/// - a run has a record that is written once, a result that is written once, and somebody who looks once.
///
/// Nothing waits in vain, nothing comes twice, no failure is noticed, and nobody asks whether the run was cancelled.
pub(crate) fn floor(items: u64, packet_size: u64, bytes: u64) -> Bill {
    let mut bill = Bill::default();
    let packets = items.div_ceil(packet_size);
    let messages = Messages {
        count: packets,
        bytes: packet_size.min(items) * bytes,
    };
    let groups = groups(packets);
    let reductions = Messages {
        count: groups,
        bytes: 0,
    };
    for messages in [messages, reductions] {
        let full = messages.requests();
        bill.add("SQS SendMessageBatch", full, messages.units());
        bill.add("SQS ReceiveMessage", full, messages.units());
        let deletes = messages.count.div_ceil(MOST_MESSAGES);
        bill.add("SQS DeleteMessageBatch", deletes, deletes);
    }
    let members = FAN_IN.min(packets) * bytes;
    let writes = groups * members.div_ceil(prices::WRITE_CHUNK);
    let reads = groups * members.div_ceil(prices::READ_CHUNK);
    bill.add("DynamoDB UpdateItem", groups, writes);
    bill.add("DynamoDB Query", groups, reads);
    let result = bytes.div_ceil(prices::WRITE_CHUNK);
    bill.add("DynamoDB PutItem", 2, 1 + result);
    bill.add("DynamoDB GetItem", 1, bytes.div_ceil(prices::READ_CHUNK));
    bill
}

#[derive(Clone, Copy)]
struct Messages {
    count: u64,
    /// Of each.
    bytes: u64,
}

impl Messages {
    /// How many go with one request.
    fn together(self) -> u64 {
        MOST_BYTES
            .checked_div(self.bytes)
            .map_or(MOST_MESSAGES, |fit| fit.clamp(1, MOST_MESSAGES))
    }

    fn requests(self) -> u64 {
        self.count.div_ceil(self.together())
    }

    fn units(self) -> u64 {
        let together = self.together();
        let units = |count: u64| (count * self.bytes).div_ceil(prices::SQS_CHUNK).max(1);
        let rest = self.count % together;
        let of_rest = if rest == 0 { 0 } else { units(rest) };
        self.count / together * units(together) + of_rest
    }
}

impl Bill {
    fn add(&mut self, kind: &str, requests: u64, units: u64) {
        *self.requests.entry(kind.to_owned()).or_default() += requests;
        *self.units(kind) += units as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_packets_of_one() {
        let bill = floor(1_000, 1, 7);
        // 32 groups, one above them, and the root above that.
        assert_eq!(bill.of(&["SendMessageBatch"]), 100 + 4);
        assert_eq!(bill.of(&["UpdateItem"]), 34);
        assert_eq!(bill.total(), 3 * (100 + 4) + 2 * 34 + 3);
    }

    #[test]
    fn large_messages_fill_a_request_by_their_bytes() {
        let bill = floor(100, 10, 10 * 1024);
        // Ten packets of 100 KB.
        assert_eq!(bill.of(&["SendMessageBatch"]), 1 + 1);
        assert_eq!(bill.sqs_units, 2.0 * (16.0 + 1.0) + 2.0);
    }
}
