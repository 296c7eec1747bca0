//! Leak scripts in the kernel, by the command that anybody types.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use boot::artifacts;
use qemu_tests::machines::Failure;

/// Run with each number of CPUs.
pub const ON_CPUS: crate::TestsOnCpus = &[
    ("own_scripts_pass", own_scripts_pass),
    ("nothing_is_left_for_the_next", nothing_is_left_for_the_next),
    (
        "stale_words_keep_nothing_alive",
        stale_words_keep_nothing_alive,
    ),
    ("no_frame_holds_a_block", no_frame_holds_a_block),
];

crate::tests![
    a_failure_names_its_line,
    off_is_followed_by_another_boot,
    it_says_what_the_host_says,
    scripts_may_be_long_and_many,
    blocks_are_aligned_and_zeroed,
    what_memory_does_not_hold_is_a_failure,
    one_cpu_skips_what_needs_two,
    no_place_for_files_is_a_failure_of_each,
];

/// Scripts in files of their own, far from the repository.
struct Scripts {
    folder: PathBuf,
    files: Vec<PathBuf>,
}

impl Scripts {
    /// Each with its name.
    fn new(scripts: &[(&str, &[u8])]) -> Result<Self, Failure> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // A comma, for that is what QEMU parts its options by.
        let folder = env::temp_dir().join(format!("scripts, {}-{number}", process::id()));
        fs::create_dir(&folder)?;
        let mut made = Self {
            folder,
            files: Vec::new(),
        };
        for (name, text) in scripts {
            let file = made.folder.join(name).with_extension("leak");
            fs::write(&file, text)?;
            made.files.push(file);
        }
        Ok(made)
    }

    /// Runs them, with what the runner itself keeps in files beside them.
    fn run(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let mut runner = runner(arguments, &self.files);
        Ok(runner.env("TMPDIR", &self.folder).output()?)
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        // The temporary directory's own keeper sees to what can't be removed.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The runner's command.
fn runner(arguments: &[&str], files: &[PathBuf]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut runner = Command::new(cargo);
    runner.args(["run", "-q", "-p", "leak-script", "--"]);
    runner.args(arguments).args(files);
    runner.current_dir(artifacts::workspace());
    runner
}

/// The lines that it prints, and whether it ends with success.
fn told(output: &Output) -> (Vec<String>, bool) {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(Into::into).collect();
    (lines, output.status.success())
}

/// The scripts must be told of like that.
fn expect(smp: u32, scripts: &[(&str, &[u8])], lines: &[&str]) -> Result<(), Failure> {
    let scripts = Scripts::new(scripts)?;
    let output = scripts.run(&["--qemu", "--smp", &smp.to_string()])?;
    let (told, success) = told(&output);
    let failed = lines.iter().any(|line| line.starts_with("FAILED"));
    if told != lines || success == failed {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "expected {lines:#?}, got {told:#?}, {}: {error}",
            output.status
        )
        .into());
    }
    Ok(())
}

/// All of the repository, with the museum's.
fn own_scripts_pass(cpus: u32) -> Result<(), Failure> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kmemleak");
    let mut files = Vec::new();
    for folder in ["scripts", "museum"] {
        for entry in fs::read_dir(crate_folder.join(folder))? {
            let file = entry?.path();
            if file.extension().is_some_and(|ending| ending == "leak") {
                files.push(file);
            }
        }
    }
    files.sort();
    let output = runner(&["--qemu", "--smp", &cpus.to_string()], &files).output()?;
    let (told, success) = told(&output);
    let skipped = told
        .iter()
        .filter(|line| line.starts_with("skipped "))
        .count();
    let passed = format!("{} passed, 0 failed", files.len() - skipped);
    let last = told.last().map_or("", String::as_str);
    if !success || !last.starts_with(&passed) || (cpus > 1 && skipped > 0) {
        return Err(format!("{told:#?}: {output:?}").into());
    }
    Ok(())
}

