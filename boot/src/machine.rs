//! A machine to run, as QEMU's command line.
//!
//! The machine is a q35: its HPET, which the kernel's clocks are set by, is there on every version of
//! QEMU. It is started by qboot where QEMU brings it, which is ready sooner than SeaBIOS and says nothing
//! on the serial line. It has what the command line names and nothing else: no display, no network.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use command_fds::{CommandFdExt, FdMapping};

use crate::artifacts::workspace;
use crate::lifetime;
use crate::requirements::QEMU;

/// The device by which the guest ends QEMU with a verdict.
const EXIT_DEVICE: &str = "isa-debug-exit,iobase=0xf4,iosize=0x04";

/// The port at which debuggers look for QEMU.
const DEBUGGER_PORT: u16 = 1234;

/// The number by which QEMU knows the socket that it is handed: the first after the standard streams.
const SOCKET_FD: i32 = 3;

/// A port of this host at which a debugger is waited for: the usual one, or another one if that is taken.
///
/// QEMU is handed the socket itself. If it were told the number, another process could take the port before QEMU does.
#[derive(Clone, Debug)]
pub struct DebuggerPort {
    socket: Arc<TcpListener>,
    number: u16,
}

impl DebuggerPort {
    /// Takes the port.
    pub fn take() -> io::Result<Self> {
        let host = Ipv4Addr::LOCALHOST;
        let socket =
            TcpListener::bind((host, DEBUGGER_PORT)).or_else(|_| TcpListener::bind((host, 0)))?;
        let number = socket.local_addr()?.port();
        let socket = Arc::new(socket);
        Ok(Self { socket, number })
    }

    /// The port's number.
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Has QEMU listen at it.
    fn hand_over(&self, qemu: &mut Command) -> io::Result<()> {
        let socket = FdMapping {
            parent_fd: self.socket.as_fd().try_clone_to_owned()?,
            child_fd: SOCKET_FD,
        };
        qemu.fd_mappings(vec![socket]).map_err(io::Error::other)?;
        let device = format!("socket,id=debugger,fd={SOCKET_FD},server=on,wait=off");
        qemu.args(["-chardev", &device, "-gdb", "chardev:debugger"]);
        Ok(())
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accel {
    /// KVM where it can be had, else emulation.
    #[default]
    Auto,
    /// Emulation.
    Tcg,
    /// The CPU itself, by KVM.
    Kvm,
}

impl Accel {
    /// What it means on this machine: emulation or KVM.
    fn resolve(self) -> Self {
        match self {
            Self::Auto if has_kvm() => Self::Kvm,
            Self::Auto => Self::Tcg,
            chosen => chosen,
        }
    }
}

/// What the serial line is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The terminal, with QEMU's keys: Ctrl-A X leaves.
    Terminal,
    /// Standard input and output, byte by byte.
    Streams,
}

/// Whether the machine runs at once.
#[derive(Clone, Debug, Default)]
pub enum Debugger {
    /// It runs.
    #[default]
    None,
    /// It waits for a debugger at this port of this host.
    Wait(DebuggerPort),
}

/// A machine to run.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The loader's file.
    pub loader: PathBuf,
    /// The kernel's file.
    pub kernel: Option<PathBuf>,
    /// Number of CPUs.
    pub cpus: u32,
    /// Size of the memory, as QEMU understands it.
    pub memory: String,
    /// The kernel's command line.
    pub append: String,
    /// What executes it.
    pub accel: Accel,
    /// Whether it waits for a debugger.
    pub debugger: Debugger,
    /// More of QEMU's arguments.
    pub extra: Vec<OsString>,
}

impl Machine {
    /// A machine of 2 CPUs and 256 MiB.
    pub fn new(loader: PathBuf, kernel: PathBuf) -> Self {
        Self {
            loader,
            kernel: Some(kernel),
            cpus: 2,
            memory: "256M".into(),
            append: String::new(),
            accel: Accel::default(),
            debugger: Debugger::default(),
            extra: Vec::new(),
        }
    }

