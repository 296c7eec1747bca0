//! The functions at an address, each with its generic arguments: what a block is can be told by them (`kmemleak::TypeSearch`).
//!
//! A function's path comes from its name for the linker, the arguments from its name in the source (`DW_AT_name`:
//! `new<kernel::task::Task>`). A function that was inlined, and one that was compiled by itself, refer to an entry that says what
//! they have in common; that one has the name, and may lie in another compilation unit.
//!
//! A name for the linker of the newer kind (`v0`) has all arguments itself. So none are added to it.
//!
//! The sections are read a second time: `addr2line::Loader`, which knows lines and inlined functions, does not tell in which unit an
//! entry lies. Files of split debug information, and those that were not linked, have no arguments here.

use std::borrow::Cow;
use std::rc::Rc;

use addr2line::Context;
use gimli::{
    AttributeValue, DebugInfoOffset, Dwarf, EndianRcSlice, RunTimeEndian, SectionId, Unit,
    UnitOffset, UnitRef,
};
use object::{Object, ObjectKind, ObjectSection};

type Reader = EndianRcSlice<RunTimeEndian>;

/// References that are followed from an entry to the one with the name. Two are usual; damaged information may go round.
const MOST_REFERENCES: usize = 8;

/// The debug information of a kernel's file, as far as it has arguments.
pub(crate) struct Instances(Context<Reader>);

/// The debug information of a file that was linked; `None` where it can't be read.
pub(crate) fn dwarf_of(file: &object::File<'_>) -> Option<Dwarf<Reader>> {
    if file.kind() == ObjectKind::Relocatable {
        return None;
    }
    let endian = match file.is_little_endian() {
        true => RunTimeEndian::Little,
        false => RunTimeEndian::Big,
    };
    let load = |id: SectionId| -> Result<Reader, object::Error> {
        let section = file.section_by_name(id.name());
        let data = section.map(|section| section.uncompressed_data());
        let data = data.transpose()?.unwrap_or(Cow::Borrowed(&[]));
        Ok(Reader::new(Rc::from(&*data), endian))
    };
    Dwarf::load(load).ok()
}

impl Instances {
    /// Of a file; `None` where its debug information has none, or can't be read.
    pub(crate) fn of(file: &object::File<'_>) -> Option<Self> {
        Context::from_dwarf(dwarf_of(file)?).ok().map(Self)
    }

    /// The unit that has the functions at an address of the file.
    pub(crate) fn unit(&self, address: u64) -> Option<UnitOfAddress<'_>> {
        let unit = self.0.find_dwarf_and_unit(address).skip_all_loads()?;
        // An entry that is told of such an address lies in another file.
        unit.dwo_id.is_none().then_some(UnitOfAddress(unit))
    }
}

/// The compilation unit that an address belongs to.
pub(crate) struct UnitOfAddress<'a>(UnitRef<'a, Reader>);

impl UnitOfAddress<'_> {
    /// The name in the source of the function that an entry stands for.
    fn name(&self, entry: UnitOffset) -> Option<String> {
        name_in(self.0, entry, MOST_REFERENCES)
    }
}

fn name_in(unit: UnitRef<'_, Reader>, entry: UnitOffset, left: usize) -> Option<String> {
    let left = left.checked_sub(1)?;
    let entry = unit.entry(entry).ok()?;
    if let Some(name) = entry.attr_value(gimli::DW_AT_name) {
        let name = unit.attr_string(name).ok()?;
        return core::str::from_utf8(&name).ok().map(str::to_owned);
    }
    let origin = entry.attr_value(gimli::DW_AT_abstract_origin);
    match origin.or_else(|| entry.attr_value(gimli::DW_AT_specification))? {
        AttributeValue::UnitRef(entry) => name_in(unit, entry, left),
        AttributeValue::DebugInfoRef(offset) => {
            let (other, entry) = elsewhere(unit.dwarf, offset)?;
            name_in(other.unit_ref(unit.dwarf), entry, left)
        }
        _ => None,
    }
}

/// An entry of any unit.
fn elsewhere(dwarf: &Dwarf<Reader>, offset: DebugInfoOffset) -> Option<(Unit<Reader>, UnitOffset)> {
    let mut headers = dwarf.units();
    while let Some(header) = headers.next().ok()? {
        if let Some(entry) = offset.to_unit_offset(&header) {
            return Some((dwarf.unit(header).ok()?, entry));
        }
    }
    None
}

/// Whether the linker gave several functions of equal code one place: then their arguments are those of any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Own,
    Shared,
}

/// A function as it is demangled, with its arguments: as `kmemleak::TypeSearch` takes it.
pub(crate) fn instance(
    mangled: &str,
    demangled: &str,
    unit: Option<&UnitOfAddress<'_>>,
    entry: Option<UnitOffset>,
    start: Start,
) -> String {
    let has_arguments = mangled.starts_with("_R");
    match start {
        Start::Shared if has_arguments => without_arguments(demangled),
        Start::Own if !has_arguments => {
            let name = unit.zip(entry).and_then(|(unit, entry)| unit.name(entry));
            let arguments = name.as_deref().and_then(arguments_of).unwrap_or_default();
            format!("{demangled}{arguments}")
        }
        _ => demangled.to_owned(),
    }
}

/// The generic arguments behind a function's name in the source, with their brackets.
fn arguments_of(name: &str) -> Option<&str> {
    name.find('<').map(|at| &name[at..])
}

/// A name without what stands in brackets, but the pair that begins it: `<alloc::vec::Vec>::push` of `<alloc::vec::Vec<u8>>::push`.
fn without_arguments(name: &str) -> String {
    let mut kept = usize::from(name.starts_with('<'));
    let (mut depth, mut before) = (0_usize, ' ');
    let mut bare = String::new();
    for letter in name.chars() {
        depth += usize::from(letter == '<');
        if depth <= kept {
            bare.push(letter);
        }
        // `->` is of a function's type.
        if letter == '>' && before != '-' {
            depth = depth.saturating_sub(1);
            kept = kept.min(depth);
        }
        before = letter;
    }
    bare.replace("::::", "::").trim_end_matches("::").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_newer_kind_have_their_arguments() {
        let mangled = "_RNvMNtC5alloc5boxedINtB2_3BoxpE3new";
        let demangled = "<alloc::boxed::Box<kernel::X<u8>>>::new::<fn() -> u8>";
        for (start, expected) in [
            (Start::Own, demangled),
            (Start::Shared, "<alloc::boxed::Box>::new"),
        ] {
            assert_eq!(instance(mangled, demangled, None, None, start), expected);
        }
        for name in [
            "kernel::f",
            "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
        ] {
            assert_eq!(without_arguments(name), name);
        }
        assert_eq!(without_arguments("kernel::f::<u8>::g"), "kernel::f::g");
    }

    #[test]
    fn arguments_are_those_behind_the_name() {
        assert_eq!(arguments_of("new<kernel::X<u8>>"), Some("<kernel::X<u8>>"));
        assert_eq!(arguments_of("new"), None);
        let older = "alloc::boxed::Box<T>::new";
        for start in [Start::Own, Start::Shared] {
            assert_eq!(instance("_ZN5alloc", older, None, None, start), older);
        }
    }
}
