//! The test kernel's list of tests, as it prints it.

use std::time::Duration;

use boot::outcome::Outcome;

use crate::machines::{self, Failure};

/// How a test is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// With success.
    Passes,
    /// With failure, after this text.
    Fails(String),
}

/// A test of the test kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestTest {
    /// Its name, with its modules.
    pub name: String,
    /// The numbers of CPUs with which it is run.
    pub smp: Vec<u32>,
    /// A boot parameter that it needs; empty if it needs none.
    pub with: String,
    /// How it is to end.
    pub expect: Expect,
}

impl GuestTest {
    /// Its name when run with that many CPUs, which tells them apart only where there are several.
    pub fn name_with(&self, cpus: u32) -> String {
        match self.smp.len() {
            1 => self.name.clone(),
            _ => format!("{}::smp{cpus}", self.name),
        }
    }

    /// Runs it. If it is a soak, then for so many minutes, and what it says in the end is shown.
    pub fn run(&self, cpus: u32, minutes: u64) -> Result<(), Failure> {
        let mut machine = machines::guest(&format!(
            "test={} soak.minutes={minutes} {}",
            self.name, self.with
        ));
        machine.cpus = cpus;
        let ended = machines::run_longer(&machine, Duration::from_secs(60 * minutes))?;
        if minutes > 0 {
            ended
                .serial
                .lines()
                .for_each(|line| println!("{cpus} CPUs: {line}"));
        }
        match &self.expect {
            Expect::Passes => machines::expect(&ended, Outcome::Passed, ""),
            Expect::Fails(text) => machines::expect(&ended, Outcome::Failed, text),
        }
    }
}

/// Asks the test kernel for its tests.
pub fn list() -> Result<Vec<GuestTest>, Failure> {
    let ended = machines::run(&machines::guest("list"))?;
    machines::expect(&ended, Outcome::Passed, "")?;
    let tests = parse(&ended.serial).map_err(|line| format!("what is {line:?}? {ended}"))?;
    let mut names: Vec<_> = tests.iter().map(|test| &test.name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two tests are named {}", pair[0]).into()),
        None if tests.is_empty() => Err(format!("the test kernel has no tests: {ended}").into()),
        None => Ok(tests),
    }
}

/// The tests in the output, or the line that can't be read.
fn parse(output: &str) -> Result<Vec<GuestTest>, &str> {
    let lines = output
        .lines()
        .filter_map(|line| Some((line, line.strip_prefix("guest-test ")?)));
    lines
        .map(|(line, test)| parse_line(test).ok_or(line))
        .collect()
}

fn parse_line(line: &str) -> Option<GuestTest> {
    let (name, rest) = line.split_once(" smp=")?;
    let (smp, rest) = rest.split_once(' ')?;
    let (with, expect) = match rest.strip_prefix("with=") {
        Some(rest) => rest.split_once(' ')?,
        None => ("", rest),
    };
    let smp = smp
        .split(',')
        .map(|cpus| cpus.parse().ok())
        .collect::<Option<_>>()?;
    let expect = match expect.split_once(' ') {
        Some(("fails", text)) => Expect::Fails(text.into()),
        None if expect == "passes" => Expect::Passes,
        _ => return None,
    };
    Some(GuestTest {
        name: name.into(),
        smp,
        with: with.into(),
        expect,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let output = "hello\nguest-test guest::a smp=1,4 passes\n\
                      guest-test guest::b smp=2 fails a guard page: hit\n\
                      guest-test guest::c smp=2 with=a.b=on passes\n";
        let tests = parse(output).unwrap();
        let (a, b, c) = (&tests[0], &tests[1], &tests[2]);
        assert_eq!((c.with.as_str(), &c.expect), ("a.b=on", &Expect::Passes));
        assert_eq!((a.with.as_str(), b.with.as_str()), ("", ""));
        assert_eq!(
            a.smp.iter().map(|n| a.name_with(*n)).collect::<Vec<_>>(),
            ["guest::a::smp1", "guest::a::smp4"]
        );
        assert_eq!(
            (b.name_with(2).as_str(), &b.smp[..]),
            ("guest::b", &[2][..])
        );
        assert_eq!(b.expect, Expect::Fails("a guard page: hit".into()));
    }

    #[test]
    fn a_line_that_is_not_understood_is_not_passed_over() {
        for line in [
            "guest-test a smp=x passes",
            "guest-test a passes",
            "guest-test a smp=1 maybe",
        ] {
            assert_eq!(parse(line), Err(line));
        }
    }
}
