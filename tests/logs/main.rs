//! What a job relies on in the logs that it reads and writes, whichever they are: one suite
//! (`specs.rs`) for the embedded log and for Kafka. A third log is done when it passes.
//!
//! Where no Kafka can be had, its half says SKIPPED.

#[path = "../kafka/cluster.rs"]
mod cluster;
mod embedded;
mod kafka;
mod log;
mod specs;

/// Each spec as a test of each log.
macro_rules! specs {
    ($($spec:ident),* $(,)?) => {
        mod of_the_embedded_log {
            $(#[test] fn $spec() { crate::specs::$spec(&crate::embedded::Embedded::new()) })*
        }
        mod of_kafka {
            $(#[test] fn $spec() {
                if let Some(log) = crate::kafka::Kafka::new(stringify!($spec)) {
                    crate::specs::$spec(&log);
                }
            })*
        }
    };
}

specs! {
    what_is_appended_is_read_in_order_and_again_from_any_place,
    growth_is_followed,
    time_goes_on_at_the_end_and_never_in_front_of_what_is_there,
    a_partition_that_is_not_followed_is_closed_at_its_end,
    partitions_that_are_added_are_found_where_they_can_be,
    an_offset_that_is_gone_is_an_error_that_says_how_much_is_lost,
    an_offset_beyond_the_end_is_an_error,
    a_topic_that_is_created_anew_is_noticed,
    what_is_written_is_seen_in_the_order_of_its_partition_with_key_tick_and_time,
    what_is_not_committed_is_not_seen,
    what_is_committed_is_not_written_again_after_a_start,
    of_two_that_write_only_one_is_heard,
}
