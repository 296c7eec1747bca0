//! The fields of types: what a word at some offset of a block is called, `Partner.other`.
//!
//! Structures and their members come from the debug information, which has them if it is full (`debug = 2` or `"full"` in a profile;
//! `"limited"` has functions alone). A block's type is a text of the crate's own reports (`Arc<kernel::Partner>`); what such a block begins
//! with, the counts of an `Arc` or an `Rc`, is known by the name of the standard library's structure.
//!
//! A name goes from member to member, from the first structure of the kernel to the last member of one: members of the standard
//! library's structures, such as the cell in a `RefCell`, say nothing to who wrote the field, and are left out at both ends. It ends where an
//! enumeration begins, whose variant is not known here.
//!
//! All structures are found once, when the first name is asked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, EndianRcSlice, EntriesTreeNode,
    RunTimeEndian, Unit, UnitOffset, UnitRef,
};

use crate::instances::dwarf_of;

type Reader = EndianRcSlice<RunTimeEndian>;

/// Members of members, and structures in namespaces, at most: damaged information may go round, or deep.
const DEEPEST: usize = 32;
/// References and qualifiers that are followed from a type to its structure.
const MOST_REFERENCES: usize = 8;
/// Crates whose members are left out at the ends of a name.
const LIBRARY: [&str; 3] = ["core::", "alloc::", "std::"];

/// An entry of the debug information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// The place of its unit.
    unit: usize,
    offset: UnitOffset,
}

/// The structures of a kernel's file.
pub(crate) struct Layouts {
    dwarf: Dwarf<Reader>,
    units: Vec<Unit<Reader>>,
    /// By their paths.
    structures: HashMap<String, Entry>,
    paths: HashMap<(usize, usize), String>,
    /// The paths that end with the same last segments.
    by_last_segments: HashMap<String, Vec<String>>,
}

/// A word of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The block's type, as a report has it: with whole paths, or with their last segments alone. Of several types with the same last
    /// segments, it must be the only one of the block's size.
    pub block_type: &'a str,
    /// Bytes of the block.
    pub size: u64,
    /// Where in it the word lies, in bytes.
    pub offset: u64,
}

/// A member of a structure.
struct Member {
    name: String,
    offset: u64,
    of: Entry,
}

