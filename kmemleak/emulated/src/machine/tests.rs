//! Tests of the border of the machine's memory.

use super::*;

#[test]
fn words_of_the_machine_are_read_and_written() {
    let machine = Machine::new();
    let block = machine.slab(64);
    let ends = [
        machine.address(Place::Bss(WORDS - 1)),
        block,
        block + 56,
        machine.arena(PAGE),
    ];
    for address in ends {
        machine.write(address, 7);
        assert_eq!(machine.read(address), 7);
    }
}

#[test]
fn other_words_are_not() {
    let machine = Machine::new();
    let own = machine.address(Place::Data(0));
    let on_the_stack = std::ptr::from_ref(&own).expose_provenance();
    for address in [0, 8, own + 4, on_the_stack, usize::MAX - 7] {
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.read(address)));
        assert!(read.is_err(), "{address:#x}");
    }
}
