//! A page that shows what a log tells: what is lost, what keeps how much alive, how call sites have grown.
//!
//! It is one file of HTML that needs no network. This module computes what it shows (`data`, `tree`, `leaks`) and puts that into
//! the page as JSON; the scripts beside this file draw it. All text of the log comes as text into the page, never as markup: in
//! JSON no `<` is left, and the scripts write text nodes.
//!
//! Its size is bounded, however many objects there are: small ones are added up by call site.

mod data;
mod leaks;
mod names;
mod tree;

use std::io::{self, Write};

use crate::graph::{Graph, GraphError};
use crate::log::Log;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPTS: [&str; 6] = [
    include_str!("base.js"),
    include_str!("table.js"),
    include_str!("leaks.js"),
    include_str!("sites.js"),
    include_str!("heap.js"),
    include_str!("treemap.js"),
];

/// Writes the page. `title` is what it is about, such as the name of the log.
pub fn write(log: &Log, title: &str, out: &mut dyn Write) -> io::Result<()> {
    let graph = graph_of(log);
    let data = data::Data::of(log, graph.as_ref(), title)?;
    let json = serde_json::to_string(&data)?;
    // Inside of a script `<` could end it.
    let json = json.replace('<', "\\u003c");
    let scripts = SCRIPTS.join("\n");
    let mut rest = FRAME;
    for (place, text) in [
        ("{{title}}", escaped(title).as_str()),
        ("{{style}}", STYLE),
        ("{{verdict}}", &escaped(&data.verdict.text)),
        ("{{data}}", &json),
        ("{{script}}", &scripts),
    ] {
        if let Some((before, after)) = rest.split_once(place) {
            out.write_all(before.as_bytes())?;
            out.write_all(text.as_bytes())?;
            rest = after;
        }
    }
    out.write_all(rest.as_bytes())
}

/// The graph, or why there is none. `None` where the log has no snapshot.
fn graph_of(log: &Log) -> Option<Result<Graph, GraphError>> {
    log.snapshot.clone().map(Graph::new)
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            _ => html.push(character),
        }
    }
    html
}
