//! Appending to a whole topic, by key: for generators and importers, which have no ticks. It
//! promises that records of one key stay in order, in the partition that Kafka's default
//! partitioner would choose where the number of partitions divides 256.

use visitflow_schemas::shard::Shard;

use super::{LogError, Topic, Writer, WriterOptions};

/// The memory that the frames of all partitions share.
const BUFFER_BYTES: usize = 16 << 20;

/// The writers of all partitions of a topic.
pub struct Producer {
    writers: Vec<Writer>,
    commit_bytes: usize,
}

impl Producer {
    /// Takes all partitions of a topic for writing. Keeps one to four frames a
    /// partition in memory.
    ///
    /// # Errors
    /// As [`Writer::open`], for any partition.
    pub fn open(topic: &Topic, options: WriterOptions) -> Result<Producer, LogError> {
        let open = |partition| Writer::open(topic, partition, options);
        Ok(Producer {
            writers: (0..topic.partitions())
                .map(open)
                .collect::<Result<_, _>>()?,
            // A write call costs as much as the copying of some ten KiB, so several frames share
            // one where there are not too many partitions.
            commit_bytes: (BUFFER_BYTES / topic.partitions() as usize)
                .clamp(options.frame_bytes, options.frame_bytes.saturating_mul(4))
                // A writer that writes before the commit would show nothing to anybody.
                .min(options.buffer_bytes),
        })
    }

    /// Appends a record to the partition of its key's shard; returns the partition and the
    /// record's offset there. `log_time` is in milliseconds UTC. Readers see it when some
    /// frames are full, and at the latest with [`flush`](Producer::flush).
    ///
    /// # Errors
    /// A record that is too large, a failed write. The record was not taken then.
    pub fn send(
        &mut self,
        log_time: i64,
        key: &[u8],
        headers: &[(&str, &[u8])],
        value: &[u8],
    ) -> Result<(u32, u64), LogError> {
        let partition = Shard::of(key).partition(self.writers.len() as u32);
        let writer = &mut self.writers[partition as usize];
        // Full frames go before the record is taken, so that an error means that it was not.
        let size = key.len() + value.len();
        if writer.buffered_bytes() > 0 && writer.buffered_bytes() + size >= self.commit_bytes {
            writer.commit(0)?;
        }
        let offset = writer.push(log_time, key, headers, value)?;
        Ok((partition, offset))
    }

    /// Makes everything that was sent visible to readers. It is durable with
    /// [`close`](Producer::close).
    ///
    /// # Errors
    /// A failed write; what was not written is still held.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.writers.iter_mut().try_for_each(|w| w.commit(0))
    }

    /// The writers, by partition.
    #[must_use]
    pub fn writers(&self) -> &[Writer] {
        &self.writers
    }

    /// Flushes, makes everything durable and gives the partitions back.
    ///
    /// # Errors
    /// A failed write or sync.
    pub fn close(mut self) -> Result<(), LogError> {
        self.flush()?;
        self.writers.into_iter().try_for_each(Writer::close)
    }
}

impl crate::generate::ArrivalSink for Producer {
    fn send(
        &mut self,
        arrival: &crate::generate::Arrival,
    ) -> Result<(), crate::generate::SinkError> {
        Producer::send(self, arrival.log_time, &arrival.key, &[], &arrival.value)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), crate::generate::SinkError> {
        Ok(self.flush()?)
    }
}

impl crate::import::Out for Producer {
    fn send(
        &mut self,
        log_time: i64,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), crate::import::BoxError> {
        Producer::send(self, log_time, key, &[], value)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), crate::import::BoxError> {
        Ok(Producer::flush(self)?)
    }
}
