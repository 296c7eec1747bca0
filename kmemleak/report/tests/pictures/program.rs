//! The program writes pictures of a log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::made::kernel;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // An earlier run may have left files.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("a folder");
    folder
}

fn run(folder: &Path, log: &str, options: &[&str]) -> Output {
    fs::write(folder.join("serial.log"), log).expect("a file");
    let program = env!("CARGO_BIN_EXE_kmemleak-report");
    let command = Command::new(program)
        .current_dir(folder)
        .args(options)
        .arg("serial.log")
        .output();
    command.expect("it starts")
}

#[test]
fn all_are_written_at_once() {
    let folder = folder("all-pictures");
    let options = [
        "--html",
        "a.html",
        "--heap-snapshot",
        "b.heapsnapshot",
        "--folded",
        "c.folded",
        "--pprof",
        "d.pb.gz",
    ];
    let output = run(&folder, &kernel(50).whole_log(), &options);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success() && output.stdout.is_empty());
    let read = |name: &str| fs::read(folder.join(name)).expect("a file");
    let text = |name: &str| String::from_utf8(read(name)).expect("text");
    assert!(text("a.html").contains("<title>serial.log - kmemleak</title>"));
    assert!(text("b.heapsnapshot").starts_with("{\"snapshot\":"));
    assert!(text("c.folded").starts_with("lost;kernel::task::start;"));
    assert_eq!(read("d.pb.gz")[..2], [0x1f, 0x8b]);
}

#[test]
fn what_is_missing_is_said_and_the_rest_is_written() {
    let folder = folder("some-pictures");
    let options = ["--heap-snapshot", "b.heapsnapshot", "--folded", "c.folded"];
    let output = run(&folder, "boot\n", &options);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains(
            "the log has no snapshot of the heap: the command `kmemleak snapshot` prints one"
        ),
        "{errors}"
    );
    assert!(folder.join("c.folded").is_file() && !folder.join("b.heapsnapshot").exists());
    let nowhere = run(&folder, "boot\n", &["--html", "/nowhere/a.html"]);
    let errors = String::from_utf8_lossy(&nowhere.stderr);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(errors.contains("/nowhere/a.html"), "{errors}");
}
