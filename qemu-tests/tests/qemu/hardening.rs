//! What the CPUs are told to refuse, on CPUs that can refuse more than the usual one.

use boot::machine::Machine;
use boot::outcome::Outcome;
use qemu_tests::machines::{self, Failure};

crate::tests![
    all_protections_of_a_new_cpu_are_on,
    a_users_code_is_not_run,
    a_users_data_is_not_read,
];

/// The test kernel, told that, with two CPUs of that model.
fn guest_on(cpu: &str, command_line: &str) -> Machine {
    Machine {
        extra: vec!["-cpu".into(), cpu.into()],
        ..machines::guest(command_line)
    }
}

fn all_protections_of_a_new_cpu_are_on() -> Result<(), Failure> {
    let machine = guest_on("max", "test=guest::protection::protections_are_on");
    machines::expect(&machines::run(&machine)?, Outcome::Passed, "")
}

fn a_users_code_is_not_run() -> Result<(), Failure> {
    let machine = guest_on("qemu64,+smep", "fixture=users-code");
    // Present, and an instruction was to be fetched.
    let told = "page fault (vector 14, error code 0x11) at address 0xffffc9";
    machines::expect(&machines::run(&machine)?, Outcome::Failed, told)
}

fn a_users_data_is_not_read() -> Result<(), Failure> {
    let machine = guest_on("qemu64,+smap", "fixture=users-data");
    // Present, and it was to be read.
    let told = "page fault (vector 14, error code 0x1) at address 0xffffc9";
    machines::expect(&machines::run(&machine)?, Outcome::Failed, told)
}