    /// QEMU's command line for it. Resets are noted in the log, and end QEMU. It ends with the thread that
    /// starts it, if not before.
    pub fn command(&self, console: Console, log: &ResetLog) -> io::Result<Command> {
        let mut qemu = Command::new(QEMU);
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        qemu.args(["-machine", "q35", "-device", EXIT_DEVICE]);
        match self.accel.resolve() {
            Accel::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            Accel::Auto | Accel::Tcg => qemu.args(["-accel", "tcg"]),
        };
        if has_qboot() {
            qemu.args(["-bios", "qboot.rom"]);
        }
        qemu.args(["-smp", &self.cpus.to_string(), "-m", &self.memory]);
        qemu.args([
            "-serial",
            match console {
                Console::Terminal => "mon:stdio",
                Console::Streams => "stdio",
            },
        ]);
        qemu.arg("-kernel").arg(&self.loader);
        if let Some(kernel) = &self.kernel {
            qemu.arg("-initrd").arg(kernel);
        }
        if !self.append.is_empty() {
            qemu.args(["-append", &self.append]);
        }
        if let Debugger::Wait(port) = &self.debugger {
            qemu.arg("-S");
            port.hand_over(&mut qemu)?;
        }
        qemu.args(["-d", "cpu_reset", "-D"]).arg(&log.path);
        qemu.args(&self.extra);
        lifetime::end_with_parent(&mut qemu);
        Ok(qemu)
    }
}

/// The command as somebody would type it.
pub fn typed(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// The command that attaches a debugger, from any folder. Of our own kernel the debugger knows more, and goes to its beginning:
/// where QEMU waits, nothing of it is there.
pub fn debugger_command(kernel: &Path, owner: Owner, port: u16) -> Command {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
    let mut gdb = Command::new("gdb");
    if owner == Owner::Us {
        gdb.arg("-x")
            .arg(absolute(&workspace().join("kernel/gdb/kmemleak.py")));
    }
    gdb.arg(absolute(kernel));
    gdb.args(["-ex", &format!("target remote localhost:{port}")]);
    if owner == Owner::Us {
        gdb.args(["-ex", "hbreak -qualified kernel::start", "-ex", "continue"]);
    }
    gdb
}

/// Whose kernel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It is the one of this workspace.
    Us,
    /// It is another one.
    Others,
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_./,:=+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The file in which QEMU notes resets; gone when dropped.
///
/// QEMU ends with the same code when the machine resets itself, faults three times or is told to quit.
/// Emulation notes the triple fault.
#[derive(Debug)]
pub struct ResetLog {
    path: PathBuf,
}

impl ResetLog {
    /// A log of its own for one run.
    #[expect(clippy::new_without_default, reason = "each one is another file")]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            path: env::temp_dir().join(format!("qemu-resets-{}-{number}.log", process::id())),
        }
    }

    /// Whether it reports a triple fault.
    pub fn has_triple_fault(&self) -> bool {
        let log = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(&log).contains("Triple fault")
    }
}

impl Drop for ResetLog {
    fn drop(&mut self) {
        // It need not exist: QEMU may not have come that far.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether KVM can be expected to work: the CPU has it and we may use it. That the device opens is
/// not enough: on some machines it does, and KVM fails later.
fn has_kvm() -> bool {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpus
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    flags
        .split_whitespace()
        .any(|flag| matches!(flag, "vmx" | "svm"))
        && OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok()
}

/// Whether QEMU brings qboot.
fn has_qboot() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let output = Command::new(QEMU).args(["-L", "help"]).output();
        let directories = output.map(|output| output.stdout).unwrap_or_default();
        let directories = String::from_utf8_lossy(&directories).into_owned();
        directories
            .lines()
            .any(|directory| Path::new(directory).join("qboot.rom").is_file())
    })
}
