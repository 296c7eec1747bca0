//! Findings as SARIF 2.1.0, which forges read to show results of analysis at the lines that they are about.
//!
//! Source: the OASIS standard "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
//!
//! One result a finding, by one of two rules. Files are named relative to the root of the repository, as the compiler was given
//! them. A result is identified across runs by function and file: lines move, and each build has other checksums of call stacks.
//! What may be missing is told as a notification of the run, which then was not successful.

use serde_json::{Value, json};

use crate::findings::{Caller, Finding, Findings, Kind, Place, Problem};

/// What paths of files are relative to.
const ROOT: &str = "SRCROOT";

/// The document.
pub fn document(findings: &Findings) -> String {
    let results: Vec<_> = findings.list.iter().map(result).collect();
    let notifications: Vec<_> = findings.problems.iter().map(notification).collect();
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "kmemleak",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": [rule(Kind::Leak), rule(Kind::Suspect)],
            }},
            "originalUriBaseIds": { ROOT: {
                "description": { "text": "The root of the repository." },
            }},
            "invocations": [{
                "executionSuccessful": findings.problems.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{document:#}\n")
}

fn rule(kind: Kind) -> Value {
    let (name, text, help) = match kind {
        Kind::Leak => (
            "MemoryLeak",
            "Memory that nothing points to any more: it can never be freed.",
            "Free it before the last pointer to it goes. `kmemleak why ADDRESS` says what is known of a block.",
        ),
        Kind::Suspect => (
            "SuspectedMemoryLeak",
            "Memory to which no pointer was found, by a check that is not certain.",
            "The report says why the check is not certain. A check in a stopped world, with enough memory for all records, is.",
        ),
    };
    json!({
        "id": kind.name(),
        "name": name,
        "shortDescription": { "text": text },
        "fullDescription": { "text": text },
        "help": { "text": help },
        "defaultConfiguration": { "level": level(kind) },
        "properties": { "tags": ["memory", "leak"] },
    })
}

fn level(kind: Kind) -> &'static str {
    match kind {
        Kind::Leak => "error",
        Kind::Suspect => "warning",
    }
}

fn result(finding: &Finding) -> Value {
    let index = match finding.kind {
        Kind::Leak => 0,
        Kind::Suspect => 1,
    };
    let file = finding.place.as_ref().map_or("", |place| &place.file);
    json!({
        "ruleId": finding.kind.name(),
        "ruleIndex": index,
        "level": level(finding.kind),
        "message": { "text": finding.to_string() },
        "locations": [location(&finding.function, finding.place.as_ref())],
        "partialFingerprints": {
            "functionAndFile/v1": format!("{} {file}", finding.function),
        },
        "stacks": [{
            "message": { "text": "the call stack that allocated it" },
            "frames": finding.stack.iter().map(frame).collect::<Vec<_>>(),
        }],
        // Not all forges show stacks.
        "relatedLocations": finding.stack.iter().filter_map(related).collect::<Vec<_>>(),
        "properties": {
            "objects": finding.objects,
            "bytes": finding.bytes,
            "ownedObjects": finding.owned_objects,
            "ownedBytes": finding.owned_bytes,
        },
    })
}

fn location(function: &str, place: Option<&Place>) -> Value {
    let mut location = json!({
        "logicalLocations": [{ "fullyQualifiedName": function, "kind": "function" }],
    });
    if let Some(place) = place {
        location["physicalLocation"] = physical(place);
    }
    location
}

fn frame(caller: &Caller) -> Value {
    json!({ "location": location(&caller.function, caller.place.as_ref()) })
}

/// A caller in the repository.
fn related(caller: &Caller) -> Option<Value> {
    let place = caller.place.as_ref().filter(|place| place.is_relative())?;
    Some(json!({
        "message": { "text": caller.function },
        "physicalLocation": physical(place),
    }))
}

fn physical(place: &Place) -> Value {
    let mut physical = json!({ "artifactLocation": artifact(place) });
    if let Some(line) = place.line {
        physical["region"] = json!({ "startLine": line });
    }
    physical
}

fn artifact(place: &Place) -> Value {
    let path = encoded(&place.file.replace('\\', "/"));
    match place.is_relative() {
        true => json!({ "uri": path.strip_prefix("./").unwrap_or(&path), "uriBaseId": ROOT }),
        false => json!({ "uri": format!("file://{path}") }),
    }
}

/// A path as a part of a URI: other characters than RFC 3986 has unreserved are percent-encoded.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.bytes().map(encode).collect()
}

fn notification(problem: &Problem) -> Value {
    let level = match problem {
        Problem::Unrecorded(_) => "warning",
        Problem::NoCheck | Problem::Ended(_) => "error",
    };
    json!({ "level": level, "message": { "text": problem.to_string() } })
}
