//! Boot parameters.

use core::fmt;

use super::values::{stacks, switch};
use crate::checker::claim::{Nested, NotDone};
use crate::checker::handle::Handle;
use crate::front::background;
use crate::platform::Platform;
use crate::verdict::suppress::SuppressError;

/// Why a boot parameter was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// There is no parameter of that name.
    Unknown,
    /// The parameter takes other values.
    Value,
    /// A suppression that was not added.
    Suppress(SuppressError),
    /// It was given by code that the detector calls: see [`NotDone::Nested`].
    Nested,
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => {
                "unknown parameter; there are kmemleak=on|off, kmemleak.scan=SECS, kmemleak.stop_max_ms=N, kmemleak.verbose=on|off, kmemleak.stacks=on|off|sample:BYTES, kmemleak.free_stacks=on|off, kmemleak.color=on|off, kmemleak.suppress=PATTERN[:max=N]"
            }
            Self::Value => "a value that the parameter does not take",
            Self::Suppress(error) => return error.fmt(f),
            Self::Nested => return NotDone::Nested.fmt(f),
        })
    }
}

impl core::error::Error for ParameterError {}

/// Takes a boot parameter.
pub(in crate::front) fn take<P: Platform>(
    handle: Handle<'_, P>,
    word: &str,
) -> Result<(), ParameterError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    // A switch without a value is switched on.
    let on = || switch(value.unwrap_or("on")).ok_or(ParameterError::Value);
    let given = value.ok_or(ParameterError::Value);
    let settings = handle.tracker.settings();
    match name {
        "kmemleak" => match on()? {
            true => {}
            false => handle.turn_off().map_err(|Nested| ParameterError::Nested)?,
        },
        "kmemleak.scan" => {
            let seconds = given?.parse().map_err(|_| ParameterError::Value)?;
            background::set_seconds(handle.tracker, seconds);
        }
        "kmemleak.stop_max_ms" => {
            let ms: u64 = given?.parse().map_err(|_| ParameterError::Value)?;
            settings.stop_max.set(ms.saturating_mul(1000));
        }
        "kmemleak.verbose" => settings.verbose.set(on()?),
        "kmemleak.stacks" => {
            let taken = stacks(given?).ok_or(ParameterError::Value)?;
            handle.tracker.take_stacks(taken);
        }
        "kmemleak.free_stacks" => handle.tracker.keep_free_stacks(on()?),
        "kmemleak.color" => settings.color.set(on()?),
        "kmemleak.suppress" => {
            // One that can't be added does not keep the others from being added.
            let mut all = Ok(());
            for pattern in given?.split(',') {
                let taken = handle.suppress(pattern);
                all = all.and(taken.map_err(ParameterError::Suppress));
            }
            return all;
        }
        _ => return Err(ParameterError::Unknown),
    }
    Ok(())
}
