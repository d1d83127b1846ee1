//! A folder of schemas that grows while the job runs.

use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::{FolderStore, SchemaStore, StoreError};

/// A folder of schemas that grows while the job runs: what is not known is looked for in the folder.
/// The intake asks for what was missing once a second at most.
pub struct Growing(pub FolderStore);

impl SchemaStore for Growing {
    fn get(&self, fingerprint: u64) -> Result<Option<Schema>, StoreError> {
        if let Some(schema) = self.0.get(fingerprint)? {
            return Ok(Some(schema));
        }
        // A file that is still being written, or holds no schema, hides none of the others and
        // must not end the job.
        let _ = self.0.rescan();
        self.0.get(fingerprint)
    }

    fn put(&self, schema: &Schema) -> Result<(), StoreError> {
        self.0.put(schema)
    }

    fn all(&self) -> Result<Vec<Schema>, StoreError> {
        self.0.all()
    }
}
