//! What can go wrong with Kafka. Each error names the thing, the place and what was expected
//! there. None holds the value of a property that may be secret.

use rdkafka::types::RDKafkaErrorCode as Code;

/// An error of Kafka, or of how it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// A property of the connection cannot be set.
    #[error("Kafka property {property:?}: {reason}")]
    Property {
        /// Its name.
        property: String,
        /// Why not, without its value if that may be secret.
        reason: String,
    },
    /// A property of the connection is one that exactness depends on.
    #[error(
        "Kafka property {property:?} cannot be set: {reason}; leave it out, since reading and writing exactly once depend on it"
    )]
    Owned {
        /// Its name.
        property: String,
        /// Who sets it.
        reason: &'static str,
    },
    /// A property asks for TLS, which this program was built without.
    #[error(
        "Kafka property {property:?}: this program was built without TLS; expected one that was built with `--features tls`"
    )]
    NeedsTls {
        /// Its name.
        property: String,
    },
    /// A property asks for OAUTHBEARER, which this program was built without.
    #[error(
        "Kafka property {property:?}: this program was built without OAUTHBEARER; expected one that was built with `--features oauthbearer`"
    )]
    NeedsOauthbearer {
        /// Its name.
        property: String,
    },
    /// The value of a property lies in a file or in the environment, and is not there.
    #[error("Kafka property {property:?}: cannot read {from}: {reason}")]
    Reference {
        /// Its name.
        property: String,
        /// `file:PATH` or `env:NAME`.
        from: String,
        /// Why not.
        reason: String,
    },
    /// The properties do not make a client.
    #[error("cannot connect to Kafka with these properties: {reason}")]
    Client {
        /// Why not, as librdkafka says it.
        reason: String,
    },
    /// The brokers did not do something, and may do it later. It leaves this module only where a
    /// [`Patience`](super::Patience) has a limit.
    #[error("Kafka: {doing}: {reason}")]
    Failed {
        /// What was tried.
        doing: String,
        /// The last reason.
        reason: String,
    },
    /// The caller asked to stop while something was waited for.
    #[error("stopped while waiting for Kafka")]
    Stopped,
    /// The brokers refuse something, and will go on to.
    #[error("Kafka: {doing}: refused: {reason}")]
    Refused {
        /// What was tried.
        doing: String,
        /// The reason.
        reason: String,
    },
    /// There is no such topic.
    #[error("Kafka has no topic {topic:?}")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// A topic does not have this partition.
    #[error("topic {topic:?} has no partition {partition}: it has {partitions}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// A topic is there, with other partitions.
    #[error("topic {topic:?} has {found} partitions: expected {expected}")]
    Partitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// A topic that is being read was deleted.
    #[error("topic {topic:?} is gone: it was deleted while it was being read")]
    TopicGone {
        /// The topic.
        topic: String,
    },
    /// Another topic has taken the name of the one that is read.
    #[error(
        "topic {topic:?} was deleted and created anew: its ID is {is}, expected {was}; the offsets up to which it was read are those of a topic that is gone"
    )]
    TopicAnew {
        /// The topic.
        topic: String,
        /// The ID of the one that was read.
        was: String,
        /// The ID of the one that is there.
        is: String,
    },
    /// Records that are still to be read are no longer there.
    #[error(
        "topic {topic:?}, partition {partition}: offset {wanted} is gone: the earliest is {earliest}, so {lost} offsets are lost"
    )]
    OffsetGone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that comes next.
        wanted: i64,
        /// The earliest that is there.
        earliest: i64,
        /// How many offsets lie between.
        lost: u64,
    },
    /// A partition ends before what was already read: another topic has taken its name, or its
    /// brokers have lost its end.
    #[error(
        "topic {topic:?}, partition {partition}: offset {wanted} lies beyond the end, {end}: was the topic created anew?"
    )]
    OffsetBeyond {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that comes next.
        wanted: i64,
        /// Where the partition ends.
        end: i64,
    },
    /// The brokers took back the offset that comes next, and then gave it to another record.
    #[error(
        "topic {topic:?}, partition {partition}: the brokers lost what lay before offset {wanted}, and have written other records there"
    )]
    Diverged {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that comes next.
        wanted: i64,
    },
    /// Records are there, and cannot be read.
    #[error("topic {topic:?}, partition {partition}: cannot read on at offset {offset}: {reason}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that comes next.
        offset: i64,
        /// Why not.
        reason: String,
    },
    /// A record of a batch is larger than the producer or the topic takes. Its batch can never
    /// be committed.
    #[error(
        "topic {topic:?}, partition {partition}: records of up to {bytes} bytes are too large; expected less than the topic's max.message.bytes and the property message.max.bytes, and a property batch.size that does not exceed the former"
    )]
    TooLarge {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Key and value of the largest there.
        bytes: usize,
    },
    /// A later incarnation of the job has taken over.
    #[error(
        "transactional ID {id:?}: incarnation {found} of this job has taken over from incarnation {incarnation}"
    )]
    Superseded {
        /// The transactional ID.
        id: String,
        /// The one that has to go.
        incarnation: u64,
        /// The one that came later.
        found: u64,
    },
    /// Somebody else writes with the same transactional ID, under the same incarnation.
    #[error(
        "transactional ID {id:?}: somebody else has opened it under the same incarnation, {incarnation}"
    )]
    Fenced {
        /// The transactional ID.
        id: String,
        /// The incarnation.
        incarnation: u64,
    },
    /// A progress record is damaged, or of another version of the program.
    #[error("topic {topic:?}, offset {offset}: not a progress record: {reason}")]
    BadProgress {
        /// The progress topic.
        topic: String,
        /// Where in it.
        offset: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The brokers have lost batches that they had committed.
    #[error(
        "transactional ID {id:?}: the brokers have lost committed batches: the last is number {found}, expected {expected}"
    )]
    ProgressLost {
        /// The transactional ID.
        id: String,
        /// The number of the last batch that was committed.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// A batch would take progress back. The caller has dealt a shard to two workers, or sends
    /// again what is committed.
    #[error(
        "transactional ID {id:?}: a batch ends at tick {until}, but shard {shard} is committed up to tick {committed}"
    )]
    ProgressBack {
        /// The transactional ID.
        id: String,
        /// The shard.
        shard: u8,
        /// Up to where the batch goes.
        until: u64,
        /// Up to where its shard is committed.
        committed: u64,
    },
}

impl KafkaError {
    /// Whether it may go away by itself.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, KafkaError::Failed { .. })
    }

    /// The error of a call that a broker, or the lack of one, made fail.
    pub(super) fn of(doing: impl Into<String>, error: &rdkafka::error::KafkaError) -> KafkaError {
        use rdkafka::error::KafkaError as Native;
        let reason = match error {
            Native::Transaction(error) => error.string(),
            error => match error.rdkafka_error_code() {
                Some(code) => code.to_string(),
                None => error.to_string(),
            },
        };
        KafkaError::of_code(doing, error.rdkafka_error_code(), reason)
    }

    /// The same by an error code, with a text for people.
    pub(super) fn of_code(
        doing: impl Into<String>,
        code: Option<Code>,
        reason: String,
    ) -> KafkaError {
        let doing = doing.into();
        if code.is_some_and(is_refusal) {
            KafkaError::Refused { doing, reason }
        } else {
            KafkaError::Failed { doing, reason }
        }
    }
}

/// Whether a broker that says so once will say so again.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidTransactionTimeout
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidRequest
            | Code::PolicyViolation
            | Code::UnsupportedVersion
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType
            | Code::UnsupportedSASLMechanism
            | Code::SecurityDisabled
    )
}
