//! `--gdb`: the command that it prints, pasted into a shell elsewhere, and what gdb shows of the detector.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use boot::machine::{self, DebuggerPort, Owner};
use kmemleak_report::log::Log;

fn has_gdb() -> bool {
    let gdb = Command::new("gdb").arg("--version").output();
    gdb.is_ok_and(|output| output.status.success())
}

#[test]
fn the_command_can_be_pasted_anywhere() {
    let kernel = Path::new("/a b/it's");
    let command = machine::debugger_command(kernel, Owner::Others, 1234);
    assert_eq!(
        machine::typed(&command),
        r#"gdb '/a b/it'\''s' -ex 'target remote localhost:1234'"#
    );
    let relative = machine::debugger_command(Path::new("kernel"), Owner::Us, 1);
    let words: Vec<_> = relative.get_args().map(Path::new).collect();
    let files: Vec<_> = words.iter().filter(|word| word.is_absolute()).collect();
    assert_eq!(files.len(), 2, "the script and the kernel: {words:?}");
    assert!(files[0].is_file(), "{files:?}");
}

#[test]
fn another_port_is_taken_where_the_usual_one_is_in_use() {
    // If this fails, somebody else has it.
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 1234));
    let port = DebuggerPort::take().expect("a port");
    assert_ne!(port.number(), 1234);
    let at = (Ipv4Addr::LOCALHOST, port.number());
    let taken = TcpListener::bind(at).expect_err("it is kept until QEMU has it");
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn gdb_shows_what_the_detector_knows() {
    if !has_gdb() {
        println!("skipped: no gdb is installed (./setup.sh --all)");
        return;
    }
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gdb.json");
    let mut boot = Command::new(env!("CARGO_BIN_EXE_boot"));
    boot.args(["--gdb", "--accel", "tcg", "--timeout", "120", "--json"]);
    boot.arg(&json);
    boot.args([
        "-c",
        "leak percpu; leak percpu; leak pages; leak percpu; kmemleak scan --json",
    ]);
    boot.stdin(Stdio::null());
    boot.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut boot = boot.spawn().expect("it was built for this test");
    let mut said = BufReader::new(boot.stderr.take().expect("it is a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it says how to attach");
    let (_, command) = line.split_once("in another terminal: ").expect("a command");

    let mut shell = Command::new("sh");
    let more = "-batch -nx -ex 'p KMEMLEAK' -ex delete -ex 'hbreak -qualified kernel::arch::exit::exit' -ex continue -ex 'p KMEMLEAK' -ex 'print/x 255' -ex delete -ex continue";
    shell.args(["-c", &format!("{} {more}", command.trim_end())]);
    let gdb = shell.current_dir("/").output().expect("a shell");
    let shown = format!(
        "{}{}",
        String::from_utf8_lossy(&gdb.stdout),
        String::from_utf8_lossy(&gdb.stderr)
    );

    let status = boot.wait().expect("it is a child");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("it is a pipe");
    assert!(status.success(), "{status}: {rest}{shown}");
    let records = fs::read(&json).expect("it was written");
    let log = Log::read(&*records).expect("memory can be read");
    let summary = log.report.expect("a check").summary;
    for line in [
        "$1 = on; 0 objects tracked; no check yet".to_owned(),
        format!(
            "$2 = on; {} objects tracked; the last check found {} unreferenced objects ({} bytes)",
            summary.tracked, summary.objects, summary.bytes
        ),
        "$3 = 0xff".to_owned(),
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line} is missing: {shown}"
        );
    }
}
