//! What only an x86_64 CPU holds: its descriptor tables, its task state segment, and the stacks that this names.

use kmemleak::{AllocOptions, CpuTables, Reading};
use kmemleak_emulated::{Machine, Place, Stop};

use crate::lab::Lab;

/// A task state segment as CPUs and compilers lay it out: nothing in it is aligned to eight bytes but for the first word.
#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    privilege_stacks: [u64; 3],
    reserved_again: u64,
    interrupt_stacks: [u64; 7],
    reserved_at_the_end: u64,
    reserved_too: u16,
    io_map: u16,
}

const TASK_STATE: usize = size_of::<TaskState>();
const STACK: usize = 4096;

fn write_bytes(machine: &Machine, address: usize, bytes: &[u8]) {
    for (at, &byte) in (address..).zip(bytes) {
        let (word, shift) = (at & !7, 8 * (at % 8));
        let others = machine.read(word) & !(0xff << shift);
        machine.write(word, others | usize::from(byte) << shift);
    }
}

/// The two halves of the descriptor of an available task state segment.
fn task_descriptor(base: usize) -> [u64; 2] {
    let base = base as u64;
    let low =
        (TASK_STATE as u64 - 1) | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    [low, base >> 32]
}

/// The two halves of an interrupt gate.
fn gate(target: usize) -> [u64; 2] {
    let target = target as u64;
    let low = target & 0xffff | 8 << 16 | 0x8e << 40 | (target >> 16 & 0xffff) << 48;
    [low, target >> 32]
}

/// The tables of a CPU, all in blocks that nothing points to.
struct Cpu {
    tables: CpuTables,
    /// The GDT, the IDT, the task state segment, the code of a handler, two stacks.
    blocks: [usize; 6],
}

/// A kernel's CPU, all of whose tables come from the heap. The task state segment begins `offset` bytes inside its block.
fn cpu(lab: &Lab, offset: usize) -> Cpu {
    assert_eq!(std::mem::offset_of!(TaskState, interrupt_stacks), 36);
    let block = |size| lab.block(size);
    let (gdt, idt, task_block) = (block(5 * 8), block(256 * 16), block(TASK_STATE + 8));
    let (code, kernel_stack, exception_stack) = (block(64), block(STACK), block(STACK));
    let task = task_block + offset;
    // Their ends, as kernels write them.
    let pointers = [
        (
            std::mem::offset_of!(TaskState, privilege_stacks),
            kernel_stack,
        ),
        (
            std::mem::offset_of!(TaskState, interrupt_stacks) + 6 * 8,
            exception_stack,
        ),
    ];
    for (at, stack) in pointers {
        write_bytes(&lab.machine, task + at, &(stack + STACK).to_le_bytes());
    }
    let [low, high] = task_descriptor(task);
    let entries = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, low, high];
    for (at, entry) in (gdt..).step_by(8).zip(entries) {
        lab.machine.write(at, entry as usize);
    }
    for (at, half) in (idt + 14 * 16..).step_by(8).zip(gate(code + 16)) {
        lab.machine.write(at, half as usize);
    }
    Cpu {
        tables: CpuTables {
            gdt: gdt..gdt + 5 * 8,
            idt: idt..idt + 256 * 16,
            task_state: Some(task),
        },
        blocks: [gdt, idt, task_block, code, kernel_stack, exception_stack],
    }
}

fn add(lab: &Lab, cpu: &Cpu) -> bool {
    // SAFETY: memory of the machine, which lives longer.
    unsafe { lab.detector.cpu_tables_add(&cpu.tables) }
}

#[test]
fn what_only_a_cpu_holds_is_in_use_once_the_detector_knows_its_tables() {
    for stop in [Stop::Works, Stop::Unsupported] {
        for offset in [0, 4, 8] {
            let lab = Lab::new();
            lab.machine.set_stop(stop);
            // The blocks behind the stacks, to which their ends point, are lost all the same.
            let cpus = [cpu(&lab, offset), cpu(&lab, offset)];
            assert_eq!(lab.leaks().len(), 12);
            assert!(add(&lab, &cpus[0]));
            assert_eq!(lab.leaks(), cpus[1].blocks, "{offset} {stop:?}");
            assert!(add(&lab, &cpus[1]));
            assert_eq!(lab.leaks(), [], "{offset} {stop:?}");
            lab.machine.advance_us(10_000_000);
            assert_eq!(lab.detector.scan().expect("on").listed(), 0);
            lab.detector.cpu_tables_remove(&cpus[0].tables);
            assert_eq!(lab.leaks(), cpus[0].blocks, "{offset} {stop:?}");
            assert_eq!(lab.warnings(), "");
        }
    }
}

#[test]
fn a_stack_pointer_that_changes_counts_as_it_is_now() {
    let lab = Lab::new();
    let cpu = cpu(&lab, 0);
    assert!(add(&lab, &cpu));
    let [.., task, _, kernel_stack, _] = cpu.blocks;
    let next = lab.block(STACK);
    assert_eq!(lab.leaks(), [next]);
    write_bytes(&lab.machine, task + 4, &(next + STACK).to_le_bytes());
    assert_eq!(lab.leaks(), [kernel_stack]);
}

