//! The conformance suite of queues: one scenario for each sentence of [`Queue`](crate::queue::Queue)'s contract.

mod capabilities;
mod subject;

use std::sync::Arc;

pub use self::capabilities::Capabilities;
use super::suite::{run_all, scenarios};
use crate::queue::Queues;

/// Runs every scenario in turn, each on queues of its own whose names are unique.
///
/// # Panics
/// After all scenarios have run, if any failed: with the name of each and what was expected.
pub async fn conformance(queues: Arc<dyn Queues>, capabilities: &Capabilities) {
    run_all(scenarios(&queues, capabilities)).await;
}

scenarios! {
    /// The scenarios of the suite, to be run one by one. Each has a name of its own.
    fn scenarios(queues: &Arc<dyn Queues>, capabilities: &Capabilities)
        => (Arc::clone(queues), *capabilities);

    mod delivery {
        two_handles_are_one_queue,
        provisioning_again_changes_nothing,
        a_message_arrives_as_it_was_sent,
        a_body_may_be_any_bytes,
        the_largest_body_arrives_and_a_larger_one_is_refused,
        a_thousand_messages_all_arrive,
        receive_takes_at_most_max,
        an_empty_receive_returns_after_its_wait,
        a_waiting_receive_returns_when_a_message_comes,
        waiting_receivers_share_what_comes,
        a_cancelled_receive_loses_nothing,
        empty_batches_are_fine,
        depth_counts_every_message_once,
        room_returns_while_nobody_consumes,
    }
    mod attributes {
        attributes_arrive_as_they_were_sent,
        attributes_survive_a_redelivery,
        a_buried_message_keeps_its_attributes,
        attributes_count_towards_the_limit,
    }
    mod visibility {
        an_unacknowledged_message_comes_back,
        an_acknowledged_message_never_comes_back,
        a_stale_acknowledgement_spares_the_later_delivery,
        extending_keeps_a_message_hidden,
        extending_by_less_shows_a_message_sooner,
        extending_reports_stale_receipts,
        a_released_message_is_visible_at_once,
        a_released_message_is_visible_after_its_delay,
        releasing_with_a_stale_receipt_changes_nothing,
    }
    mod dead_letters {
        a_buried_message_is_a_dead_letter,
        burying_with_a_stale_receipt_loses_nothing,
        looking_at_dead_letters_leaves_them_there,
        pages_of_dead_letters_come_to_an_end,
        a_page_of_dead_letters_is_bounded_in_bytes,
        dead_letters_are_found_among_others,
        dead_letters_are_not_listed_after_a_foreign_cursor,
        a_redriven_message_begins_anew,
        redriving_what_is_gone_is_no_error,
        a_discarded_message_is_gone,
    }
}
