//! What a kernel's serial log tells: its last report, its last list of call sites, its last snapshot.
//!
//! Records of one answer stand together in the log and end with the record that has their sums. So records are kept until that
//! comes. If the next answer begins before, the one before is cut, and is dropped. A later answer replaces an earlier one.

use std::io::{self, BufRead, BufReader, Read, Write};

use crate::records::{
    Edges, Group, Interior, LiveObject, Node, Object, Record, Root, Site, SitesEnd, SnapshotEnd,
    Stack, Summary, Unreadable,
};

/// The last report: the verdict, and what it lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// By call stack; empty in an answer of `new`.
    pub groups: Vec<Group>,
    /// One by one: leaders, or all.
    pub objects: Vec<Object>,
    /// The sums.
    pub summary: Summary,
}

/// The last list of call sites.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sites {
    /// In the order that was asked for.
    pub sites: Vec<Site>,
    /// The sums.
    pub end: SitesEnd,
}

/// The last snapshot of the heap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The call stacks that allocated the nodes.
    pub stacks: Vec<Stack>,
    /// The objects.
    pub nodes: Vec<Node>,
    /// Words of roots that point to nodes, and nodes that count as roots.
    pub roots: Vec<Root>,
    /// Words of nodes.
    pub edges: Vec<Edges>,
    /// The sums.
    pub end: SnapshotEnd,
}

/// What a log tells.
///
/// Lines come by [`Log::read`], or are written to it.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The last answer of `scan`, `report` or `new`.
    pub report: Option<Report>,
    /// The last answer of `sites`.
    pub sites: Option<Sites>,
    /// The last answer of `objects`, or the objects of `site`.
    pub live_objects: Vec<LiveObject>,
    /// The last answer of `interior`.
    pub interiors: Vec<Interior>,
    /// The last answer of `snapshot`.
    pub snapshot: Option<Snapshot>,
    /// What could not be answered, and why.
    pub errors: Vec<String>,
    /// Records that were read, of any kind.
    pub records: u64,
    /// Lines with a record that is cut, or mixed with other output.
    pub damaged: u64,
    /// Records of another version of the schema.
    pub other_schema: u64,
    /// Answers that ended before their last record.
    pub cut: u64,
    coming: Coming,
    /// The beginning of a line whose end has not been written yet.
    line: Vec<u8>,
}

/// Records of an answer whose end has not come yet.
#[derive(Clone, Debug, Default)]
enum Coming {
    #[default]
    None,
    Report(Box<Report>),
    Sites(Vec<Site>),
    LiveObjects(Vec<LiveObject>),
    Interiors(Vec<Interior>),
    Snapshot(Box<Snapshot>),
}

impl Log {
    /// Reads a log to its end.
    pub fn read(log: impl Read) -> io::Result<Self> {
        let mut read = Self::default();
        let mut log = BufReader::with_capacity(1 << 16, log);
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line)? > 0 {
            read.line(&line);
            line.clear();
        }
        read.finish();
        Ok(read)
    }

    /// Takes what was written as complete: the last line needs no end, and an answer that has not ended is cut.
    pub fn finish(&mut self) {
        let last = std::mem::take(&mut self.line);
        self.line(&last);
        self.drop_coming();
    }

    /// A line, with its end or without.
    fn line(&mut self, line: &[u8]) {
        match Record::of_line(line) {
            None => {}
            Some(Ok(record)) => {
                self.records += 1;
                self.record(record);
            }
            Some(Err(Unreadable::Damaged)) => self.damaged += 1,
            Some(Err(Unreadable::OtherSchema)) => self.other_schema += 1,
        }
    }

    fn record(&mut self, record: Record) {
        match record {
            // Groups come before objects.
            Record::Group(group) => {
                if matches!(&self.coming, Coming::Report(report) if !report.objects.is_empty()) {
                    self.drop_coming();
                }
                self.coming_report().groups.push(group);
            }
            Record::Object(object) => self.coming_report().objects.push(object),
            Record::Summary(summary) => {
                let report = std::mem::take(self.coming_report());
                self.coming = Coming::None;
                self.report = Some(Report { summary, ..report });
            }
            Record::Site(site) => self.coming_sites().push(site),
            Record::Sites(end) => {
                let sites = std::mem::take(self.coming_sites());
                self.coming = Coming::None;
                self.sites = Some(Sites { sites, end });
            }
            Record::LiveObject(object) => self.coming_live_objects().push(object),
            Record::LiveObjects(_) => {
                self.live_objects = std::mem::take(self.coming_live_objects());
                self.coming = Coming::None;
            }
            Record::Interior(object) => self.coming_interiors().push(object),
            Record::Interiors(_) => {
                self.interiors = std::mem::take(self.coming_interiors());
                self.coming = Coming::None;
            }
            Record::Stack(stack) => self.coming_snapshot().stacks.push(stack),
            Record::Node(node) => self.coming_snapshot().nodes.push(node),
            Record::Root(root) => self.coming_snapshot().roots.push(root),
            Record::Edges(edges) => self.coming_snapshot().edges.push(edges),
            Record::Snapshot(end) => {
                let snapshot = std::mem::take(self.coming_snapshot());
                self.coming = Coming::None;
                self.snapshot = Some(Snapshot { end, ..snapshot });
            }
            Record::Error(error) => {
                self.drop_coming();
                self.errors.push(error.error);
            }
            Record::Unknown => {}
        }
    }

    /// Drops an answer that has not ended.
    fn drop_coming(&mut self) {
        // The call site of `site` stands before the objects, without an end of its own.
        match std::mem::take(&mut self.coming) {
            Coming::None => {}
            Coming::Sites(sites) if sites.len() == 1 => {}
            _ => self.cut += 1,
        }
    }
}

/// The records of a kind that have come, after those of another kind were dropped.
macro_rules! coming {
    ($name:ident, $variant:ident, $type:ty) => {
        fn $name(&mut self) -> &mut $type {
            if !matches!(self.coming, Coming::$variant(_)) {
                self.drop_coming();
                self.coming = Coming::$variant(Default::default());
            }
            match &mut self.coming {
                Coming::$variant(records) => records,
                _ => unreachable!("it has just been made so"),
            }
        }
    };
}

impl Log {
    coming!(coming_report, Report, Report);
    coming!(coming_sites, Sites, Vec<Site>);
    coming!(coming_live_objects, LiveObjects, Vec<LiveObject>);
    coming!(coming_interiors, Interiors, Vec<Interior>);
    coming!(coming_snapshot, Snapshot, Snapshot);
}

/// What is written is read line by line.
impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            if self.line.is_empty() {
                self.line(line);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend(line);
                self.line(&whole);
            }
            rest = after;
        }
        self.line.extend(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
