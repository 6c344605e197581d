//! The conformance suite of scratchpads: one scenario for each sentence of [`Scratchpad`]'s contract.

mod subject;

use std::sync::Arc;

use super::suite::{run_all, scenarios};
use crate::scratchpad::Scratchpad;

/// Runs every scenario in turn, each on runs of its own whose ids are unique.
///
/// # Panics
/// After all scenarios have run, if any failed: with the name of each and what was expected.
pub async fn conformance(scratchpad: Arc<dyn Scratchpad>) {
    run_all(scenarios(&scratchpad)).await;
}

scenarios! {
    /// The scenarios of the suite, to be run one by one. Each has a name of its own.
    fn scenarios(scratchpad: &Arc<dyn Scratchpad>) => (Arc::clone(scratchpad));

    mod runs {
        provisioning_again_changes_nothing,
        a_run_begins_once,
        one_of_many_begins_a_run,
        ids_of_every_allowed_form_are_told_apart,
        the_furthest_checkpoint_stands,
        another_checkpoint_of_as_many_packets_is_refused,
        of_many_checkpoints_at_once_the_furthest_stands,
        measuring_again_changes_nothing_and_another_end_is_refused,
        an_end_before_the_checkpoint_is_refused,
        a_submitted_run_says_so,
        the_first_result_stands,
        one_of_many_completes_a_run,
        a_cancelled_run_takes_no_result,
        a_finished_run_stays_finished,
        an_unknown_run_is_over,
        forgetting_is_only_a_hint,
    }
    mod listing {
        a_list_without_runs_is_empty,
        the_newest_run_comes_first,
        runs_are_listed_by_state,
        runs_are_listed_by_time,
        pages_of_runs_meet_each_run_once,
        a_run_that_begins_meanwhile_is_no_part_of_the_pages,
        a_cursor_of_another_list_is_refused,
    }
    mod groups {
        arrivals_are_counted_in_the_order_given,
        a_slot_keeps_its_first_value,
        duplicates_in_one_batch_count_once,
        a_batch_may_be_large_and_of_many_groups,
        members_come_in_slot_order,
        a_value_may_be_any_bytes,
        a_group_nobody_has_written_to_is_empty,
        groups_are_told_apart,
        groups_of_different_partitions_do_not_meet,
        a_group_is_told_its_size,
        an_empty_root_is_complete,
        a_retired_group_keeps_its_slots,
        arrivals_at_a_finished_run_change_nothing,
    }
    mod generations {
        a_run_has_the_generation_of_its_record,
        another_generation_completes_nothing,
        another_generation_says_nothing_of_a_submission,
        groups_of_another_generation_are_other_groups,
        failures_of_another_generation_are_not_the_runs,
        deliveries_of_another_generation_do_not_count,
        another_generation_clears_nothing,
        another_generation_does_not_end_the_run,
    }
    mod concurrency {
        of_the_arrivals_that_fill_a_group_one_sees_it_full,
        sealing_or_the_last_arrival_sees_a_group_complete,
        whoever_sees_a_slot_can_read_its_value,
        every_failure_reported_at_once_is_kept,
    }
    mod beginnings {
        a_delivery_begins_once,
        deliveries_that_begin_at_once_all_count,
        a_failed_delivery_has_finished,
        a_beginning_can_be_withdrawn,
        a_delivery_is_at_one_item,
        an_item_is_begun_no_longer_when_its_delivery_ends,
        each_item_has_failed_attempts_of_its_own,
        of_two_copies_the_higher_number_stands,
        reports_at_once_count_for_all_items,
        the_highest_counts_of_many_items_stand,
        clearing_forgets_deliveries,
        clearing_forgets_the_items_attempts,
    }
    mod failures {
        a_retry_is_on_record_and_the_run_goes_on,
        a_dead_letter_fails_the_run,
        a_newer_dead_letter_takes_the_place_of_an_older_one,
        skipped_items_count_once,
        a_failure_is_cleared_by_its_own_id_only,
        clearing_takes_skipped_items_back,
        a_dead_letter_takes_the_place_of_its_skipped_items,
        what_a_copy_of_a_dead_letter_skips_is_counted,
        a_label_is_kept,
        one_item_does_not_displace_the_others_last_errors,
        the_first_failure_is_the_oldest_that_stands,
        failures_come_in_order,
        failures_that_stand_are_met_once,
        failures_are_not_listed_after_a_foreign_cursor,
        a_failed_run_can_be_completed,
        a_late_failure_leaves_the_result,
    }
    mod waiting {
        waiting_ends_with_its_time,
        waiting_ends_with_the_run,
        waiting_for_a_run_that_has_ended_returns_at_once,
        waiting_outlasts_what_does_not_end_the_run,
    }
}
