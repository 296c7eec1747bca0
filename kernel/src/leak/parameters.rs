//! Boot parameters: the detector's, and the one beside them that is the kernel's own.

use kmemleak::ParameterError;

use super::hooks::KMEMLEAK;
use crate::{cmdline, mm};

/// Takes them.
pub fn init() {
    for word in cmdline::words().filter(|word| word.starts_with("kmemleak")) {
        // As the detector's: a switch without a value is switched on.
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
            // The detector ends with the list of those that it knows.
            Err(error @ ParameterError::Unknown) => {
                crate::println!("{word}: {error}, kmemleak.wipe=on|off");
            }
            Err(error) => crate::println!("{word}: {error}"),
        }
    }
}
