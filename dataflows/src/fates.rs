//! Brings records to the workers that have their shards, and parts them by what the source has
//! decided over each.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::batch::{Batch, Fate, by_shard};

/// Records by fate, each on the worker that has its shard.
pub struct Fates<'s> {
    /// Those that belong to a visit.
    pub accepted: Stream<'s, u64, Batch>,
    /// Those that came too late.
    pub late: Stream<'s, u64, Batch>,
    /// Those that are no measurements of now.
    pub rejected: Stream<'s, u64, Batch>,
}

/// Exchanges by shard and parts by fate; `partitions` are those of the outputs, by which shards
/// are dealt to workers. A batch of accepted records only, the usual one, passes untouched.
pub fn fates<'s>(records: Stream<'s, u64, Batch>, partitions: u32) -> Fates<'s> {
    let mut builder = OperatorBuilder::new("Fates".to_owned(), records.scope());
    let mut input = builder.new_input(records, by_shard(partitions));
    builder.set_notify_for(0, timely::progress::operate::FrontierInterest::Never);
    let (accepted, accepted_stream) = builder.new_output();
    let (late, late_stream) = builder.new_output();
    let (rejected, rejected_stream) = builder.new_output();
    let mut outputs =
        [accepted, late, rejected].map(OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from);
    builder.build(move |caps| {
        drop(caps);
        move |_| {
            input.for_each(|cap, batch| {
                let mut send = |port: usize, batch: &mut Batch| {
                    let cap = cap
                        .retain_least(port)
                        .expect("records travel under a timestamp");
                    outputs[port].activate().session(&cap).give_container(batch);
                };
                if batch
                    .heads()
                    .iter()
                    .all(|head| head.fate == Fate::Accepted as u8)
                {
                    send(0, batch);
                    return;
                }
                let mut parts = [batch.sharing(), batch.sharing(), batch.sharing()];
                for head in batch.heads() {
                    parts[usize::from(head.fate).min(2)].push_head(*head);
                }
                for (port, part) in parts
                    .iter_mut()
                    .enumerate()
                    .filter(|(_, part)| !part.is_empty())
                {
                    send(port, part);
                }
            });
        }
    });
    Fates {
        accepted: accepted_stream,
        late: late_stream,
        rejected: rejected_stream,
    }
}
