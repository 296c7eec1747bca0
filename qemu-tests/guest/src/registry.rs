//! The registry of the tests, and the choice among them.
//!
//! A link section collects the tests of all modules. The lines that `list` prints are the harness's
//! interface (`qemu-tests/src/guest.rs` reads them):
//!
//! ```text
//! guest-test NAME smp=N,N... passes
//! guest-test NAME smp=N,N... fails TEXT
//! guest-test NAME smp=N,N... with=WORD passes
//! ```
//!
//! `WORD` is a boot parameter.

use core::fmt::{self, Display, Formatter};

use kernel::arch::exit::{ExitCode, exit};
use kernel::{cmdline, println, task};
use linkme::distributed_slice;

use crate::{fixtures, scripts};

/// All tests.
#[distributed_slice]
pub static GUEST_TESTS: [GuestTest];

/// A test that runs in a kernel of its own.
#[derive(Debug)]
pub struct GuestTest {
    /// Its name, with its modules.
    pub name: &'static str,
    /// What it does.
    pub run: fn(),
    /// The numbers of CPUs with which it is run.
    pub smp: &'static [u32],
    /// A boot parameter that it needs; empty if it needs none.
    pub with: &'static str,
    /// How it is to end.
    pub expect: Expect,
}

/// How a test is to end.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// It returns.
    Passes,
    /// It ends the machine with failure, and says so with this text.
    Fails(&'static str),
}

/// Declares a test: a function, with the numbers of CPUs it is run with, and for one that must end the
/// machine with failure, the text that the console must then show. A test with `leaks nothing` fails if it leaks. A test may need
/// a boot parameter.
///
/// ```text
/// guest_test! {
///     /// What must hold.
///     fn blocks_do_not_overlap() smp [1, 4] { ... }
/// }
/// guest_test! {
///     /// What must hold, and what it took must have been given back, or be in use, when it returns.
///     fn a_driver_can_be_removed() smp [2] leaks nothing { ... }
/// }
/// guest_test! {
///     /// What must hold where blocks are poisoned.
///     fn poison_is_no_pointer() smp [2] with "kmemleak.poison=on" { ... }
/// }
/// guest_test! {
///     /// What must be caught.
///     fn double_free_is_told() smp [2] fails "double free" { ... }
/// }
/// ```
#[macro_export]
macro_rules! guest_test {
    ($(#[$meta:meta])* fn $name:ident() smp [$($smp:literal),+] $body:block) => {
        $crate::guest_test!(@ $(#[$meta])* $name [$($smp),+] "" Passes $body);
    };
    ($(#[$meta:meta])* fn $name:ident() smp [$($smp:literal),+] with $with:literal $body:block) => {
        $crate::guest_test!(@ $(#[$meta])* $name [$($smp),+] $with Passes $body);
    };
    ($(#[$meta:meta])* fn $name:ident() smp [$($smp:literal),+] leaks nothing $body:block) => {
        $crate::guest_test!(@ $(#[$meta])* $name [$($smp),+] "" Passes {
            kmemleak::assert_no_leaks!(kernel::leak::KMEMLEAK, $body)
        });
    };
    ($(#[$meta:meta])* fn $name:ident() smp [$($smp:literal),+] fails $text:literal $body:block) => {
        $crate::guest_test!(@ $(#[$meta])* $name [$($smp),+] "" (Fails($text)) $body);
    };
    (@ $(#[$meta:meta])* $name:ident [$($smp:literal),+] $with:literal $expect:tt $body:block) => {
        $(#[$meta])*
        fn $name() {
            #[linkme::distributed_slice($crate::registry::GUEST_TESTS)]
            static TEST: $crate::registry::GuestTest = $crate::registry::GuestTest {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: $name,
                smp: &[$($smp),+],
                with: $with,
                expect: {
                    use $crate::registry::Expect::*;
                    $expect
                },
            };
            $body
        }
    };
}

impl Display for GuestTest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "guest-test {} smp=", self.name)?;
        for (index, cpus) in self.smp.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{cpus}")?;
        }
        if !self.with.is_empty() {
            write!(f, " with={}", self.with)?;
        }
        match self.expect {
            Expect::Passes => write!(f, " passes"),
            Expect::Fails(text) => write!(f, " fails {text}"),
        }
    }
}

/// The first task: does what the command line says, and ends the machine, or starts the task that does.
pub fn run() {
    if cmdline::words().any(|word| word == "list") {
        GUEST_TESTS.iter().for_each(|test| println!("{test}"));
        exit(ExitCode::Success)
    }
    if cmdline::words().any(|word| word == "scripts") {
        return scripts::start();
    }
    if let Some(name) = cmdline::value("fixture") {
        fixtures::run(name);
    }
    let name = cmdline::value("test")
        .expect("a word of the command line: list, scripts, test= or fixture=");
    match GUEST_TESTS.iter().find(|test| test.name == name) {
        Some(test) => {
            // What the boot has left there is not to be in the test's frame: it may point at what the test plants.
            task::clear_dead_stack();
            (test.run)();
        }
        None => panic!("there is no test named {name}"),
    }
    println!("{name}: returned");
    exit(ExitCode::Success)
}
