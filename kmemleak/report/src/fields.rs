//! The field that a word lies in, in a report's lines about words: a holder's, a step's.

use serde_json::{Map, Value};

use crate::kernel::Names;
use crate::layouts::Word;

/// What stands before the address of the object that a word lies in, before its size, before the word's offset, and before who
/// allocated the object.
const OBJECT: &str = ": object 0x";
const SIZE: &str = " (size ";
const OFFSET: &str = ")+0x";
const FROM: &str = " from ";

/// A line of text, with the field behind the word's offset; `None` if it is no such line, or the field is not known.
pub(crate) fn in_text(line: &[u8], names: &mut impl Names) -> Option<Vec<u8>> {
    let text = core::str::from_utf8(line).ok()?;
    let (_, object) = text.split_once(OBJECT)?;
    let (_, block) = object.split_once(SIZE)?;
    let (size, place) = block.split_once(OFFSET)?;
    let (offset, rest) = place.split_once(", ")?;
    let (block_type, _) = rest.split_once(FROM)?;
    let field = names.field(&Word {
        block_type,
        size: size.parse().ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
    })?;
    let at = text.len() - place.len() + offset.len();
    Some(format!("{} ({field}){}", &text[..at], &text[at..]).into_bytes())
}

/// The same for a line of JSON.
pub(crate) fn in_json(fields: &Map<String, Value>, names: &mut impl Names) -> Option<Value> {
    let kind = fields.get("kind")?.as_str()?;
    if !matches!(kind, "holder" | "step") {
        return None;
    }
    let field = names.field(&Word {
        block_type: fields.get("type")?.as_str()?,
        size: fields.get("object_size")?.as_u64()?,
        offset: fields.get("offset")?.as_u64()?,
    })?;
    Some(field.into())
}