/// Whatever a script leaves, and wherever it fails.
fn nothing_is_left_for_the_next(cpus: u32) -> Result<(), Failure> {
    let untidy: &[u8] = b"alloc A 64
alloc P 8192 from=pages
alloc V 4096 from=vmalloc
alloc C 64 from=percpu
data 0 = A
bss 1 = P
percpu 0 2 = V
page 3 = C
stack 4 = A
dead 5 = A
reg 1 = P
region 2 6 = V
region add 2
region add 2
region add 3
disabled begin
disabled begin
stack off
min_age 100000
free_part P 0 4096
free A
free A
region remove 0
metadata off
alloc UNTOLD 8
disabled begin
check
expect leaks nobody
";
    let tidy: &[u8] = b"expect tracked 0
expect quiet
expect state enabled
alloc A 64
alloc B 64
alloc C 64
stack 0 = B
region 2 6 = A
reg 1 = C
check
expect leaks A
free A
free A
expect warning unknown object
disabled end
expect warning disabled
region remove 3
expect warning region
stack 0 = 0
scan
scan
expect leaks B
";
    let mut many = String::new();
    (0..3000).for_each(|number| many += &format!("alloc A{number} 8\n"));
    many += "expect tracked 3000\nexpect state enabled\n";
    expect(
        cpus,
        &[
            ("before", tidy),
            ("untidy", untidy),
            ("after", tidy),
            ("untidy_again", untidy),
            ("many", many.as_bytes()),
            ("last", tidy),
        ],
        &[
            "ok before",
            "FAILED untidy: line 28: nothing was ever named nobody",
            "ok after",
            "FAILED untidy_again: line 28: nothing was ever named nobody",
            "ok many",
            "ok last",
            "4 passed, 2 failed",
        ],
    )
}

/// Blocks of all sizes, so many that all which the kernel had before and gave back are among them: none is held, by its start
/// or by its middle, by whatever the kernel's start has left on the stacks of those who run.
fn no_frame_holds_a_block(cpus: u32) -> Result<(), Failure> {
    let mut scripts = Vec::new();
    let slabs = [
        8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192,
    ];
    let slabs = slabs.map(|size| ("slab", size, 256));
    let pages = [4096, 8192, 65536].map(|size| ("pages", size, 64));
    for (from, size, count) in slabs.into_iter().chain(pages) {
        let mut text = String::new();
        (0..count).for_each(|block| text += &format!("alloc A{block} {size} from={from}\n"));
        text += "check\nexpect interior none\n";
        text += &format!("expect total {} {count}\n", size * count);
        scripts.push((format!("{from}{size}"), text));
    }
    let passed: Vec<String> = scripts
        .iter()
        .map(|(name, _)| format!("ok {name}"))
        .chain([format!("{} passed, 0 failed", scripts.len())])
        .collect();
    let scripts: Vec<(&str, &[u8])> = scripts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_bytes()))
        .collect();
    let lines: Vec<&str> = passed.iter().map(String::as_str).collect();
    expect(cpus, &scripts, &lines)
}