impl Layouts {
    /// Of a kernel's file; `None` if it has no debug information that can be read.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let data = std::fs::read(path).ok()?;
        let file = object::File::parse(&*data).ok()?;
        let dwarf = dwarf_of(&file)?;
        let mut layouts = Self {
            units: Vec::new(),
            structures: HashMap::new(),
            paths: HashMap::new(),
            by_last_segments: HashMap::new(),
            dwarf,
        };
        let mut headers = layouts.dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let Ok(unit) = layouts.dwarf.unit(header) else {
                continue;
            };
            let mut found = Vec::new();
            let unit_ref = unit.unit_ref(&layouts.dwarf);
            // What comes before damage is used.
            let _ = find_structures(unit_ref, &mut found);
            let number = layouts.units.len();
            layouts.units.push(unit);
            for (path, offset) in found {
                let entry = Entry {
                    unit: number,
                    offset,
                };
                layouts.paths.insert((number, offset.0), path.clone());
                layouts.structures.entry(path).or_insert(entry);
            }
        }
        for path in layouts.structures.keys().filter(|path| !is_library(path)) {
            let same = layouts.by_last_segments.entry(last_segments(path));
            same.or_default().push(path.clone());
        }
        Some(layouts)
    }

    /// The field that a word lies in; `None` where there is none, or the structure is not known, or does not fit into the block.
    pub(crate) fn field(&self, word: &Word<'_>) -> Option<String> {
        let (holds, value) = Holds::of(word.block_type);
        let fits = |path: &&str| {
            self.begin(holds, path)
                .is_some_and(|(_, size)| match holds {
                    Holds::Many => word.size.is_multiple_of(size),
                    Holds::One | Holds::Counted(_) => word.size == size,
                })
        };
        let path = match self.structures.contains_key(value) {
            true => Some(value).filter(fits)?,
            false => {
                let paths = self.by_last_segments.get(value)?;
                let mut fitting = paths.iter().map(String::as_str).filter(fits);
                fitting.next().filter(|_| fitting.next().is_none())?
            }
        };
        let (entry, size) = self.begin(holds, path)?;
        self.name(entry, word.offset % size)
    }

    /// The structure that a block begins with which holds such values, and its size, which is not zero.
    fn begin(&self, holds: Holds, path: &str) -> Option<(Entry, u64)> {
        let path = match holds {
            Holds::Counted(counts) => Cow::Owned(format!("{counts}<{path}>")),
            Holds::One | Holds::Many => Cow::Borrowed(path),
        };
        let entry = *self.structures.get(&*path)?;
        let size = self.size(entry, 0).filter(|size| *size > 0)?;
        Some((entry, size))
    }

    /// The name of the byte at an offset of a structure.
    fn name(&self, structure: Entry, offset: u64) -> Option<String> {
        let (mut at, mut offset) = (structure, offset);
        // Each with whether its structure is the library's.
        let mut names: Vec<(String, bool)> = Vec::new();
        let mut first = None;
        for _ in 0..DEEPEST {
            if let Some((element, size)) = self.element(at) {
                let index = offset.checked_div(size)?;
                let is_library = names.last().is_some_and(|(_, is_library)| *is_library);
                names.push((format!("[{index}]"), is_library));
                (at, offset) = (element, offset % size);
                continue;
            }
            let Some(path) = self.paths.get(&(at.unit, at.offset.0)) else {
                break;
            };
            let is_library = is_library(path);
            let Some(member) = self.member(at, offset) else {
                break;
            };
            if !is_library && first.is_none() {
                first = Some(last_segment(path).to_owned());
                names.clear();
            }
            names.push((member.name, is_library));
            (at, offset) = (member.of, offset - member.offset);
        }
        let mut text = first?;
        let shown = names.iter().rposition(|(_, is_library)| !is_library)? + 1;
        for (name, _) in &names[..shown] {
            if !name.starts_with('[') {
                text.push('.');
            }
            text.push_str(name);
        }
        Some(text)
    }

    fn unit(&self, number: usize) -> Option<UnitRef<'_, Reader>> {
        Some(self.units.get(number)?.unit_ref(&self.dwarf))
    }

    /// The member of a structure that has the byte at an offset.
    fn member(&self, structure: Entry, offset: u64) -> Option<Member> {
        let unit = self.unit(structure.unit)?;
        let mut tree = unit.entries_tree(Some(structure.offset)).ok()?;
        let mut children = tree.root().ok()?.children();
        while let Some(child) = children.next().ok()? {
            let entry = child.entry();
            if entry.tag() != gimli::DW_TAG_member {
                continue;
            }
            let at = number_of(entry, gimli::DW_AT_data_member_location)?;
            let of = self.referred(structure.unit, entry)?;
            let size = self.size(of, 0)?;
            if offset.checked_sub(at).is_some_and(|inside| inside < size) {
                let name = text_of(unit, entry)?;
                let name = name.strip_prefix("__").unwrap_or(&name);
                return Some(Member {
                    name: name.to_owned(),
                    offset: at,
                    of,
                });
            }
        }
        None
    }

    /// What an array has, and how many bytes each has; `None` for what is no array.
    fn element(&self, of: Entry) -> Option<(Entry, u64)> {
        let entry = self.unit(of.unit)?.entry(of.offset).ok()?;
        if entry.tag() != gimli::DW_TAG_array_type {
            return None;
        }
        let element = self.referred(of.unit, &entry)?;
        Some((element, self.size(element, 0)?))
    }

    /// Bytes of a type.
    fn size(&self, of: Entry, depth: usize) -> Option<u64> {
        if depth == MOST_REFERENCES {
            return None;
        }
        let unit = self.unit(of.unit)?;
        let entry = unit.entry(of.offset).ok()?;
        if let Some(size) = number_of(&entry, gimli::DW_AT_byte_size) {
            return Some(size);
        }
        match entry.tag() {
            gimli::DW_TAG_pointer_type | gimli::DW_TAG_reference_type => {
                Some(unit.encoding().address_size.into())
            }
            gimli::DW_TAG_array_type => {
                let element = self.size(self.referred(of.unit, &entry)?, depth + 1)?;
                element.checked_mul(count_of(unit, of.offset)?)
            }
            _ => self.size(self.referred(of.unit, &entry)?, depth + 1),
        }
    }

    /// The type that an entry refers to.
    fn referred(&self, unit: usize, entry: &DebuggingInformationEntry<Reader>) -> Option<Entry> {
        match entry.attr_value(gimli::DW_AT_type)? {
            AttributeValue::UnitRef(offset) => Some(Entry { unit, offset }),
            AttributeValue::DebugInfoRef(offset) => {
                let units = self.units.iter().enumerate();
                units
                    .filter_map(|(unit, other)| {
                        let offset = offset.to_unit_offset(&other.header)?;
                        Some(Entry { unit, offset })
                    })
                    .next()
            }
            _ => None,
        }
    }
}

/// How a block holds values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// It is one.
    One,
    /// It is one behind counts: this structure of the standard library.
    Counted(&'static str),
    /// It is some, one behind the other.
    Many,
}

