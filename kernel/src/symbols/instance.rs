//! The name of a function in the source, with its generic arguments, from the debug information: `new<kernel::task::Task>`.
//!
//! A function that was inlined, and one that was compiled by itself, refer to an entry that says what they have in common; that one
//! has the name. It may lie in another compilation unit.

use addr2line::gimli::{
    self, AttributeValue, DebugInfoOffset, EndianSlice, LittleEndian, UnitOffset, UnitRef,
};

/// How debug information is read: in place.
pub(super) type Reader = EndianSlice<'static, LittleEndian>;

/// References that are followed from an entry to the one with the name. Two are usual; damaged information may go round.
const MOST_REFERENCES: usize = 8;

/// The name of the function that an entry of this unit stands for. Runs confined.
pub(super) fn name(unit: &UnitRef<'_, Reader>, entry: UnitOffset) -> Option<&'static str> {
    name_in(unit, entry, MOST_REFERENCES)
}

fn name_in(unit: &UnitRef<'_, Reader>, entry: UnitOffset, left: usize) -> Option<&'static str> {
    let left = left.checked_sub(1)?;
    let entry = unit.entry(entry).ok()?;
    if let Some(name) = entry.attr_value(gimli::DW_AT_name) {
        return core::str::from_utf8(unit.attr_string(name).ok()?.slice()).ok();
    }
    let origin = entry.attr_value(gimli::DW_AT_abstract_origin);
    match origin.or_else(|| entry.attr_value(gimli::DW_AT_specification))? {
        AttributeValue::UnitRef(entry) => name_in(unit, entry, left),
        AttributeValue::DebugInfoRef(offset) => name_elsewhere(unit, offset, left),
        _ => None,
    }
}

/// Of an entry of any unit.
fn name_elsewhere(
    unit: &UnitRef<'_, Reader>,
    offset: DebugInfoOffset,
    left: usize,
) -> Option<&'static str> {
    let mut headers = unit.dwarf.units();
    while let Some(header) = headers.next().ok()? {
        if let Some(entry) = offset.to_unit_offset(&header) {
            let other = unit.dwarf.unit(header).ok()?;
            return name_in(&other.unit_ref(unit.dwarf), entry, left);
        }
    }
    None
}
