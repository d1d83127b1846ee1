//! Every schema's columns can be written to Parquet and come back the same, types and all.

#[allow(dead_code)]
#[path = "../schemas/tests/arbitrary/mod.rs"]
mod arbitrary;

use arbitrary::seen::rows;
use arbitrary::{Maker, Ty};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use visitflow_schemas::columns::{Columns, Ids};
use visitflow_schemas::resolve::identity;
use visitflow_schemas::schema::Schema;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn columns_come_back_from_parquet(seed: u64, fields in 1..8_usize, count in 1..20_usize) {
        let mut maker = Maker::new(seed);
        let record = maker.record(fields, 3);
        let schema = Schema::from_json(arbitrary::schema_json(&record)).unwrap();
        let mut columns = Columns::new(&schema, Ids::Binary).unwrap();
        if columns.schema().fields().is_empty() {
            return Ok(());
        }
        let program = columns.program(&identity(&schema)).unwrap();
        let ty = Ty::Record(record);
        for _ in 0..count {
            let mut body = vec![];
            let val = maker.value(&ty);
            maker.encode(&val, &ty, &mut body);
            columns.append(&program, &body).unwrap();
        }
        let batch = columns.finish();
        let mut writer = ArrowWriter::try_new(tempfile::tempfile().unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let file = writer.into_inner().unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let back = reader.next().unwrap().unwrap();
        prop_assert_eq!(back.schema(), batch.schema());
        prop_assert_eq!(rows(&back), rows(&batch));
    }
}
