//! One record's way into the twin of its topic: its message under the schema of the anonymized, and
//! the pseudonym of its browser, which is its key and says its partition. For the twins of topics,
//! wherever those lie. Keeps what it knows of schemas, and nothing of a record.

use std::collections::HashMap;

use visitflow_schemas::anonymize::Anonymizer;
use visitflow_schemas::message;
use visitflow_schemas::pseudonym::{Kind, hex, text_value, year_of};
use visitflow_schemas::records::CUSTOMER_NAMED;
use visitflow_schemas::shard::Shard;
use visitflow_schemas::store::{FolderStore, SchemaStore};

use super::salts::SaltFile;
use super::{AnonymizeError, RecordProblem, TOPICS, Tagged};

const HOUR: i64 = 3_600_000;

/// What becomes of the messages of one schema.
enum Known {
    /// Their twins begin with this header.
    Anonymized {
        anonymizer: Anonymizer,
        header: Vec<u8>,
    },
    /// They have none.
    Nothing,
}

/// How to anonymize the messages of one topic.
pub(super) struct Transcoder<'a> {
    /// Whether its messages are tagged measurements.
    tagged: bool,
    store: &'a FolderStore,
    known: HashMap<u64, Known>,
}

impl<'a> Transcoder<'a> {
    /// For one of [`TOPICS`]. Schemas of the anonymized are put into `store`, in which those of the
    /// topic are found.
    pub fn new(topic: &str, store: &'a FolderStore) -> Transcoder<'a> {
        Transcoder {
            tagged: topic == TOPICS[0].0,
            store,
            known: HashMap::new(),
        }
    }

    /// Appends what becomes of a message, and returns the pseudonym of its browser, which is its
    /// key; or nothing of a message that has no twin. `wrong` says where the record is.
    pub fn run(
        &mut self,
        key: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
        salts: &mut SaltFile,
        tagged: &Tagged,
        wrong: impl Fn(RecordProblem) -> AnonymizeError,
    ) -> Result<Option<[u8; 16]>, AnonymizeError> {
        let (fingerprint, body) = message::split(value).map_err(|error| wrong(error.into()))?;
        if !self.known.contains_key(&fingerprint) {
            let known = self.learn(fingerprint, tagged)?;
            let known = known.ok_or_else(|| wrong(RecordProblem::Schema(fingerprint)))?;
            self.known.insert(fingerprint, known);
        }
        let Known::Anonymized { anonymizer, header } = &self.known[&fingerprint] else {
            return Ok(None);
        };
        let began = anonymizer
            .began(body)
            .map_err(|error| wrong(error.into()))?;
        let year = year_of(began);
        salts.ensure(year)?;
        let salt = salts.get(year).expect("ensured above");
        out.extend_from_slice(header);
        let done = anonymizer.run(salt, body, out);
        done.map_err(|error| wrong(error.into()))?;
        Ok(Some(
            salt.pseudonym(&Kind::Browser, text_value(key).as_bytes()),
        ))
    }

    /// What becomes of messages of a schema, if it is known.
    fn learn(&self, fingerprint: u64, tagged: &Tagged) -> Result<Option<Known>, AnonymizeError> {
        let anonymizer = if self.tagged {
            let schema = match tagged.known.get(&fingerprint) {
                Some(schema) => Some(schema.clone()),
                None => {
                    // The job may have met the schema since.
                    self.store.rescan()?;
                    self.store.get(fingerprint)?
                }
            };
            schema
                .map(|schema| tagged.anonymizer(&schema))
                .transpose()?
        } else {
            let schema = self.store.get(fingerprint)?;
            // By its name, whatever version of it.
            let of_customers = &CUSTOMER_NAMED.record().name;
            if schema
                .as_ref()
                .is_some_and(|schema| schema.record().name == *of_customers)
            {
                return Ok(Some(Known::Nothing));
            }
            schema
                .map(|schema| Anonymizer::of_record(&schema))
                .transpose()?
        };
        let Some(anonymizer) = anonymizer else {
            return Ok(None);
        };
        self.store.put(anonymizer.anonymous())?;
        let mut header = vec![];
        message::write_header(anonymizer.anonymous().fingerprint(), &mut header);
        Ok(Some(Known::Anonymized { anonymizer, header }))
    }
}

/// The partition of a browser's records in a twin, by its pseudonym.
pub(super) fn partition(browser: [u8; 16], partitions: usize) -> usize {
    Shard::of(&hex(browser)).partition(partitions as u32) as usize
}

/// All that a record of a twin says of its time: the hour in which its tick lies.
pub(super) fn hour(tick: u64) -> i64 {
    (tick as i64).div_euclid(HOUR) * HOUR
}
