//! What can be set at run time.
//!
//! Zero bits mean the defaults, so that a detector that nobody has touched takes no room in a kernel's image.
//!
//! # Locks
//!
//! None: each setting is one word, and orders nothing (Relaxed). Any context.

use core::sync::atomic::Ordering::Relaxed;

use crate::atomic::{AtomicBool, AtomicU8, AtomicU64};

/// Something that is on or off.
#[derive(Debug)]
pub(crate) struct Switch(AtomicBool);

impl Switch {
    const fn off() -> Self {
        Self(AtomicBool::new(false))
    }

    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }
}

/// What overrides a switch for a while.
#[derive(Debug)]
pub(crate) struct Override(AtomicU8);

impl Override {
    const NONE: u8 = 0;
    const ON: u8 = 1;
    const OFF: u8 = 2;

    const fn none() -> Self {
        Self(AtomicU8::new(Self::NONE))
    }

    /// Whether it says that something is on; `None` where it says nothing.
    fn get(&self) -> Option<bool> {
        match self.0.load(Relaxed) {
            Self::ON => Some(true),
            Self::OFF => Some(false),
            _ => None,
        }
    }

    pub(crate) fn set(&self, on: Option<bool>) {
        let word = match on {
            Some(true) => Self::ON,
            Some(false) => Self::OFF,
            None => Self::NONE,
        };
        self.0.store(word, Relaxed);
    }
}

/// A time or a span of time, in microseconds of the detector's clock. The word holds the bits in which it differs from `DEFAULT`.
#[derive(Debug)]
pub(crate) struct Microseconds<const DEFAULT: u64>(AtomicU64);

impl<const DEFAULT: u64> Microseconds<DEFAULT> {
    const fn by_default() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed) ^ DEFAULT
    }

    pub(crate) fn set(&self, us: u64) {
        self.0.store(us ^ DEFAULT, Relaxed);
    }
}

/// What a detector's clock shows at its first call.
pub(crate) const FIRST_US: u64 = 1_000_000;

/// All settings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Task stacks are not roots.
    pub(crate) skip_stacks: Switch,
    /// Nothing is scanned in the background.
    pub(crate) background_off: Switch,
    /// The background scan writes whole reports to the log.
    pub(crate) verbose: Switch,
    /// Text has colours, for a person at a terminal.
    pub(crate) color: Switch,
    /// What the options of the command that has the claim say of colours.
    pub(crate) color_of_command: Override,
    /// How long the background task waits between two scans: ten minutes.
    pub(crate) scan_every: Microseconds<600_000_000>,
    /// When it scans next: for the first time after a minute.
    pub(crate) next_scan: Microseconds<{ FIRST_US + 60_000_000 }>,
    /// How long the world may be stopped for confirming suspects: a tenth of a second. Zero: not at all.
    pub(crate) stop_max: Microseconds<100_000>,
    /// The least age of an object that the background scan reports: five seconds.
    pub(crate) min_age: Microseconds<5_000_000>,
}

impl Settings {
    /// The defaults.
    pub(crate) const fn new() -> Self {
        Self {
            skip_stacks: Switch::off(),
            background_off: Switch::off(),
            verbose: Switch::off(),
            color: Switch::off(),
            color_of_command: Override::none(),
            scan_every: Microseconds::by_default(),
            next_scan: Microseconds::by_default(),
            stop_max: Microseconds::by_default(),
            min_age: Microseconds::by_default(),
        }
    }

    /// Whether text has colours now.
    pub(crate) fn has_colours(&self) -> bool {
        let of_command = self.color_of_command.get();
        of_command.unwrap_or_else(|| self.color.is_on())
    }
}