#[test]
fn holders_and_path_name_the_tables() {
    let lab = Lab::new();
    let cpu = cpu(&lab, 0);
    assert!(add(&lab, &cpu));
    let [gdt, idt, task, code, _, exception_stack] = cpu.blocks;
    for (block, slot) in [
        (gdt, gdt),
        (idt, idt),
        (task, gdt + 24),
        (code, idt + 14 * 16),
        (exception_stack, task + 84),
    ] {
        let mut slots = Vec::new();
        let answer = lab
            .detector
            .holders(block, &mut |slot| slots.push(slot.address));
        assert_eq!((answer, slots), (Ok(()), vec![slot]));
    }
    let mut slots = Vec::new();
    let answer = lab
        .detector
        .path(exception_stack, &mut |slot| slots.push(slot.address));
    assert_eq!((answer, slots), (Ok(()), vec![task + 84]));
}

/// Of static tables the heap holds nothing but the stacks; what lies beside them in the section is read as ever.
#[test]
fn tables_in_a_section_leave_the_rest_of_it_as_it_is() {
    let lab = Lab::new();
    let task = lab.machine.address(Place::Data(2)) + 4;
    let (stack, behind, beside) = (lab.block(STACK), lab.block(32), lab.block(32));
    write_bytes(&lab.machine, task + 36, &(stack + STACK).to_le_bytes());
    lab.machine.store(Place::Data(1), beside);
    lab.machine.store(Place::Data(16), behind);
    assert_eq!(lab.leaks(), [stack]);
    let tables = CpuTables {
        task_state: Some(task),
        ..CpuTables::default()
    };
    // SAFETY: memory of the machine.
    assert!(unsafe { lab.detector.cpu_tables_add(&tables) });
    assert_eq!(lab.leaks(), []);
}

/// A table that lies in two pages, with a descriptor across the border.
#[test]
fn a_descriptor_across_pages_is_read() {
    for stop in [Stop::Works, Stop::Unsupported] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let arena = lab.machine.arena(2 * 4096);
        let (gdt, task) = (arena + 4096 - 24, lab.block(TASK_STATE));
        for (at, half) in (gdt + 16..).step_by(8).zip(task_descriptor(task)) {
            lab.machine.write(at, half as usize);
        }
        let tables = CpuTables {
            gdt: gdt..gdt + 32,
            ..CpuTables::default()
        };
        assert_eq!(lab.leaks(), [task]);
        // SAFETY: memory of the machine.
        assert!(unsafe { lab.detector.cpu_tables_add(&tables) });
        assert_eq!(lab.leaks(), [], "{stop:?}");
    }
}

/// Blocks that are read as tables: in their own memory no register of the CPU counts, and behind the segment words are words.
#[test]
fn blocks_may_hold_tables() {
    for stop in [Stop::Works, Stop::Unsupported] {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        let options = AllocOptions::new();
        let (gdt, task) = (lab.block_with(40, options), lab.block(TASK_STATE + 24));
        let (stack, plain) = (lab.block(STACK), lab.block(32));
        for (at, half) in (gdt + 16..).step_by(8).zip(task_descriptor(task)) {
            lab.machine.write(at, half as usize);
        }
        write_bytes(&lab.machine, task + 36, &(stack + STACK).to_le_bytes());
        lab.machine.write(task + TASK_STATE + 8, plain);
        lab.detector.read_as(gdt, Reading::DescriptorTable);
        lab.detector.read_as(task, Reading::TaskState);
        assert_eq!(lab.leaks(), [gdt, task, stack, plain], "{stop:?}");
        lab.hold(0, gdt);
        assert_eq!(lab.leaks(), [], "{stop:?}");
    }
}

#[test]
fn tables_that_find_no_room_make_verdicts_incomplete() {
    let lab = Lab::new();
    let cpu = cpu(&lab, 0);
    lab.detector.exhaust_metadata(true);
    assert!(!add(&lab, &cpu));
    lab.detector.exhaust_metadata(false);
    assert_eq!(lab.detector.check().expect("on").unrecorded, 3);
}

/// Neither the CPU nor a compiler needs a table to be aligned.
#[test]
fn a_descriptor_in_two_pages_is_read_whole() {
    const PAGE: usize = 4096;
    for stop in [Stop::Works, Stop::Unsupported] {
        for in_first_page in 1..16 {
            if cfg!(miri) && in_first_page % 8 != 0 {
                // Words are foreign there, and no part of one is read.
                continue;
            }
            let lab = Lab::new();
            lab.machine.set_stop(stop);
            let arena = lab.machine.arena(3 * PAGE);
            let table = arena + PAGE - 8 - in_first_page;
            let code = lab.block(64);
            for (at, half) in (table + 8..).step_by(8).zip(gate(code + 16)) {
                write_bytes(&lab.machine, at, &half.to_le_bytes());
            }
            let reading = Reading::DescriptorTable;
            assert!(lab.detector.region_add_as(table, 24, reading));
            assert_eq!(lab.leaks(), [], "{in_first_page} {stop:?}");
            lab.detector.region_remove(table);
            // The same in a block.
            lab.detector.alloc(table, 24, AllocOptions::new());
            lab.hold(0, table);
            lab.detector.read_as(table, reading);
            assert_eq!(lab.leaks(), [], "{in_first_page} {stop:?}");
        }
    }
}
