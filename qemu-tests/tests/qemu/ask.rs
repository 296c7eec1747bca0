//! Asking the detector at the shell, and looking at its answers.

use boot::session::Session;
use qemu_tests::machines::{Failure, LIMIT};
use qemu_tests::transcript::expect_lines;
use serde_json::Value;

// Lines that many answers have.
pub const BACKTRACE: &str = "  backtrace (crc …):";
pub const START: &str = "    kernel::task::start+0x…/0x… (kernel/src/task/mod.rs:…)";

/// Lines, put together.
pub fn lines<'l>(parts: &[&[&'l str]]) -> Vec<&'l str> {
    parts.concat()
}

pub fn ask(session: &mut Session, line: &str) -> Result<String, Failure> {
    Ok(session.command(&format!("kmemleak {line}"), LIMIT)?)
}

/// The answer must have these lines, in which `…` is any text.
pub fn expect(session: &mut Session, line: &str, expected: &[&str]) -> Result<(), Failure> {
    let answer = ask(session, line)?;
    expect_lines(&answer, expected).map_err(|error| format!("{line}: {error}").into())
}

/// Each line of the answer must be a JSON object of the one schema there is.
pub fn json(session: &mut Session, line: &str) -> Result<Vec<Value>, Failure> {
    let answer = ask(session, line)?;
    let lines = answer.lines().map(|line| {
        let value: Value =
            serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        match value["schema"] == 2 && value["kind"].is_string() {
            true => Ok(value),
            false => Err(Failure::from(format!("no schema 2: {line}"))),
        }
    });
    lines.collect()
}

/// Those of a kind.
pub fn of_kind<'v>(values: &'v [Value], kind: &str) -> Vec<&'v Value> {
    let of_kind = values.iter().filter(|value| value["kind"] == kind);
    of_kind.collect()
}

/// The fields must have these values.
pub fn expect_fields(value: &Value, expected: &Value) -> Result<(), Failure> {
    for (field, expected) in expected.as_object().into_iter().flatten() {
        if value[field] != *expected {
            return Err(format!("{field} is not {expected} in {value}").into());
        }
    }
    Ok(())
}

/// The innermost function of a JSON object's call stack must be this one.
pub fn expect_from(value: &Value, function: &str) -> Result<(), Failure> {
    let innermost = value["backtrace"][0].as_str().unwrap_or_default();
    match innermost.strip_prefix(function) {
        Some(rest) if rest.starts_with("+0x") => Ok(()),
        _ => Err(format!("not from {function}: {value}").into()),
    }
}
