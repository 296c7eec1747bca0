//! The records of a kernel's reports: lines of JSON that stand in its serial log among anything else.
//!
//! A record may stand behind a prompt, escape sequences, carriage returns or a time; it goes to the end of its line. Fields and
//! kinds that are not known here are passed over, as `kmemleak/FORMATS.md` asks of readers. That file also says what each field
//! means.

use std::fmt::{self, Display, Formatter};

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};

/// What a record of this schema begins with.
const SCHEMA: &[u8] = b"{\"schema\":2,";
/// What a record of any schema begins with.
const ANY_SCHEMA: &[u8] = b"{\"schema\":";

/// An address in the kernel. JSON has it as text: `"0x"` and hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

/// The checksum of a call stack, which identifies it. JSON has it as text of eight hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Crc(pub u32);

/// One record.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the kind of its record")]
pub enum Record {
    Group(Group),
    Object(Object),
    Summary(Summary),
    Site(Site),
    Sites(SitesEnd),
    LiveObject(LiveObject),
    LiveObjects(LiveObjectsEnd),
    Interior(Interior),
    Interiors(InteriorsEnd),
    Stack(Stack),
    Node(Node),
    Root(Root),
    Edges(Edges),
    Snapshot(SnapshotEnd),
    Error(ErrorRecord),
    /// A kind that is of no use here.
    #[serde(other)]
    Unknown,
}

/// Why a line has no record that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The record is cut, or mixed with other output.
    Damaged,
    /// It is of another version of the schema.
    OtherSchema,
}

impl Record {
    /// The record of a line; `None` where the line has none.
    pub fn of_line(line: &[u8]) -> Option<Result<Self, Unreadable>> {
        let at = find(line, ANY_SCHEMA)?;
        let record = line[at..].trim_ascii_end();
        if !record.starts_with(SCHEMA) {
            let number = &record[ANY_SCHEMA.len()..];
            let digits = number.iter().take_while(|byte| byte.is_ascii_digit());
            let is_whole = number.get(digits.count()) == Some(&b',') && record.ends_with(b"}");
            return Some(Err(match is_whole {
                true => Unreadable::OtherSchema,
                false => Unreadable::Damaged,
            }));
        }
        Some(serde_json::from_slice(record).map_err(|_| Unreadable::Damaged))
    }
}

fn find(line: &[u8], what: &[u8]) -> Option<usize> {
    // A record has a brace, most other lines have none.
    let first = line.iter().position(|byte| *byte == what[0])?;
    let found = line[first..].windows(what.len());
    let mut found = found.enumerate().filter(|(_, window)| *window == what);
    found.next().map(|(at, _)| first + at)
}

/// Leaks, or suspects, that one call stack allocated.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct Group {
    pub objects: u64,
    pub bytes: u64,
    pub leaders: u64,
    pub leader_bytes: u64,
    pub owned_objects: u64,
    pub owned_bytes: u64,
    pub oldest_age_us: u64,
    pub newest_age_us: u64,
    #[serde(flatten)]
    pub stack: Stack,
}

/// A leak, or a suspect.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct Object {
    pub address: Address,
    pub size: u64,
    #[serde(default)]
    pub birth_us: u64,
    #[serde(default)]
    pub task: u64,
    #[serde(default)]
    pub comm: String,
    #[serde(default)]
    pub cpu: u64,
    #[serde(default)]
    pub interrupt: bool,
    #[serde(default)]
    pub age_us: u64,
    pub rank: Option<Rank>,
    pub leader: Option<Address>,
    pub owned_objects: Option<u64>,
    pub owned_bytes: Option<u64>,
    #[serde(default)]
    pub suspect: bool,
    #[serde(default)]
    pub reported: bool,
    pub freed: Option<bool>,
    pub dump: Option<String>,
    #[serde(flatten)]
    pub stack: Stack,
}

/// Whether a leak stands for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rank {
    /// No other leak points to it.
    Leader,
    /// It was lost with its leader.
    Owned,
}

/// The verdict.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct Summary {
    pub how: String,
    pub passes: u64,
    pub reason: Option<String>,
    pub settled: bool,
    pub objects: u64,
    pub bytes: u64,
    pub suspects: u64,
    pub suspect_bytes: u64,
    pub leaders: Option<u64>,
    pub leader_bytes: u64,
    pub groups: Option<u64>,
    pub unreported_objects: u64,
    pub unreported_bytes: u64,
    pub new_objects: Option<u64>,
    pub new_bytes: Option<u64>,
    pub suppressed_objects: u64,
    pub suppressed_bytes: u64,
    pub tracked: u64,
    pub words: u64,
    pub took_us: u64,
    pub stopped_us: u64,
    pub cpus: u64,
    pub unread: u64,
    pub in_flight: u64,
    pub in_sections: u64,
    pub stacks: bool,
    pub unrecorded: u64,
    pub missing_bytes: u64,
    pub no_call_stacks: Option<String>,
}

