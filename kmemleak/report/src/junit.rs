//! Findings as JUnit XML, which CI systems show.
//!
//! A test suite `kmemleak` has a failing test case for each finding, or one that passes if there is none. What may be missing is a
//! test case with an error. A case is named by function and file, not by line, so that a leak is the same case in each run.

use std::collections::HashMap;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::findings::{Finding, Findings, Problem};

/// The document.
pub fn document(findings: &Findings) -> String {
    let mut suite = TestSuite::new("kmemleak");
    let mut names = HashMap::<String, u32>::new();
    for finding in &findings.list {
        let count = names.entry(finding.function.clone()).or_default();
        *count += 1;
        suite.add_test_case(failure(finding, *count));
    }
    for problem in &findings.problems {
        suite.add_test_case(error(problem));
    }
    if suite.test_cases.is_empty() {
        suite.add_test_case(TestCase::new("no leaks", TestCaseStatus::success()));
    }
    let mut report = Report::new("kmemleak");
    report.add_test_suite(suite);
    let written = report.to_string();
    written.expect("writing to memory does not fail")
}

/// The case of a finding, which is number `number` of those of its function.
fn failure(finding: &Finding, number: u32) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    let stack = finding.stack.iter().map(|caller| format!("{caller}\n"));
    status
        .set_type(finding.kind.name())
        .set_message(finding.to_string())
        .set_description(stack.collect::<String>());
    let name = match number {
        1 => finding.function.clone(),
        _ => format!("{} ({number})", finding.function),
    };
    let mut case = TestCase::new(name, status);
    case.set_classname("kmemleak");
    if let Some(place) = &finding.place {
        case.set_classname(place.file.as_str());
        case.extra.insert("file".into(), place.file.as_str().into());
        if let Some(line) = place.line {
            case.extra.insert("line".into(), line.to_string().into());
        }
    }
    case
}

fn error(problem: &Problem) -> TestCase {
    let (name, kind) = match problem {
        Problem::NoCheck => ("check", "no check"),
        Problem::Unrecorded(_) => ("certainty", "not certain"),
        Problem::Ended(_) => ("run", "ended early"),
    };
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type(kind).set_message(problem.to_string());
    let mut case = TestCase::new(name, status);
    case.set_classname("kmemleak");
    case
}
