//! Scripts on the host, in a process of their own.
//!
//! A script that makes the detector panic, wait for itself or take all memory ends its process, and no other script: the
//! scripts that were not begun go to the next process, as to the next machine under QEMU. The texts go in by the standard
//! input, and the outcomes come out as [`lines`] on the standard output.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::panic;
use std::process::{self, Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use boot::patience::Patience;
use leak_script::host;

use crate::lines::{self, Line};
use crate::qemu::LIMIT;
use crate::{Outcome, Report};

/// Runs these scripts, each with its file's number, on machines of `cpus` CPUs.
pub fn run(scripts: &[(usize, String)], cpus: u32, report: &mut Report<'_>) -> io::Result<()> {
    let program = env::current_exe()?;
    let command = || {
        let mut command = Command::new(&program);
        command.args(["--serve", "--smp", &cpus.to_string()]);
        command
    };
    run_in(&command, LIMIT, scripts, report)
}

/// Runs scripts by processes of this command, each script for `limit` at most.
fn run_in(
    command: &dyn Fn() -> Command,
    limit: Duration,
    scripts: &[(usize, String)],
    report: &mut Report<'_>,
) -> io::Result<()> {
    let mut rest = scripts;
    while !rest.is_empty() {
        let done = run_some(command(), limit, rest, report)?;
        rest = &rest[done..];
    }
    Ok(())
}

/// Runs these scripts in one process, and returns how many of them are done: at least one.
fn run_some(
    mut command: Command,
    limit: Duration,
    scripts: &[(usize, String)],
    report: &mut Report<'_>,
) -> io::Result<usize> {
    let texts = lines::pack(scripts).map_err(io::Error::other)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Running(command.spawn()?);
    if let Some(mut input) = process.0.stdin.take() {
        // The process reads all texts before it answers. If it does not, its output shows what happened.
        let _ = input.write_all(&texts);
    }
    let output = process.0.stdout.take().map(read_lines);
    let output = output.ok_or(io::ErrorKind::BrokenPipe)?;
    let (mut begun, mut done) = (false, 0);
    while let Some(&(file, _)) = scripts.get(done) {
        let why = match patiently(&output, limit) {
            Ok(line) => {
                match Line::read(&line, done) {
                    Some(Line::Begins) => begun = true,
                    Some(Line::Ends(outcome)) => {
                        report.add(file, outcome);
                        (begun, done) = (false, done + 1);
                    }
                    None => {}
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) => format!("no answer in {} s", limit.as_secs()),
            Err(RecvTimeoutError::Disconnected) => {
                format!("the process that ran it ended: {}", process.0.wait()?)
            }
        };
        // A process that ends between two scripts is no failure; but one that does none would be started again and again.
        if begun || done == 0 {
            report.add(file, Outcome::Failed(why));
            done += 1;
        }
        break;
    }
    Ok(done)
}

/// The next line, if it comes within this time, which goes slower on a busy host.
fn patiently(output: &Receiver<String>, limit: Duration) -> Result<String, RecvTimeoutError> {
    let mut patience = Patience::new(limit);
    loop {
        let wait = patience.next_wait();
        match output.recv_timeout(wait.unwrap_or_default()) {
            Err(RecvTimeoutError::Timeout) if wait.is_some() => {}
            answer => return answer,
        }
    }
}

/// A process that ends when this is dropped, if not before.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its lines, as they come.
fn read_lines(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The script that this process runs.
static SCRIPT: AtomicUsize = AtomicUsize::new(0);

/// Runs the scripts that come by the standard input, and reports on them: what the process of [`run`] does.
pub fn serve(cpus: u32) -> io::Result<()> {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    panic::set_hook(Box::new(|panic| {
        let why = format!(
            "line {}: the detector, or the emulated machine: {panic}",
            host::line()
        );
        let why = lines::escaped(&why.replace('\n', " "));
        println!(
            "leak-script {} FAILED {why}",
            SCRIPT.load(Ordering::Relaxed)
        );
        process::exit(1);
    }));
    for (index, text) in lines::unpack(&bytes).into_iter().enumerate() {
        SCRIPT.store(index, Ordering::Relaxed);
        println!("leak-script {index} begins");
        match host::run(text, cpus) {
            host::Outcome::Passed => println!("leak-script {index} ok"),
            host::Outcome::Skipped => println!("leak-script {index} skipped"),
            host::Outcome::Failed(failure) => {
                let why = lines::escaped(&failure.to_string());
                println!("leak-script {index} FAILED {why}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// What becomes of three scripts, by a process that is this shell script.
    fn told(shell: &str, limit: Duration) -> Vec<String> {
        let files = ["a", "b", "c"].map(PathBuf::from);
        let scripts: Vec<(usize, String)> = (0..3).map(|index| (index, "check".into())).collect();
        let mut report = Report::new(&files);
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("texts=$(wc -c); {shell}")]);
            command
        };
        run_in(&command, limit, &scripts, &mut report).expect("there is a shell");
        let outcomes = report.outcomes.into_iter().map(|outcome| match outcome {
            Some(Outcome::Passed) => "ok".into(),
            Some(Outcome::Skipped) => "skipped".into(),
            Some(Outcome::Failed(why)) => why,
            None => "nothing".into(),
        });
        outcomes.collect()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_brings_its_process_down_is_the_only_one_that_fails() {
        // A script has 9 bytes in the parcel: so it knows how many come.
        let second_dies = "case $texts in
            27) echo leak-script 0 begins; echo leak-script 0 ok; echo leak-script 1 begins; kill -ABRT $$;;
            9) echo leak-script 0 begins; echo leak-script 0 skipped;;
        esac";
        let told = told(second_dies, LONG);
        assert_eq!((&*told[0], &*told[2]), ("ok", "skipped"));
        assert!(
            told[1].starts_with("the process that ran it ended: signal: 6"),
            "{told:?}"
        );
    }

    #[test]
    fn who_tells_why_is_believed() {
        let told = told(
            "echo leak-script 0 begins; echo leak-script 0 FAILED line 3: so; exit 1",
            LONG,
        );
        assert_eq!(told, ["line 3: so"; 3]);
    }

    #[test]
    fn who_does_nothing_is_not_asked_for_ever() {
        let told = told("exit 3", LONG);
        assert_eq!(told, ["the process that ran it ended: exit status: 3"; 3]);
    }

    #[test]
    fn who_does_not_answer_is_ended() {
        let told = told("echo leak-script 0 begins; exec sleep 1000", Duration::ZERO);
        assert_eq!(told, ["no answer in 0 s"; 3]);
    }
}
