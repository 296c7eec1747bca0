//! The crate on other processors: the kernels of `examples/aarch64` and `examples/riscv64` boot under QEMU and find what they lose.
//!
//! What a kernel can see itself, it asserts, and ends with failure. Here the report is read: which blocks it lists, and whether the
//! call stacks, named by the symbols of the kernel's file, lead from the function that loses a block to the kernel's `main`. Each
//! kernel runs optimised and not optimised, since frames and registers are used differently. What a machine has not installed is
//! skipped, and named; `./setup.sh --all` installs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use elf::ElfBytes;
use elf::abi::STT_FUNC;
use elf::endian::LittleEndian;
use wait_timeout::ChildExt;

/// How long a kernel may take, which needs less than a second where nothing else runs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A kernel's machine.
struct Machine {
    /// Its folder among the examples.
    name: &'static str,
    target: &'static str,
    qemu: &'static str,
}

/// A leak of a report.
#[derive(Debug)]
struct Leak {
    size: usize,
    /// The names of the functions that led to it, innermost first.
    functions: Vec<String>,
}

#[test]
fn a_kernel_for_aarch64_finds_its_leaks() {
    finds_its_leaks(&Machine {
        name: "aarch64",
        target: "aarch64-unknown-none",
        qemu: "qemu-system-aarch64",
    });
}

#[test]
fn a_kernel_for_riscv64_finds_its_leaks() {
    finds_its_leaks(&Machine {
        name: "riscv64",
        target: "riscv64gc-unknown-none-elf",
        qemu: "qemu-system-riscv64",
    });
}

fn finds_its_leaks(machine: &Machine) {
    if let Some(missing) = machine.missing() {
        println!("skipped: no {missing} is installed (./setup.sh --all)");
        return;
    }
    for profile in ["dev", "release"] {
        let kernel = machine.build(profile);
        let serial = machine.run(profile);
        let leaks = leaks(&serial, &kernel);
        let [planted, named_by_dead_stack] = [48, 96].map(|size| {
            let mut of_size = leaks.iter().filter(|leak| leak.size == size);
            of_size
                .next()
                .unwrap_or_else(|| panic!("size {size}:\n{serial}"))
        });
        assert!(
            leaks.len() == 2 && serial.contains("selftest passed"),
            "{}, {profile}:\n{serial}",
            machine.name
        );
        assert_ends(machine, planted, &["plant", "plant_by_a_caller", "main"]);
        assert_ends(
            machine,
            named_by_dead_stack,
            &["name_a_block", "leave_on_the_dead_stack", "main"],
        );
    }
}

/// That the outermost functions of a call stack are these; the allocator's may come before.
#[track_caller]
fn assert_ends(machine: &Machine, leak: &Leak, functions: &[&str]) {
    let expected: Vec<_> = functions
        .iter()
        .map(|function| format!("kmemleak_{}::{function}", machine.name))
        .collect();
    assert!(leak.functions.ends_with(&expected), "{leak:?}");
}

impl Machine {
    /// What is needed to run the kernel, and is not installed.
    fn missing(&self) -> Option<&'static str> {
        let libraries = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", self.target])
            .output()
            .expect("rustc runs");
        if !Path::new(String::from_utf8_lossy(&libraries.stdout).trim()).exists() {
            return Some(self.target);
        }
        let qemu = Command::new(self.qemu).arg("--version").output();
        qemu.is_err().then_some(self.qemu)
    }

    /// `cargo` as a user of the example calls it, but for a target directory that is kept.
    fn cargo(&self, command: &str, profile: &str) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args([command, "--quiet", "--locked", "--profile", profile])
            .arg("--target-dir")
            .arg(self.target_dir())
            .current_dir(
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("examples")
                    .join(self.name),
            );
        // They would be used in the place of the example's own.
        for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(flags);
        }
        cargo
    }

    fn target_dir(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("machines")
            .join(self.name)
    }

    /// Builds the kernel, and returns its file.
    fn build(&self, profile: &str) -> Vec<u8> {
        let output = self.cargo("build", profile).output().expect("cargo runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}, {profile}:\n{errors}",
            self.name
        );
        let folder = match profile {
            "dev" => "debug",
            other => other,
        };
        let kernel = self.target_dir().join(self.target).join(folder);
        fs::read(kernel.join(format!("kmemleak-{}", self.name))).expect("the kernel's file")
    }

    /// Runs the kernel, which has been built, and returns what it wrote to its serial line.
    fn run(&self, profile: &str) -> String {
        let log = self.target_dir().join(format!("{profile}.log"));
        let serial = File::create(&log).expect("a file for the serial line");
        let errors = serial.try_clone().expect("the same file");
        // Cargo becomes QEMU, so that this is the process to be waited for.
        let mut qemu = self
            .cargo("run", profile)
            .stdin(Stdio::null())
            .stdout(serial)
            .stderr(errors)
            .spawn()
            .expect("cargo runs");
        let status = qemu.wait_timeout(TIMEOUT).expect("its end");
        if status.is_none() {
            qemu.kill().expect("it runs");
            qemu.wait().expect("its end");
        }
        let serial = String::from_utf8_lossy(&fs::read(&log).expect("the log")).into_owned();
        assert!(
            status.is_some_and(|status| status.success()),
            "{}, {profile}: {status:?}\n{serial}",
            self.name
        );
        serial
    }
}

/// The leaks of a report.
fn leaks(serial: &str, kernel: &[u8]) -> Vec<Leak> {
    let reports = serial.split("unreferenced object 0x").skip(1);
    let leak = |report: &str| {
        let size = report.split_once("(size ")?.1.split_once(')')?.0;
        let frames = report.split_once("backtrace (crc ")?.1.lines().skip(1);
        let addresses = frames.map_while(|line| line.strip_prefix("    0x"));
        Some(Leak {
            size: size.parse().ok()?,
            functions: addresses
                .map(|address| u64::from_str_radix(address, 16).expect("hexadecimal"))
                .map(|address| function_before(address, kernel))
                .collect(),
        })
    };
    reports
        .map(|report| leak(report).unwrap_or_else(|| panic!("{report}")))
        .collect()
}

/// The name of the function that returns to this address, by the symbols of the kernel's file.
fn function_before(address: u64, kernel: &[u8]) -> String {
    let file = ElfBytes::<LittleEndian>::minimal_parse(kernel).expect("an ELF file");
    let (symbols, names) = file
        .symbol_table()
        .expect("a sound file")
        .expect("a file with symbols");
    let symbol = symbols.iter().find(|symbol| {
        let code = symbol.st_value..symbol.st_value + symbol.st_size;
        // A call may be a function's last instruction.
        symbol.st_symtype() == STT_FUNC && code.contains(&(address - 1))
    });
    let name = symbol.and_then(|symbol| names.get(symbol.st_name as usize).ok());
    let name = name.unwrap_or_else(|| panic!("no function is at {address:#x}"));
    format!("{:#}", rustc_demangle::demangle(name))
}
