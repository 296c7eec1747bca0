//! A child that ends with its parent.
//!
//! QEMU goes on when the process that drives it is killed: the end of its input does not end the guest,
//! and it would run on unnoticed. Linux can be asked to end it; elsewhere it is left running.

use std::process::Command;

/// Has the kernel end the command's process when the thread that starts it is gone.
#[cfg(target_os = "linux")]
pub fn end_with_parent(command: &mut Command) {
    use std::io;
    use std::os::unix::process::CommandExt;

    let ask = || {
        // SAFETY: this call takes plain numbers and affects the calling process alone.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec only the system call is made: no lock, no allocation.
    unsafe { command.pre_exec(ask) };
}

/// Does nothing: only Linux ends a child with its parent.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent(_: &mut Command) {}
