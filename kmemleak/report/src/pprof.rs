//! Call stacks in the format of pprof: `profile.proto`, compressed. `go tool pprof` and speedscope open it.
//!
//! Each call stack is a sample with four values, which have the names that Go gives those of its heap profiles where there are
//! such: `lost_objects`, `lost_space`, `inuse_objects`, `inuse_space`. The tools show the first space that they are asked for; the
//! default is `lost_space` if anything is lost.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use crate::function::functions_of;
use crate::usage::Usage;

/// As far as it is used here; the numbers are those of `profile.proto`.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    /// More than one if functions were inlined; innermost first.
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// A profile that is being made, and which texts, functions and frames it has.
struct Builder<'a> {
    profile: Profile,
    texts: HashMap<&'a str, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<&'a str, u64>,
}

impl<'a> Builder<'a> {
    fn new() -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            texts: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        // The first text is empty.
        builder.text("");
        builder
    }

    fn text(&mut self, text: &'a str) -> i64 {
        let table = &mut self.profile.string_table;
        let number = self.texts.entry(text).or_insert_with(|| {
            table.push(text.to_owned());
            table.len() as i64 - 1
        });
        *number
    }

    fn function(&mut self, name: &'a str, file: &'a str) -> u64 {
        let (name, filename) = (self.text(name), self.text(file));
        let functions = &mut self.profile.function;
        let number = self.functions.entry((name, filename)).or_insert_with(|| {
            let id = functions.len() as u64 + 1;
            functions.push(Function { id, name, filename });
            id
        });
        *number
    }

    fn location(&mut self, frame: &'a str) -> u64 {
        if let Some(number) = self.locations.get(frame) {
            return *number;
        }
        let functions = functions_of(frame).into_iter();
        let line = functions.map(|function| Line {
            function_id: self.function(function.name, function.file.unwrap_or("")),
            line: function.line.unwrap_or(0).into(),
        });
        let line = line.collect();
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, line });
        self.locations.insert(frame, id);
        id
    }

    fn sample(&mut self, usage: &'a Usage) {
        let frames = usage.stack.shown().iter();
        let mut location_id: Vec<_> = frames.map(|frame| self.location(frame)).collect();
        if location_id.is_empty() {
            location_id.push(self.location("(no call stack)"));
        }
        let (lost, in_use) = (usage.lost, usage.in_use());
        let value = [lost.objects, lost.bytes, in_use.objects, in_use.bytes];
        self.profile.sample.push(Sample {
            location_id,
            value: value.map(|value| value as i64).into(),
        });
    }
}

/// Writes what each call stack has allocated.
pub fn write(usages: &[Usage], out: &mut dyn Write) -> io::Result<()> {
    let mut builder = Builder::new();
    for (kind, unit) in [
        ("lost_objects", "count"),
        ("lost_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ] {
        let (kind, unit) = (builder.text(kind), builder.text(unit));
        builder.profile.sample_type.push(ValueType { kind, unit });
    }
    usages.iter().for_each(|usage| builder.sample(usage));
    let is_anything_lost = usages.iter().any(|usage| usage.lost.objects > 0);
    let default = if is_anything_lost {
        "lost_space"
    } else {
        "inuse_space"
    };
    builder.profile.default_sample_type = builder.text(default);
    let mut compressed = GzEncoder::new(out, Compression::default());
    compressed.write_all(&builder.profile.encode_to_vec())?;
    compressed.finish().map(drop)
}
