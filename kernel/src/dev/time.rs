//! The clock: the time stamp counter, its rate measured against the HPET.
//!
//! The HPET gives its own rate, so the difference of two readings of it is a time, no matter how long the measuring was held
//! up. A one-shot of the PIT has no such readings (on a busy host it was wrong by a factor of three). At both ends of the
//! interval the two counters are read as nearly at one moment as possible: several times, and the quickest reading counts.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::acpi::MachineError;
use crate::arch::mmio::Registers;

/// How long the counters are compared, in microseconds.
const CALIBRATION_US: u64 = 5_000;

/// How many times the counters are read for one moment; the quickest reading counts.
const READINGS: usize = 16;

/// Registers of the HPET (IA-PC HPET Specification 1.0a, 2.3), as offsets in bytes.
const CAPABILITIES: usize = 0x00;
const CONFIGURATION: usize = 0x10;
const MAIN_COUNTER: usize = 0xf0;
const ENABLE: u64 = 1;
/// The longest time between two counts that the specification allows.
const MOST_FS_PER_COUNT: u64 = 0x05f5_e100;

/// Femtoseconds in a microsecond.
const FS_PER_US: u64 = 1_000_000_000;

/// Microseconds of one count of the time stamp counter, times 2^64; zero until it is known. So reading the time, as each
/// allocation does, takes a multiplication and no division.
static US_PER_COUNT: AtomicU64 = AtomicU64::new(0);
static TSC_AT_BOOT: AtomicU64 = AtomicU64::new(0);

/// The CPU's time stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { _rdtsc() }
}

/// Microseconds since the boot; zero before the clock is set up. Any context.
#[inline]
pub fn now_us() -> u64 {
    us(tsc().wrapping_sub(TSC_AT_BOOT.load(Ordering::Relaxed)))
}

/// Converts counts of the time stamp counter to microseconds; zero before the clock is set up. Any context.
#[inline]
pub fn us(counts: u64) -> u64 {
    ((u128::from(counts) * u128::from(US_PER_COUNT.load(Ordering::Relaxed))) >> 64) as u64
}

/// Spins for `us` microseconds. Any context, once the clock is set up.
pub fn spin_us(us: u64) {
    let end = now_us() + us;
    while now_us() < end {
        core::hint::spin_loop();
    }
}

/// The HPET, whose counter measures time.
pub struct Hpet {
    registers: Registers,
    fs_per_count: u64,
}

impl Hpet {
    /// Starts the counter of the HPET at `registers`; fails if they are not those of an HPET.
    pub fn new(registers: Registers) -> Result<Self, MachineError> {
        let mut hpet = Self {
            registers,
            fs_per_count: 0,
        };
        hpet.fs_per_count = hpet.read(CAPABILITIES) >> 32;
        if !(1..=MOST_FS_PER_COUNT).contains(&hpet.fs_per_count) {
            return Err(MachineError::NoHpetThere(hpet.fs_per_count));
        }
        hpet.write(CONFIGURATION, hpet.read(CONFIGURATION) | ENABLE);
        Ok(hpet)
    }

    fn read(&self, register: usize) -> u64 {
        self.registers.read(register)
    }

    fn write(&self, register: usize, value: u64) {
        self.registers.write(register, value);
    }

    /// Spins for about `us` microseconds, and returns how many femtoseconds have really passed, and by how much `other` has
    /// gone up meanwhile.
    pub fn measure(&self, us: u64, other: impl Fn() -> u64) -> (u64, u64) {
        let counts = us * FS_PER_US / self.fs_per_count;
        let start = self.moment(&other);
        // Some HPETs count in 32 bits only, so the differences have 32 bits.
        let passed = |now: u32| u64::from(now.wrapping_sub(start.counter));
        while passed(self.counter()) < counts {
            core::hint::spin_loop();
        }
        let end = self.moment(&other);
        let fs = passed(end.counter) * self.fs_per_count;
        (fs, end.other - start.other)
    }

    fn counter(&self) -> u32 {
        self.read(MAIN_COUNTER) as u32
    }

    /// Reads both counters as nearly at one moment as possible.
    fn moment(&self, other: &impl Fn() -> u64) -> Moment {
        let mut best = Moment {
            counter: 0,
            other: 0,
        };
        let mut least = u64::MAX;
        for _ in 0..READINGS {
            let before = other();
            let counter = self.counter();
            let took = other() - before;
            if took < least {
                least = took;
                best = Moment {
                    counter,
                    other: before + took / 2,
                };
            }
        }
        best
    }
}

/// What the HPET and another counter count at one moment.
struct Moment {
    counter: u32,
    other: u64,
}

/// Sets the clock up.
pub fn init(hpet: &Hpet) {
    let start = tsc();
    let (fs, counts) = hpet.measure(CALIBRATION_US, tsc);
    // Below 2^64, since a count is less than a microsecond on all machines there are.
    let us_per_count = (u128::from(fs) << 64) / (u128::from(counts) * u128::from(FS_PER_US));
    TSC_AT_BOOT.store(start, Ordering::Relaxed);
    US_PER_COUNT.store(us_per_count as u64, Ordering::Relaxed);
}

/// The most that one look at the clock takes from a [`Patience`], in microseconds: many times what a loop round a look takes.
const MOST_AT_ONCE_US: u64 = 100;

/// Time that runs out while this CPU runs.
///
/// A virtual CPU is taken away by its host, for as long as the host likes, and the clock goes on. Who waits for another CPU by the clock gives
/// up then although neither has done anything. So a gap between two looks, which must be frequent, counts for little: where the
/// host is fair, the other CPU has had about as much time as this one.
#[derive(Debug)]
pub struct Patience {
    left_us: u64,
    looked_us: u64,
}

impl Patience {
    /// So many microseconds.
    pub fn new(us: u64) -> Self {
        Self {
            left_us: us,
            looked_us: now_us(),
        }
    }

    /// Whether there is time left. Called over and over, in a loop that does little else. Any context.
    pub fn lasts(&mut self) -> bool {
        let now = now_us();
        let gone = now.saturating_sub(self.looked_us).min(MOST_AT_ONCE_US);
        self.looked_us = now;
        self.left_us = self.left_us.saturating_sub(gone);
        self.left_us > 0
    }
}
