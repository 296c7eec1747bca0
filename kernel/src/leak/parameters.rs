//! Boot parameters of the detector, and `kmemleak.wipe`, which is the kernel's own.

use kmemleak::ParameterError;

use super::hooks::KMEMLEAK;
use crate::{cmdline, mm};

/// Applies the parameters of the command line, and prints those that are wrong.
pub fn init() {
    for word in cmdline::words().filter(|word| word.starts_with("kmemleak")) {
        // A switch without a value is on, as with the detector's own parameters.
        let taken = match word.split_once('=').unwrap_or((word, "on")) {
            ("kmemleak.wipe", "on") => {
                mm::set_wipe(mm::Wipe::OnFree);
                Ok(())
            }
            ("kmemleak.wipe", "off") => {
                mm::set_wipe(mm::Wipe::Never);
                Ok(())
            }
            ("kmemleak.wipe", _) => Err(ParameterError::Value),
            _ => KMEMLEAK.boot_parameter(word),
        };
        match taken {
            Ok(()) => {}
            // The error's text ends with the list of parameters that the detector knows.
            Err(error @ ParameterError::Unknown) => {
                crate::println!("{word}: {error}, kmemleak.wipe=on|off");
            }
            Err(error) => crate::println!("{word}: {error}"),
        }
    }
}
