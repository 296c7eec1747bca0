//! What the firmware reports of the machine, read from the ACPI tables once at boot.

use core::fmt;
use core::ptr::NonNull;

use acpi::hpet::HpetInfo;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiError, AcpiHandler, AcpiTables, PhysicalMapping};
use arrayvec::{ArrayVec, CapacityError};

use crate::arch::memory;
use crate::arch::percpu::MAX_CPUS;

/// The legacy interrupt of the first serial port.
const SERIAL_IRQ: u8 = 4;

/// The parts of the machine that the kernel uses.
#[derive(Debug)]
pub struct Machine {
    /// APIC numbers of the CPUs that can be started, in the firmware's order.
    pub apic_ids: ArrayVec<u32, MAX_CPUS>,
    /// Physical address of the local APICs' registers.
    pub local_apic: u64,
    /// Physical address of the first I/O APIC's registers.
    pub io_apic: u64,
    /// The I/O APIC's input to which the serial port's interrupt is wired.
    pub serial_input: u8,
    /// Physical address of the HPET's registers.
    pub hpet: u64,
}

/// Why the kernel can't run on this machine.
#[derive(Debug)]
pub enum MachineError {
    /// The boot loader gave no root pointer.
    NoRootPointer,
    /// A table is missing or broken.
    Tables(AcpiError),
    /// There is no I/O APIC.
    NoIoApic,
    /// The CPU has no local APIC.
    NoLocalApic,
    /// It has so many CPUs, more than [`MAX_CPUS`].
    TooManyCpus(usize),
    /// There is no HPET.
    NoHpet,
    /// The registers are not those of an HPET: they give this period of a count, in femtoseconds.
    NoHpetThere(u64),
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRootPointer => f.write_str("the boot loader found no ACPI root pointer"),
            Self::Tables(error) => write!(f, "ACPI tables: {error:?}"),
            Self::NoIoApic => f.write_str("the ACPI tables name no I/O APIC"),
            Self::NoLocalApic => {
                f.write_str("the CPU has no local APIC, which ticks and interrupts other CPUs")
            }
            Self::TooManyCpus(cpus) => write!(
                f,
                "it has {cpus} CPUs, and the kernel has room for {MAX_CPUS}"
            ),
            Self::NoHpet => f.write_str("the ACPI tables name no HPET, by which the clock is set"),
            Self::NoHpetThere(fs) => write!(
                f,
                "no HPET where the ACPI tables have one: a period of {fs} fs"
            ),
        }
    }
}

impl From<AcpiError> for MachineError {
    fn from(error: AcpiError) -> Self {
        Self::Tables(error)
    }
}

/// Gives access to the tables through the window on physical memory, in which this function shows them.
#[derive(Clone, Debug)]
struct Window(fn(u64, usize));

impl AcpiHandler for Window {
    unsafe fn map_physical_region<T>(
        &self,
        address: usize,
        len: usize,
    ) -> PhysicalMapping<Self, T> {
        let start = NonNull::new(core::ptr::with_exposed_provenance_mut(memory::window(
            address as u64,
        )))
        .expect("the window does not begin at zero");
        (self.0)(address as u64, len);
        // SAFETY: the window shows these addresses now, permanently.
        unsafe { PhysicalMapping::new(address, start, len, len, self.clone()) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

impl Machine {
    /// Reads the tables, starting at the root pointer's physical address. `show` makes the window show the bytes at a physical address.
    pub fn read(root_pointer: Option<u64>, show: fn(u64, usize)) -> Result<Self, MachineError> {
        if !has_local_apic() {
            return Err(MachineError::NoLocalApic);
        }
        let root_pointer = root_pointer.ok_or(MachineError::NoRootPointer)?;
        // SAFETY: the boot loader says that the root pointer is there.
        let tables = unsafe { AcpiTables::from_rsdp(Window(show), root_pointer as usize) }?;
        let madt = tables.find_table::<Madt>()?;
        let mut machine = Self {
            apic_ids: ArrayVec::new(),
            local_apic: u64::from(madt.get().local_apic_address),
            io_apic: 0,
            serial_input: SERIAL_IRQ,
            hpet: hpet(&tables)?,
        };
        let mut left_out = 0;
        for entry in madt.get().entries() {
            left_out += usize::from(machine.note(&entry).is_err());
        }
        if left_out > 0 {
            return Err(MachineError::TooManyCpus(MAX_CPUS + left_out));
        }
        if machine.io_apic == 0 {
            return Err(MachineError::NoIoApic);
        }
        Ok(machine)
    }

    /// Notes what an entry says. An error if it is a CPU for which there is no room.
    fn note(&mut self, entry: &MadtEntry<'_>) -> Result<(), CapacityError<u32>> {
        const ENABLED: u32 = 1;
        match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & ENABLED != 0 => {
                self.apic_ids.try_push(u32::from(cpu.apic_id))?;
            }
            MadtEntry::LocalX2Apic(cpu) if cpu.flags & ENABLED != 0 => {
                self.apic_ids.try_push(cpu.x2apic_id)?;
            }
            MadtEntry::IoApic(io_apic) if io_apic.global_system_interrupt_base == 0 => {
                self.io_apic = u64::from(io_apic.io_apic_address);
            }
            MadtEntry::InterruptSourceOverride(wire) if wire.irq == SERIAL_IRQ => {
                self.serial_input = wire.global_system_interrupt as u8;
            }
            MadtEntry::LocalApicAddressOverride(apic) => self.local_apic = apic.local_apic_address,
            _ => {}
        }
        Ok(())
    }
}

fn hpet(tables: &AcpiTables<Window>) -> Result<u64, MachineError> {
    match HpetInfo::new(tables) {
        Ok(hpet) => Ok(hpet.base_address as u64),
        Err(AcpiError::TableMissing(_)) => Err(MachineError::NoHpet),
        Err(error) => Err(error.into()),
    }
}

/// Whether the CPU has a local APIC.
fn has_local_apic() -> bool {
    const APIC: u32 = 1 << 9;
    core::arch::x86_64::__cpuid(1).edx & APIC != 0
}