impl Holds {
    /// By the text of a block's type: with the type of the values.
    fn of(block_type: &str) -> (Self, &str) {
        let inside = |name: &str| block_type.strip_prefix(name)?.strip_suffix('>');
        if let Some(value) = inside("Arc<") {
            return (Self::Counted("alloc::sync::ArcInner"), value);
        }
        if let Some(value) = inside("Rc<") {
            return (Self::Counted("alloc::rc::RcInner"), value);
        }
        if let Some(value) = inside("Vec<").or_else(|| inside("VecDeque<")) {
            return (Self::Many, value);
        }
        let value = inside("Box<").unwrap_or(block_type);
        let elements = value
            .strip_prefix('[')
            .and_then(|value| value.strip_suffix(']'));
        match elements {
            Some(value) => (Self::Many, value),
            None => (Self::One, value),
        }
    }
}

/// Whether a structure is one of the standard library.
fn is_library(path: &str) -> bool {
    LIBRARY.iter().any(|library| path.starts_with(library))
}

/// A path, and those of its generic arguments, without all but their last segments.
fn last_segments(path: &str) -> String {
    let mut text = String::new();
    // Where the last segment that is still written begins.
    let mut begin = 0;
    for letter in path.chars() {
        text.push(letter);
        if text.ends_with("::") {
            text.truncate(begin);
        } else if !letter.is_alphanumeric() && !"_:{}#".contains(letter) {
            begin = text.len();
        }
    }
    text
}

/// The last segment of a path, without generic arguments.
fn last_segment(path: &str) -> &str {
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

/// The structures of a unit, with their paths.
fn find_structures(
    unit: UnitRef<'_, Reader>,
    found: &mut Vec<(String, UnitOffset)>,
) -> gimli::Result<()> {
    let mut tree = unit.entries_tree(None)?;
    find_below(unit, tree.root()?, "", DEEPEST, found)
}

/// Those below an entry whose path this is.
fn find_below(
    unit: UnitRef<'_, Reader>,
    node: EntriesTreeNode<'_, '_, Reader>,
    path: &str,
    left: usize,
    found: &mut Vec<(String, UnitOffset)>,
) -> gimli::Result<()> {
    let Some(left) = left.checked_sub(1) else {
        return Ok(());
    };
    let mut children = node.children();
    while let Some(child) = children.next()? {
        let entry = child.entry();
        let (tag, offset) = (entry.tag(), entry.offset());
        let is_structure = tag == gimli::DW_TAG_structure_type || tag == gimli::DW_TAG_union_type;
        if !is_structure && tag != gimli::DW_TAG_namespace {
            continue;
        }
        let Some(name) = text_of(unit, entry) else {
            continue;
        };
        let path = match path {
            "" => name,
            path => format!("{path}::{name}"),
        };
        let is_whole = entry.attr_value(gimli::DW_AT_declaration).is_none();
        if is_structure && is_whole {
            found.push((path.clone(), offset));
        }
        find_below(unit, child, &path, left, found)?;
    }
    Ok(())
}

fn text_of(unit: UnitRef<'_, Reader>, entry: &DebuggingInformationEntry<Reader>) -> Option<String> {
    let name = unit
        .attr_string(entry.attr_value(gimli::DW_AT_name)?)
        .ok()?;
    core::str::from_utf8(&name).ok().map(str::to_owned)
}

fn number_of(entry: &DebuggingInformationEntry<Reader>, name: gimli::DwAt) -> Option<u64> {
    entry.attr_value(name)?.udata_value()
}

/// How many elements an array has.
fn count_of(unit: UnitRef<'_, Reader>, array: UnitOffset) -> Option<u64> {
    let mut tree = unit.entries_tree(Some(array)).ok()?;
    let mut children = tree.root().ok()?.children();
    let range = children.next().ok()??;
    number_of(range.entry(), gimli::DW_AT_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_its_type_says() {
        let arc = Holds::Counted("alloc::sync::ArcInner");
        let rc = Holds::Counted("alloc::rc::RcInner");
        for (block_type, holds, value) in [
            ("kernel::Node", Holds::One, "kernel::Node"),
            ("Box<kernel::Node<u8>>", Holds::One, "kernel::Node<u8>"),
            ("Arc<kernel::Partner>", arc, "kernel::Partner"),
            ("Rc<Box<u8>>", rc, "Box<u8>"),
            ("Vec<kernel::Entry>", Holds::Many, "kernel::Entry"),
            ("Box<[kernel::Entry]>", Holds::Many, "kernel::Entry"),
        ] {
            assert_eq!(Holds::of(block_type), (holds, value));
        }
    }

    #[test]
    fn paths_are_shortened_to_their_last_segments() {
        for (path, shown) in [
            ("kernel::list::Node", "Node"),
            ("kernel::list::Node<kernel::Entry, u8>", "Node<Entry, u8>"),
            ("kernel::{impl#1}::f::Local", "Local"),
            ("Node", "Node"),
        ] {
            assert_eq!(last_segments(path), shown);
        }
        assert_eq!(last_segment("kernel::list::Node<kernel::Entry>"), "Node");
    }
}
