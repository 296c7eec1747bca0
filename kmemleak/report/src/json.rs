//! A line of JSON, with names.

use kmemleak::is_allocation_machinery;
use serde_json::Value;

use crate::block_type::TypeSoFar;
use crate::fields;
use crate::found::Found;
use crate::kernel::Names;

/// A line that was not changed, or is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unchanged {
    /// It has no addresses of code.
    Complete,
    /// It is no JSON: cut, or mixed with other output.
    Damaged,
}

/// Replaces the addresses in a line's `backtrace` by names. The addresses come into the field `addresses`, and `skipped` says how
/// many innermost frames are allocation machinery. If `type` is null and the functions tell the type, it is put there. The field `field` is
/// the one that a word lies in.
pub(crate) fn with_names(
    line: &[u8],
    names: &mut impl Names,
    found: &mut Found,
) -> Result<String, Unchanged> {
    let mut value: Value = serde_json::from_slice(line).map_err(|_| Unchanged::Damaged)?;
    let fields = value.as_object_mut().ok_or(Unchanged::Complete)?;
    let backtrace = fields.get_mut("backtrace").and_then(Value::as_array_mut);
    let backtrace = backtrace.ok_or(Unchanged::Complete)?;
    found.call_stacks += 1;
    if !backtrace.iter().any(|frame| address_of(frame).is_some()) {
        let field = fields::in_json(fields, names).ok_or(Unchanged::Complete)?;
        fields.insert("field".into(), field);
        return Ok(value.to_string());
    }
    let addresses: Vec<Value> = backtrace.clone();
    let mut skipped = None;
    let mut block_type = TypeSoFar::BEGIN;
    for (place, value) in backtrace.iter_mut().enumerate() {
        let is_machinery = match address_of(value) {
            Some(address) => {
                let frame = names.frame(address);
                found.count(address, &frame);
                block_type.add(&frame);
                if let Some(text) = frame.text() {
                    *value = Value::from(text);
                }
                frame.is_machinery
            }
            None => {
                block_type.add_unknown();
                value.as_str().is_some_and(is_allocation_machinery)
            }
        };
        if !is_machinery && skipped.is_none() {
            skipped = Some(place);
        }
    }
    if let Some(told @ Value::Null) = fields.get_mut("type")
        && let Some(text) = block_type.text()
    {
        *told = text.into();
    }
    fields.insert("skipped".into(), skipped.unwrap_or(0).into());
    fields.insert("addresses".into(), addresses.into());
    if let Some(field) = fields::in_json(fields, names) {
        fields.insert("field".into(), field);
    }
    Ok(value.to_string())
}

/// The address that a frame is, if it has no name.
fn address_of(frame: &Value) -> Option<u64> {
    let digits = frame.as_str()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}