/// Of thousands of addresses that pass through the hands of interpreter and detector, none is left anywhere.
fn stale_words_keep_nothing_alive(cpus: u32) -> Result<(), Failure> {
    let mut text = String::new();
    let names: Vec<String> = (0..300).map(|number| format!("A{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let from = ["slab", "pages", "vmalloc", "percpu"][number % 4];
        text += &format!(
            "alloc {name} 4096 from={from}\ndata {} = {name}\n",
            number % 64
        );
    }
    text += "check\nscan\n";
    (0..64).for_each(|word| text += &format!("data {word} = 0\n"));
    let all = names.join(" ");
    text += &format!("check\nexpect leaks {all}\nscan\nscan\nexpect leaks {all}\n");
    expect(
        cpus,
        &[("many", text.as_bytes()), ("again", text.as_bytes())],
        &["ok many", "ok again", "2 passed, 0 failed"],
    )
}

fn a_failure_names_its_line() -> Result<(), Failure> {
    expect(
        2,
        &[
            ("wrong", b"alloc A 64\nbss 0 = A\ncheck\nexpect leaks A\n"),
            ("no_script", b"alloc A\n"),
            ("right", b"alloc A 64\ncheck\nexpect leaks A\n"),
            (
                "by_hand",
                b"alloc A 64 site=probe\nfree A\nfree A\nexpect warning probe\nexpect quiet\n",
            ),
        ],
        &[
            "FAILED wrong: line 4: expected leaks A, got none",
            "FAILED no_script: line 1: a size is missing",
            "ok right",
            "ok by_hand",
            "2 passed, 2 failed",
        ],
    )
}

fn off_is_followed_by_another_boot() -> Result<(), Failure> {
    let off: &[u8] = b"off\nexpect state disabled\n";
    let on: &[u8] = b"expect state enabled\nalloc A 8\ncheck\nexpect leaks A\n";
    expect(
        1,
        &[
            ("off", off),
            ("on", on),
            ("off_again", off),
            ("off_at_last", off),
        ],
        &[
            "ok off",
            "ok on",
            "ok off_again",
            "ok off_at_last",
            "4 passed, 0 failed",
        ],
    )
}

/// Texts of all sorts, of which both runners must say the same.
fn it_says_what_the_host_says() -> Result<(), Failure> {
    let mut files = Scripts::new(&[
        ("empty", b""),
        ("no text", b"alloc A 8\n\xff\xfe\n"),
        ("control", b"alloc A 8\n\x07\x1b[31m %41 \x00\n"),
        ("return", b"alloc A 8\r\ncheck\r\nexpect leaks none\r\n"),
        ("lone return", b"alloc A 8\rcheck\n"),
        ("other letters", "alloc Ä 8\n".as_bytes()),
        (
            "label",
            "alloc A 8 site=größe%25\ncheck\nexpect growth größe%25 1 1\n".as_bytes(),
        ),
        ("number", b"alloc A 99999999999999999999\n"),
        ("much", b"alloc A 8 align=0x8000000000000000\n"),
        ("huge", b"alloc A 200000000000016 from=percpu\n"),
        ("large", b"alloc A 0x7ffffffffffff000 from=vmalloc\n"),
        ("pages", b"alloc A 16777216 from=pages\n"),
        ("copies", b"alloc A 32769 from=percpu\n"),
        ("beyond", b"alloc A 8\nA+0xfffffffffffffff8 = A\n"),
        (
            "aligned",
            b"alloc A 8 align=16384\nalloc B 4096 from=vmalloc align=65536\nalloc C 8 from=percpu align=8192\n",
        ),
        ("elsewhere", b"# only: nowhere\nexpect tracked 1\n"),
        ("marked", b"\xef\xbb\xbfcheck\nexpect leaks none\n"),
    ])?;
    files.files.push(files.folder.join("missing.leak"));
    let here = files.run(&[])?;
    let there = files.run(&["--qemu"])?;
    if told(&here) != told(&there) || told(&here).0.len() != files.files.len() + 1 {
        return Err(format!("{:#?} and {:#?}", told(&here), told(&there)).into());
    }
    Ok(())
}

fn scripts_may_be_long_and_many() -> Result<(), Failure> {
    let mut long = String::from("# A long one.\n");
    for number in 0..2000 {
        long += &format!("alloc A{number} 16 # {}\nfree A{number}\n", "-".repeat(200));
    }
    long += "expect tracked 0\n";
    assert!(long.len() > 400 * 1024);
    let names: Vec<String> = (0..100).map(|number| format!("many{number}")).collect();
    let short: &[u8] = b"alloc A 8\ncheck\nexpect leaks A\n";
    let mut scripts = vec![("long", long.as_bytes())];
    scripts.extend(names.iter().map(|name| (name.as_str(), short)));
    let mut lines = vec![String::from("ok long")];
    lines.extend(names.iter().map(|name| format!("ok {name}")));
    lines.push("101 passed, 0 failed".into());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    expect(2, &scripts, &lines)
}

/// A number that a script has written is gone from the memory that the next block is made of; and none lies where an
/// alignment forbids it, for then there would be no block.
fn blocks_are_aligned_and_zeroed() -> Result<(), Failure> {
    let mut text = String::from("alloc T 64\n");
    for (from, size) in [
        ("slab", 4096),
        ("pages", 4096),
        ("vmalloc", 4096),
        ("percpu", 4096),
    ] {
        text += &format!("alloc A {size} from={from}\n");
        let copy = if from == "percpu" { "A[0]" } else { "A" };
        (0..size / 8).for_each(|word| text += &format!("{copy}+{} = T\n", word * 8));
        text += &format!("free A\nalloc A {size} from={from}\nbss 0 = A\ncheck\nexpect leaks T\n");
        text += "bss 0 = 0\nfree A\n";
    }
    for (from, most) in [
        ("slab", 8192),
        ("pages", 65536),
        ("vmalloc", 65536),
        ("percpu", 4096),
    ] {
        let mut align = 8;
        while align <= most {
            text += &format!("alloc A{align} 4096 align={align} from={from} # {from}\n");
            text += &format!("free A{align}\n");
            align *= 2;
        }
    }
    expect(
        2,
        &[("blocks", text.as_bytes())],
        &["ok blocks", "1 passed, 0 failed"],
    )
}

/// Of blocks as large as can be, until there are no more; the next script has all of the memory again.
fn what_memory_does_not_hold_is_a_failure() -> Result<(), Failure> {
    let mut text = String::new();
    (0..40).for_each(|number| text += &format!("alloc A{number} 8388608 from=pages\n"));
    let scripts = Scripts::new(&[("one", text.as_bytes()), ("other", text.as_bytes())])?;
    let (told, success) = told(&scripts.run(&["--qemu"])?);
    let [one, other, sum] = &told[..] else {
        return Err(format!("{told:#?}").into());
    };
    let why = |line: &str| line.split_once(": ").map(|(_, why)| why.to_owned());
    let is_told = one.ends_with("no block of 8388608 bytes to be had") && why(one) == why(other);
    if success || !is_told || sum != "0 passed, 2 failed" {
        return Err(format!("{told:#?}").into());
    }
    Ok(())
}

fn one_cpu_skips_what_needs_two() -> Result<(), Failure> {
    expect(
        1,
        &[
            ("two", b"percpu 1 0 = 0\n"),
            ("host", b"# only: host\nalloc\n"),
            ("host_in_order", b"# only: host\ncheck\n"),
            ("qemu", b"# only: qemu\ncheck\n"),
        ],
        &[
            "skipped two",
            "FAILED host: line 2: a name is missing",
            "skipped host_in_order",
            "ok qemu",
            "1 passed, 1 failed, 2 skipped",
        ],
    )
}

/// What goes to the machine is kept in a file.
fn no_place_for_files_is_a_failure_of_each() -> Result<(), Failure> {
    let scripts = Scripts::new(&[("one", b"check\n"), ("two", b"check\n")])?;
    // Builds what is run, for which there has to be a place.
    scripts.run(&["--qemu"])?;
    let nowhere = scripts.folder.join("nowhere");
    let mut runner = runner(&["--qemu"], &scripts.files);
    let (told, success) = told(&runner.env("TMPDIR", &nowhere).output()?);
    let [one, two, sum] = &told[..] else {
        return Err(format!("{told:#?}").into());
    };
    let is_told = |line: &str, name: &str| {
        let why = format!("FAILED {name}: {}/", nowhere.display());
        line.starts_with(&why) && line.contains("No such file")
    };
    let all = is_told(one, "one") && is_told(two, "two") && sum == "0 passed, 2 failed";
    if success || !all {
        return Err(format!("{told:#?}").into());
    }
    Ok(())
}
