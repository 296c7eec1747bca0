//! What the detector writes: reports in text and JSON, line by line.
//!
//! A test of its own, since a JSON value compares with everything: with it in scope, the compiler cannot tell what an empty
//! list in another test is a list of.

mod counts;
mod groups;
mod json;
#[path = "../host/lab.rs"]
mod lab;
mod table;
mod transcripts;
mod types;
