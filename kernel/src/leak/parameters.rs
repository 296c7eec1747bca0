//! Boot parameters of the detector, and `kmemleak.wipe` and `kmemleak.poison`, which are the kernel's own.

use kmemleak::ParameterError;

use super::hooks::KMEMLEAK;
use crate::{cmdline, mm};

/// The kernel's own parameters, as the text of an error lists them.
const OWN: &str = "kmemleak.wipe=on|off, kmemleak.poison=on|off";

/// Applies the parameters of the command line, and prints those that are wrong. Called on the boot CPU, before memory is set up.
pub fn init() {
    let mut poison = false;
    for word in cmdline::words().filter(|word| word.starts_with("kmemleak")) {
        // A switch without a value is on, as with the detector's own parameters.
        let taken = match word.split_once('=').unwrap_or((word, "on")) {
            ("kmemleak.wipe", value) => switch(value).map(|wipe| {
                mm::set_wipe(match wipe {
                    true => mm::Wipe::OnFree,
                    false => mm::Wipe::Never,
                });
            }),
            ("kmemleak.poison", value) => switch(value).map(|value| poison = value),
            _ => KMEMLEAK.boot_parameter(word),
        };
        match taken {
            Ok(()) => {}
            // The error's text ends with the list of parameters that the detector knows.
            Err(error @ ParameterError::Unknown) => crate::println!("{word}: {error}, {OWN}"),
            Err(error) => crate::println!("{word}: {error}"),
        }
    }
    if !KMEMLEAK.is_on() {
        mm::slab::leave_no_gaps();
    }
    if poison && let Err(error) = mm::slab::switch_poison_on() {
        crate::println!("kmemleak.poison: {error}");
    }
}

fn switch(value: &str) -> Result<bool, ParameterError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(ParameterError::Value),
    }
}
