//! Machines that are not the usual one: few and many CPUs, little and much memory, other chipsets and CPUs. The kernel starts there and
//! finds a leak, or says what is missing. With `--nocapture`, each machine is a row of a table of what came of it.

use std::env;

use boot::machine::Machine;
use boot::outcome::Outcome;
use boot::session::Session;
use qemu_tests::machines::{self, Failure, LIMIT};

crate::tests![
    one_to_eight_cpus,
    sixteen_cpus,
    sixty_four_cpus,
    cpus_that_come_late_are_left_out,
    cpus_without_memory_are_left_out,
    more_cpus_than_there_is_room_for_are_refused,
    sixteen_mib,
    sixteen_gib,
    an_old_chipset,
    an_old_chipset_without_an_hpet_is_refused,
    cpus_of_several_models,
];

/// A machine with so many CPUs, so much memory, and more of QEMU's arguments.
fn machine(cpus: u32, memory: &str, arguments: &[&str]) -> Machine {
    Machine {
        cpus,
        memory: memory.into(),
        extra: arguments.iter().map(Into::into).collect(),
        ..machines::kernel()
    }
}

/// All CPUs run, a leak is found and no other, and the machine ends with success. Returns what `mem` tells.
fn works(machine: &Machine) -> Result<String, Failure> {
    let mut session = Session::start(machine)?;
    session.wait_for_prompt(LIMIT)?;
    let cpus = session.command("cpus", LIMIT)?;
    let count = cpus
        .lines()
        .filter(|line| line.contains(": apic id "))
        .count();
    if count != machine.cpus as usize {
        return Err(format!("{count} CPUs run: {cpus}").into());
    }
    session.command("leak arc-cycle", LIMIT)?;
    let report = session.command("kmemleak scan", LIMIT)?;
    if !report.contains("kmemleak: 2 unreferenced objects (64 bytes)") {
        return Err(report.into());
    }
    let memory = session.command("mem", LIMIT)?;
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")?;
    let total = total(&memory)?;
    tell(
        machine,
        &format!("{count} CPUs run; {total} KiB; the leak was found"),
    );
    Ok(memory)
}

/// How many KiB there are in all, by what `mem` tells.
fn total(memory: &str) -> Result<u64, Failure> {
    let total = memory.lines().find_map(|line| line.strip_prefix("total"));
    let kib = total.and_then(|line| line.trim().strip_suffix(" KiB"));
    Ok(kib.ok_or(format!("no total in {memory:?}"))?.parse()?)
}

/// Prints a row of the table, if output is asked for.
fn tell(machine: &Machine, outcome: &str) {
    if !env::args().any(|argument| argument == "--nocapture") {
        return;
    }
    let extra: Vec<_> = machine
        .extra
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    println!(
        "| {} | {} | {} | {outcome} |",
        machine.cpus,
        machine.memory,
        extra.join(" ")
    );
}

fn refused(machine: &Machine, reason: &str) -> Result<(), Failure> {
    let told = format!("kernel: this machine will not do: {reason}");
    machines::expect(&machines::run(machine)?, Outcome::Failed, &told)?;
    tell(machine, &told);
    Ok(())
}

fn one_to_eight_cpus() -> Result<(), Failure> {
    [1, 2, 3, 8]
        .into_iter()
        .try_for_each(|cpus| works(&machine(cpus, "256M", &[])).map(drop))
}

fn sixteen_cpus() -> Result<(), Failure> {
    works(&machine(16, "256M", &[])).map(drop)
}

fn sixty_four_cpus() -> Result<(), Failure> {
    works(&machine(64, "512M", &[])).map(drop)
}

/// Where CPUs get no time to begin, each is either up, or said to be missing; what comes late disturbs nobody.
fn cpus_that_come_late_are_left_out() -> Result<(), Failure> {
    for _ in 0..3 {
        let hurried = Machine {
            append: "smp.wait_ms=0".into(),
            ..machine(16, "256M", &[])
        };
        let (run, told) = starts_and_works(&hurried)?;
        let missing = told.matches(": did not come up").count();
        if run + missing != 16 {
            return Err(format!("{run} CPUs run, {missing} are missing: {told}").into());
        }
    }
    Ok(())
}

/// CPUs for which there is no memory are given up, with what was taken for them, and the machine goes on.
fn cpus_without_memory_are_left_out() -> Result<(), Failure> {
    let (run, told) = starts_and_works(&machine(64, "17M", &[]))?;
    match told.contains(" are to be left for tasks; no more CPUs are started") {
        true if (2..64).contains(&run) => Ok(()),
        _ => Err(format!("{run} CPUs run: {told}").into()),
    }
}

/// Returns how many CPUs run, and what is printed until the prompt. A leak is found and no other.
fn starts_and_works(machine: &Machine) -> Result<(usize, String), Failure> {
    let mut session = Session::start(machine)?;
    let boot = session.wait_for_prompt(LIMIT)?;
    let cpus = session.command("cpus", LIMIT)?;
    session.command("leak arc-cycle", LIMIT)?;
    let report = session.command("kmemleak scan", LIMIT)?;
    if !report.contains("kmemleak: 2 unreferenced objects (64 bytes)") {
        return Err(report.into());
    }
    session.send_line("exit", LIMIT)?;
    machines::expect(&session.finish(LIMIT), Outcome::Passed, "")?;
    let run = cpus.matches(": apic id ").count();
    tell(machine, &format!("{run} CPUs run; the leak was found"));
    Ok((run, boot))
}

fn more_cpus_than_there_is_room_for_are_refused() -> Result<(), Failure> {
    let reason = "it has 67 CPUs, and the kernel has room for 64";
    refused(&machine(67, "512M", &[]), reason)
}

fn sixteen_mib() -> Result<(), Failure> {
    works(&machine(1, "16M", &[])).map(drop)
}

fn sixteen_gib() -> Result<(), Failure> {
    let kib = total(&works(&machine(2, "16G", &[]))?)?;
    // A little is the loader's, the firmware's, and that of the frames' descriptors.
    match (16_200..=16_384).contains(&(kib / 1024)) {
        true => Ok(()),
        false => Err(format!("{kib} KiB").into()),
    }
}

/// The chipset before q35, started by SeaBIOS.
const OLD: [&str; 4] = ["-machine", "pc", "-bios", "bios-256k.bin"];

fn an_old_chipset() -> Result<(), Failure> {
    [1, 3]
        .into_iter()
        .try_for_each(|cpus| works(&machine(cpus, "256M", &OLD)).map(drop))
}

fn an_old_chipset_without_an_hpet_is_refused() -> Result<(), Failure> {
    let arguments = ["-machine", "pc,hpet=off", "-bios", "bios-256k.bin"];
    let reason = "the ACPI tables name no HPET, by which the clock is set";
    refused(&machine(2, "256M", &arguments), reason)
}

/// The oldest with 64 bits, the newest, and the newest without its new interrupt controller.
fn cpus_of_several_models() -> Result<(), Failure> {
    ["qemu64", "max", "max,-x2apic"]
        .into_iter()
        .try_for_each(|cpu| {
            works(&machine(2, "256M", &["-cpu", cpu]))
                .map_err(|error| format!("{cpu}: {error}"))?;
            Ok(())
        })
}
