//! What an x86_64 CPU alone holds: the addresses in its descriptor tables and task state segments, none of which is a plain word.
//!
//! GDTR, IDTR and TR name the tables; a task state segment names the stacks of interrupts, and its descriptor in the GDT names it, with
//! the address in four pieces. In a kernel that took all of them from its heap nothing else may name them, and they are in use.
//!
//! Pure functions and data, for any target; the instruction that reads the registers is in `arch`. Source: Intel's manual, volume 3, "Protected-Mode Memory Management" (segment descriptors),
//! "Interrupt and Exception Handling" (gates), "Task Management" (the 64-bit TSS).

use core::ops::Range;

use crate::platform::Reading;

/// Bytes of a descriptor, or of the first half of one that has 16.
pub(crate) const DESCRIPTOR_BYTES: usize = 8;

/// Bytes of a task state segment, without the I/O permissions that may follow.
pub(crate) const TASK_STATE_BYTES: usize = 104;

/// Where the stack pointers of a task state segment lie in it: RSP0 to RSP2, IST1 to IST7.
pub(crate) const STACK_POINTERS: [usize; 10] = [4, 12, 20, 36, 44, 52, 60, 68, 76, 84];

/// The bit of a descriptor's first half that says that it is of a code or data segment, which have no base in 64-bit mode.
const SEGMENT: u64 = 1 << 44;
const PRESENT: u64 = 1 << 47;
const TYPE_SHIFT: u32 = 40;

const LOCAL_TABLE: u64 = 0x2;
const AVAILABLE_TASK: u64 = 0x9;
const BUSY_TASK: u64 = 0xb;
const CALL_GATE: u64 = 0xc;
const INTERRUPT_GATE: u64 = 0xe;
const TRAP_GATE: u64 = 0xf;

/// The address in a descriptor of 16 bytes, whose halves these are: the base of a task state segment or a local table, the
/// target of a gate. `None` for all other descriptors, and for one that is not present.
pub(crate) const fn descriptor_address(low: u64, high: u64) -> Option<u64> {
    if low & SEGMENT != 0 || low & PRESENT == 0 {
        return None;
    }
    let bits_24_to_31 = low >> 56 << 24;
    match low >> TYPE_SHIFT & 0xf {
        LOCAL_TABLE | AVAILABLE_TASK | BUSY_TASK => {
            Some(low >> 16 & 0xff_ffff | bits_24_to_31 | high << 32)
        }
        CALL_GATE | INTERRUPT_GATE | TRAP_GATE => Some(low & 0xffff | low >> 48 << 16 | high << 32),
        _ => None,
    }
}

/// Where the tables of an x86_64 CPU lie, which the CPU knows by its registers: for
/// [`Detector::cpu_tables_add`](crate::Detector::cpu_tables_add). On x86_64, with the feature of that name, `CpuTables::loaded` asks
/// the CPU; a kernel may name them itself as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTables {
    /// The global descriptor table (GDTR); empty if there is none.
    pub gdt: Range<usize>,
    /// The interrupt descriptor table (IDTR); empty if there is none.
    pub idt: Range<usize>,
    /// Where the task state segment begins (TR), if there is one.
    pub task_state: Option<usize>,
}

impl CpuTables {
    /// The memory of each: start, length, and how it is read.
    pub(crate) fn regions(&self) -> impl Iterator<Item = (usize, usize, Reading)> {
        let table = |range: &Range<usize>| {
            let len = range.end.saturating_sub(range.start);
            (len > 0).then_some((range.start, len, Reading::DescriptorTable))
        };
        let task_state = |start| (start, TASK_STATE_BYTES, Reading::TaskState);
        let regions = [
            table(&self.gdt),
            table(&self.idt),
            self.task_state.map(task_state),
        ];
        regions.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: u64 = 0xffff_8880_db34_5678;

    #[test]
    fn a_task_state_segments_base_is_put_together() {
        let (low, high) = (0xdb00_8b34_5678_0067, 0xffff_8880);
        assert_eq!(descriptor_address(low, high), Some(ADDRESS));
        let available = low & !(2 << TYPE_SHIFT);
        assert_eq!(descriptor_address(available, high), Some(ADDRESS));
        assert_eq!(descriptor_address(low & !PRESENT, high), None);
    }

    #[test]
    fn a_gates_target_is_put_together() {
        for gate in [CALL_GATE, INTERRUPT_GATE, TRAP_GATE] {
            let low = 0xdb34_8001_0008_5678 | gate << TYPE_SHIFT;
            assert_eq!(descriptor_address(low, 0xffff_8880), Some(ADDRESS));
        }
    }

    #[test]
    fn other_descriptors_hold_no_address() {
        // Null, 64-bit code, data, and the second half of a descriptor of 16 bytes.
        for low in [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0xffff_8880] {
            assert_eq!(descriptor_address(low, u64::MAX), None, "{low:#x}");
        }
    }
}
