//! Defaults: a schema says them in JSON, a body has them in Avro's binary form. They are turned
//! once, when a program is made, and then read like any other value.

use serde_json::Value;

use crate::encode;
use crate::schema::{Kind, Type};

/// Appends what `json` stands for as a value of `ty`; false if it stands for none.
///
/// As the specification has it: the letters of a default for bytes are its bytes (U+0000 to U+00FF),
/// a default for a union is one for the first of its branches that takes it, and a field that a
/// record's default does not name takes its own.
pub(super) fn encode_default(json: &Value, ty: &Type, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let done = encode(json, ty, out);
    if done.is_none() {
        out.truncate(before);
    }
    done.is_some()
}

fn encode(json: &Value, ty: &Type, out: &mut Vec<u8>) -> Option<()> {
    match &ty.kind {
        Kind::Null => json.as_null()?,
        Kind::Boolean => out.push(json.as_bool()?.into()),
        Kind::Int => encode::long(i32::try_from(json.as_i64()?).ok()?.into(), out),
        Kind::Long => encode::long(json.as_i64()?, out),
        Kind::Float => out.extend_from_slice(&(json.as_f64()? as f32).to_le_bytes()),
        Kind::Double => out.extend_from_slice(&json.as_f64()?.to_le_bytes()),
        Kind::Bytes => encode::bytes(&bytes(json)?, out),
        Kind::String => encode::bytes(json.as_str()?.as_bytes(), out),
        Kind::Fixed(fixed) => {
            let bytes = bytes(json)?;
            (bytes.len() == fixed.size).then_some(())?;
            out.extend_from_slice(&bytes);
        }
        Kind::Enum(e) => {
            let symbol = json.as_str()?;
            encode::long(e.symbols.iter().position(|s| s == symbol)? as i64, out);
        }
        Kind::Array(item) => {
            let items = json.as_array()?;
            if !items.is_empty() {
                encode::long(items.len() as i64, out);
                items.iter().try_for_each(|json| encode(json, item, out))?;
            }
            out.push(0);
        }
        Kind::Map(value) => {
            let entries = json.as_object()?;
            if !entries.is_empty() {
                encode::long(entries.len() as i64, out);
                for (key, json) in entries {
                    encode::bytes(key.as_bytes(), out);
                    encode(json, value, out)?;
                }
            }
            out.push(0);
        }
        Kind::Union(branches) => {
            let before = out.len();
            for (index, branch) in branches.iter().enumerate() {
                encode::long(index as i64, out);
                if encode(json, branch, out).is_some() {
                    return Some(());
                }
                out.truncate(before);
            }
            return None;
        }
        Kind::Record(record) => {
            let values = json.as_object()?;
            for field in &record.fields {
                let json = values.get(&field.name).or(field.default.as_ref())?;
                encode(json, &field.ty, out)?;
            }
        }
    }
    Some(())
}

fn bytes(json: &Value) -> Option<Vec<u8>> {
    json.as_str()?
        .chars()
        .map(|letter| u8::try_from(u32::from(letter)).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use serde_json::json;

    fn default(ty: Value, default: Value) -> Option<Vec<u8>> {
        let schema = json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": ty}]});
        let schema = Schema::from_json(schema).unwrap();
        let mut out = vec![9];
        let done = encode_default(&default, &schema.record().fields[0].ty, &mut out);
        assert_eq!(out.remove(0), 9);
        assert!(done || out.is_empty());
        done.then_some(out)
    }

    #[test]
    fn the_letters_of_bytes_are_bytes() {
        let fixed = json!({"type": "fixed", "name": "F", "size": 2});
        assert_eq!(
            default(json!("bytes"), json!("\u{ff}A")),
            Some(vec![4, 0xFF, b'A'])
        );
        assert_eq!(
            default(fixed.clone(), json!("\u{ff}A")),
            Some(vec![0xFF, b'A'])
        );
        assert_eq!(default(fixed, json!("A")), None);
        assert_eq!(default(json!("bytes"), json!("\u{100}")), None);
    }

    #[test]
    fn a_union_takes_its_first_branch_that_fits() {
        let union = json!(["null", "int", "long"]);
        assert_eq!(default(union.clone(), json!(null)), Some(vec![0]));
        assert_eq!(default(union.clone(), json!(1)), Some(vec![2, 2]));
        assert_eq!(default(union.clone(), json!(1_u64 << 40)).unwrap()[0], 4);
        assert_eq!(default(union, json!("a")), None);
    }

    #[test]
    fn a_record_fills_what_its_default_leaves_out() {
        let record = json!({"type": "record", "name": "S", "fields": [
            {"name": "x", "type": "int"}, {"name": "y", "type": {"type": "array", "items": "int"}, "default": [5]}]});
        assert_eq!(
            default(record.clone(), json!({"x": 1})),
            Some(vec![2, 2, 10, 0])
        );
        assert_eq!(default(record, json!({"y": []})), None);
    }
}
