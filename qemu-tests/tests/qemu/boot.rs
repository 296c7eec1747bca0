//! The loader, and the ways in which a machine ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use boot::machine::Machine;
use boot::outcome::Outcome;
use boot::session::{self, Session};
use qemu_tests::machines::{self, Failure, LIMIT};

crate::tests![
    no_kernel_is_told,
    a_kernel_that_is_no_elf_file_is_told,
    a_kernel_that_is_cut_off_is_told,
    a_kernel_without_config_is_told,
    a_cpu_without_64_bit_mode_is_told,
    a_machine_without_a_local_apic_is_refused,
    a_machine_without_an_hpet_is_refused,
    boots_with_64_mib,
    uses_memory_above_4_gib,
    uses_memory_above_4_gib_in_pages_of_1_gib,
    boots_without_qboot,
    passes_the_command_line,
    failure_is_recognised,
    triple_fault_is_recognised,
    timeout_is_recognised,
    qemu_error_is_recognised,
    reset_is_recognised,
];

/// A file of that name and contents, to boot.
fn file(name: &str, contents: &[u8]) -> Result<PathBuf, Failure> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, contents)?;
    Ok(path)
}

fn with_arguments(machine: Machine, arguments: &[&str]) -> Machine {
    Machine {
        extra: arguments.iter().map(Into::into).collect(),
        ..machine
    }
}

fn refused(machine: &Machine, reason: &str) -> Result<(), Failure> {
    machines::expect(&machines::run(machine)?, Outcome::Failed, reason)
}

fn no_kernel_is_told() -> Result<(), Failure> {
    let machine = Machine {
        kernel: None,
        ..machines::kernel()
    };
    refused(&machine, "loader: no kernel given")
}

fn a_kernel_that_is_no_elf_file_is_told() -> Result<(), Failure> {
    let kernel = file(
        "no-elf",
        b"no kernel at all, but long enough to hold the header of an ELF file",
    )?;
    let machine = Machine {
        kernel: Some(kernel),
        ..machines::kernel()
    };
    refused(&machine, "loader: kernel: not a readable ELF file: ")
}

fn a_kernel_that_is_cut_off_is_told() -> Result<(), Failure> {
    let kernel = fs::read(machines::kernel().kernel.ok_or("no kernel")?)?;
    let kernel = file("cut-off", &kernel[..kernel.len() / 2])?;
    let machine = Machine {
        kernel: Some(kernel),
        ..machines::kernel()
    };
    refused(&machine, "loader: kernel: not a readable ELF file: ")
}

fn a_kernel_without_config_is_told() -> Result<(), Failure> {
    // The loader itself is a proper ELF file for this machine.
    let machine = machines::kernel();
    let machine = Machine {
        kernel: Some(machine.loader.clone()),
        ..machine
    };
    refused(&machine, "loader: kernel: no .bootloader-config section")
}

fn a_cpu_without_64_bit_mode_is_told() -> Result<(), Failure> {
    for cpu in ["qemu32", "qemu64,-nx"] {
        let machine = with_arguments(machines::kernel(), &["-cpu", cpu]);
        refused(
            &machine,
            "loader: the CPU has no 64-bit mode or no no-execute pages",
        )?;
    }
    Ok(())
}

fn a_machine_without_a_local_apic_is_refused() -> Result<(), Failure> {
    let machine = with_arguments(machines::kernel(), &["-cpu", "qemu64,-apic"]);
    refused(
        &machine,
        "kernel: this machine will not do: the CPU has no local APIC",
    )
}

fn a_machine_without_an_hpet_is_refused() -> Result<(), Failure> {
    let machine = with_arguments(machines::kernel(), &["-machine", "hpet=off"]);
    refused(
        &machine,
        "kernel: this machine will not do: the ACPI tables name no HPET",
    )
}

