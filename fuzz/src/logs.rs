//! Serial logs that the host tool reads: text and JSON of reports among anything else.

use std::rc::Rc;

use kmemleak_report::findings::Findings;
use kmemleak_report::graph::Graph;
use kmemleak_report::log::Log;
use kmemleak_report::{
    Frame, FramesShown, LinesShown, Names, Rewriter, Word, heapsnapshot, junit, sarif,
};
use serde_json::Value;

/// A kernel of which nothing is known.
struct Nothing;

impl Names for Nothing {
    fn frame(&mut self, address: u64) -> Rc<Frame> {
        Rc::new(Frame {
            functions: Vec::new(),
            instances: Vec::new(),
            is_machinery: address.is_multiple_of(3),
            is_code: address.is_multiple_of(2),
        })
    }

    fn field(&mut self, word: &Word<'_>) -> Option<String> {
        let is_field = word.offset.is_multiple_of(16);
        is_field.then(|| "Type.field".into())
    }
}

/// Reads the input as a log, writes names into it, and makes of it all that can be made.
pub fn run(input: &[u8]) {
    let mut text = Vec::new();
    let rewriter = Rewriter::new(Nothing, &mut text, FramesShown::FromCaller, LinesShown::All);
    rewriter.run(input).expect("it is in memory");

    let log = Log::read(input).expect("it is in memory");
    let findings = Findings::of(log.report.as_ref(), None);
    let sarif: Result<Value, _> = serde_json::from_str(&sarif::document(&findings));
    sarif.expect("JSON");
    assert!(junit::document(&findings).starts_with("<?xml"));
    let Some(snapshot) = log.snapshot else {
        return;
    };
    let Ok(graph) = Graph::new(snapshot) else {
        return;
    };
    let mut dump = Vec::new();
    heapsnapshot::write(&graph, &mut dump).expect("it is in memory");
    serde_json::from_slice::<Value>(&dump).expect("JSON");
}