/// A call stack, and what is alive of what it allocated.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct Site {
    pub bytes: u64,
    pub objects: u64,
    pub growth_bytes: Option<i64>,
    pub growth_objects: Option<i64>,
    pub history: Vec<u64>,
    pub trend: Option<String>,
    #[serde(flatten)]
    pub stack: Stack,
}

/// The end of the call sites.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct SitesEnd {
    pub shown: u64,
    pub total: u64,
    pub by: String,
    pub complete: bool,
    pub no_call_stacks: Option<String>,
}

/// An object that is alive.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct LiveObject {
    pub address: Address,
    pub size: u64,
    #[serde(default)]
    pub birth_us: u64,
    #[serde(default)]
    pub age_us: u64,
    #[serde(default)]
    pub task: u64,
    #[serde(default)]
    pub comm: String,
    pub colour: Option<String>,
    #[serde(default)]
    pub freed: bool,
    #[serde(flatten)]
    pub stack: Stack,
}

/// The end of the live objects.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct LiveObjectsEnd {
    pub shown: u64,
    pub total: u64,
    pub bytes: u64,
    pub complete: bool,
}

/// An object that is alive through interior pointers only.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct Interior {
    pub address: Address,
    pub size: u64,
    pub task: Option<u64>,
    pub comm: Option<String>,
    #[serde(flatten)]
    pub stack: Stack,
}

/// The end of the objects that are alive through interior pointers only.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "FORMATS.md describes the fields")]
pub struct InteriorsEnd {
    pub objects: u64,
    pub bytes: u64,
}

/// A call stack: of a snapshot, or as part of another record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stack {
    /// Its checksum; null where there is no call stack.
    pub crc: Option<Crc>,
    /// How many innermost frames are allocation machinery.
    pub skipped: Option<usize>,
    /// Its frames, innermost first.
    pub backtrace: Option<Vec<String>>,
}

impl Stack {
    /// The frames that are not allocation machinery, innermost first.
    pub fn shown(&self) -> &[String] {
        let frames = self.backtrace.as_deref().unwrap_or_default();
        let skipped = self.skipped.unwrap_or(0);
        frames.get(skipped..).unwrap_or(frames)
    }
}

/// An object of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// Its number: from 1 on, in the order of addresses.
    pub id: u32,
    /// Its address.
    pub address: Address,
    /// Its bytes.
    pub size: u64,
    /// When it was allocated, in microseconds of the kernel's clock.
    #[serde(default)]
    pub birth_us: u64,
    /// The task that allocated it.
    #[serde(default)]
    pub task: u64,
    /// Name of that task.
    #[serde(default)]
    pub comm: Box<str>,
    /// The call stack that allocated it.
    pub crc: Option<Crc>,
    /// Whether the last verdict lists it.
    #[serde(default)]
    pub leak: bool,
}

/// A word of a root that points to a node; or that a node counts as a root, being declared to be no leak.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Root {
    /// Name of the root, and where in it.
    pub name: Box<str>,
    /// Address of the word; null for a node that counts as a root.
    pub slot: Option<Address>,
    /// Number of the node.
    pub to: u32,
    /// Where in the node the word points, in bytes.
    #[serde(default)]
    pub offset: u64,
}

/// Words of a node that point to nodes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Edges {
    /// Number of the node that the words lie in.
    pub from: u32,
    /// The words.
    pub words: Vec<Word>,
}

/// A word of a node that points to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "(u64, u32, u64)")]
pub struct Word {
    /// Where it lies in its node, in bytes.
    pub offset: u64,
    /// Number of the node that it points to.
    pub to: u32,
    /// Where in that node it points, in bytes.
    pub into: u64,
}

impl From<(u64, u32, u64)> for Word {
    fn from((offset, to, into): (u64, u32, u64)) -> Self {
        Self { offset, to, into }
    }
}

/// The end of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SnapshotEnd {
    /// How many nodes there are.
    pub nodes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many words of nodes point to nodes.
    pub edges: u64,
    /// How many words of roots do, and nodes that count as roots.
    pub roots: u64,
    /// False where memory was too short for all of it.
    pub complete: bool,
    /// Whether the world was stopped.
    #[serde(default)]
    pub stopped: bool,
    /// When it was taken, in microseconds of the kernel's clock.
    #[serde(default)]
    pub at_us: u64,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorRecord {
    /// In words.
    pub error: String,
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl Display for Crc {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Crc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x");
        let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let wrong = || D::Error::custom(format!("not an address: {text}"));
        address.map(Self).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Crc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let crc = u32::from_str_radix(&text, 16).ok();
        let wrong = || D::Error::custom(format!("not the checksum of a call stack: {text}"));
        crc.map(Self).ok_or_else(wrong)
    }
}