fn boots_with_64_mib() -> Result<(), Failure> {
    let total = total_memory_kib(&Machine {
        memory: "64M".into(),
        ..machines::kernel()
    })?;
    if (48..=64).contains(&(total / 1024)) {
        Ok(())
    } else {
        Err(format!("{total} KiB").into())
    }
}

fn uses_memory_above_4_gib() -> Result<(), Failure> {
    expect_6_gib(&Machine {
        memory: "6G".into(),
        ..machines::kernel()
    })
}

fn uses_memory_above_4_gib_in_pages_of_1_gib() -> Result<(), Failure> {
    let machine = Machine {
        memory: "6G".into(),
        ..machines::kernel()
    };
    expect_6_gib(&with_arguments(machine, &["-cpu", "max"]))
}

fn expect_6_gib(machine: &Machine) -> Result<(), Failure> {
    let total = total_memory_kib(machine)?;
    // A little is the loader's and the firmware's.
    if (6080..=6144).contains(&(total / 1024)) {
        Ok(())
    } else {
        Err(format!("{total} KiB").into())
    }
}

/// What the kernel says of its memory, after it has used some.
fn total_memory_kib(machine: &Machine) -> Result<u64, Failure> {
    let mut session = Session::start(machine)?;
    session.wait_for_prompt(LIMIT)?;
    let memory = session.command("mem", LIMIT)?;
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")?;
    let line = memory.lines().find_map(|line| line.strip_prefix("total"));
    let total = line.and_then(|line| line.trim().strip_suffix(" KiB"));
    Ok(total.ok_or(format!("no total in {memory:?}"))?.parse()?)
}

fn boots_without_qboot() -> Result<(), Failure> {
    let machine = with_arguments(machines::guest("list"), &["-bios", "bios-256k.bin"]);
    machines::expect(&machines::run(&machine)?, Outcome::Passed, "guest-test ")
}

fn passes_the_command_line() -> Result<(), Failure> {
    let ended = machines::run(&machines::guest("some words test=no,such=test some=more"))?;
    machines::expect(
        &ended,
        Outcome::Failed,
        "there is no test named no,such=test",
    )
}

fn failure_is_recognised() -> Result<(), Failure> {
    let ended = machines::run(&machines::guest("fixture=panic"))?;
    machines::expect(&ended, Outcome::Failed, "asked to, by the harness")?;
    // The report has all that is needed to see what happened, and to try it again.
    let report = ended.to_string();
    for part in [
        "the guest failed",
        "qemu-system-x86_64 ",
        "-append fixture=panic",
        "by the harness",
    ] {
        if !report.contains(part) {
            return Err(format!("{part:?} is missing from the report: {report}").into());
        }
    }
    Ok(())
}

fn triple_fault_is_recognised() -> Result<(), Failure> {
    let ended = machines::run(&machines::guest("fixture=triple-fault"))?;
    machines::expect(&ended, Outcome::TripleFault, "")
}

fn timeout_is_recognised() -> Result<(), Failure> {
    let start = Instant::now();
    let ended = session::run(&machines::guest("fixture=hang"), Duration::from_secs(2))?;
    machines::expect(&ended, Outcome::TimedOut, "")?;
    if start.elapsed() < LIMIT / 2 {
        Ok(())
    } else {
        Err("it took too long".into())
    }
}

fn qemu_error_is_recognised() -> Result<(), Failure> {
    let machine = with_arguments(machines::guest("list"), &["-device", "no-such-device"]);
    let ended = machines::run(&machine)?;
    machines::expect(&ended, Outcome::QemuError, "")?;
    let report = ended.to_string();
    if report.contains("'no-such-device' is not a valid device model name") {
        Ok(())
    } else {
        Err(format!("QEMU's message is missing from the report: {report}").into())
    }
}

fn reset_is_recognised() -> Result<(), Failure> {
    let mut session = Session::start(&machines::kernel())?;
    session.wait_for_prompt(LIMIT)?;
    session.send_line("reboot", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::NoVerdict, "reboot")
}
