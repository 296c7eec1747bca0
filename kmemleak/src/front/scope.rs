//! Leaks of a span of time: for tests that are to fail if what they ran lost memory.
//!
//! A scope remembers what is lost when it begins, and checks again when it ends: what is lost then and was not
//! before, whoever allocated it and whenever, leaked inside. Scopes may overlap and nest.
//!
//! What is done here is done [apart](Platform::scan_apart): a name that was read in one scope lies in the frames on
//! which the next one's check stands, and would be a reference.

use core::fmt::{self, Debug, Display, Formatter, Write};
use core::sync::atomic::Ordering;

use spin::mutex::SpinMutex;

use crate::checker::claim::{Claim, NotDone};
use crate::front::report::Count;
use crate::marker::GivenUp;
use crate::metadata::{Class, MetaAlloc, Piece, Pieces, WORD};
use crate::platform::Platform;
use crate::tracker::Detector;
use crate::verdict::Summary;
use crate::verdict::baseline::Baseline;

/// A span of time, from which only what leaked inside it is told. Made by [`Detector::scope`].
///
/// It remembers what is lost when it begins, and checks again when it [ends](Self::finish): what is lost then and was not
/// before leaked inside, whoever allocated it and whenever. Scopes may overlap and nest.
#[must_use = "a scope that is not finished checks nothing"]
pub struct Scope<'d, P: Platform> {
    detector: &'d Detector<P>,
    before: SpinMutex<Baseline>,
    /// Why nothing can be said, if so.
    trouble: Option<NotDone>,
}

impl<P: Platform> Detector<P> {
    /// Begins a scope: a check, whose leaks are not the scope's. Task context, with no lock held.
    pub fn scope(&self) -> Scope<'_, P> {
        self.borrowed.fetch_add(1, Ordering::Relaxed);
        let mut scope = Scope {
            detector: self,
            before: SpinMutex::new(Baseline::new()),
            trouble: None,
        };
        scope.trouble = scope.begin().err();
        scope
    }
}

impl<'d, P: Platform> Scope<'d, P> {
    /// Remembers what is lost already.
    fn begin(&mut self) -> Result<(), NotDone> {
        let claim = self.detector.claim_on()?;
        let remembered = claim.apart(|| {
            claim.check_now()?;
            Ok(claim.remember_all(self.before.get_mut()))
        });
        match remembered {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotDone::NoMemory),
            Err(GivenUp) => Err(NotDone::Stopped),
        }
    }

    /// Ends it: a check, and what leaked inside. An error also where that can't be told, since the detector is off,
    /// memory is short, something [could not be recorded](Summary::unrecorded) (which may be what leaked), or what the check
    /// lists that was not there before are suspects: then no objects are said to have [leaked](Leaked::objects). Task
    /// context, with no lock held.
    pub fn finish(self) -> Result<(), Leaked<'d, P>> {
        let detector = self.detector;
        detector.borrowed.fetch_add(1, Ordering::Relaxed);
        let mut leaked = Leaked {
            objects: 0,
            bytes: 0,
            suspects: 0,
            unrecorded: 0,
            detector,
            text: SpinMutex::new(Text::new()),
        };
        if let Err(trouble) = self.end(&mut leaked) {
            let why: &dyn Display = match trouble {
                NotDone::NoMemory => &"no memory to remember what was lost before",
                _ => &trouble,
            };
            // As in `tell`.
            let _ = write!(
                Writer { leaked: &leaked },
                "kmemleak: what leaked can't be told: {why}"
            );
            return Err(leaked);
        }
        // What has no record is listed nowhere: that nothing is listed proves nothing then.
        if leaked.objects + leaked.suspects == 0 && leaked.unrecorded == 0 {
            Ok(())
        } else {
            Err(leaked)
        }
    }

    /// Finds what leaked.
    fn end(&self, leaked: &mut Leaked<'d, P>) -> Result<(), NotDone> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let claim = self.detector.claim_on()?;
        let told = claim.apart(|| {
            let summary = claim.check_now()?;
            self.tell(&claim, &summary, leaked);
            Ok(())
        });
        told.map_err(|GivenUp| NotDone::Stopped)
    }

    /// Writes what the check found that was not lost before.
    fn tell(&self, claim: &Claim<'_, P>, summary: &Summary, leaked: &mut Leaked<'d, P>) {
        let _outside = claim.outside();
        let mut out = Writer { leaked };
        let (mut objects, mut bytes) = (0, 0);
        claim.each_new(self.before.lock().cursor(), &mut |named, index| {
            objects += 1;
            bytes += claim.size_of(named);
            // What does not fit is left out, and said so.
            let _ = claim.write_leak(named, index, &mut out);
        });
        let _ = match summary.doubt() {
            None => write!(
                out,
                "kmemleak: {} ({bytes} bytes) leaked",
                Count(objects, "object")
            ),
            Some(doubt) => write!(
                out,
                "kmemleak: whether anything leaked can't be told: {} ({bytes} bytes); {doubt}",
                Count(objects, "suspect")
            ),
        };
        match summary.doubt() {
            None => (leaked.objects, leaked.bytes) = (objects, bytes),
            Some(_) => (leaked.suspects, leaked.unrecorded) = (objects, summary.unrecorded),
        }
    }
}

impl<P: Platform> Drop for Scope<'_, P> {
    fn drop(&mut self) {
        let detector = self.detector;
        detector.without_interrupts(|meta| self.before.lock().clear(meta));
        detector.borrowed.fetch_sub(1, Ordering::Release);
    }
}

/// What leaked in a scope, or why that can't be told: its `Display` is the report.
pub struct Leaked<'d, P: Platform> {
    objects: usize,
    bytes: usize,
    suspects: usize,
    /// What could not be recorded, and may have leaked.
    unrecorded: u64,
    detector: &'d Detector<P>,
    text: SpinMutex<Text>,
}

impl<P: Platform> Leaked<'_, P> {
    /// Objects that leaked; none if it can't be told.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Objects that may have leaked, or not: the check's are no leaks but suspects ([`Doubt`](crate::Doubt)).
    pub fn suspects(&self) -> usize {
        self.suspects
    }
}

impl<P: Platform> Display for Leaked<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.text.lock().write_to(f)
    }
}

impl<P: Platform> Debug for Leaked<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl<P: Platform> core::error::Error for Leaked<'_, P> {}

impl<P: Platform> Drop for Leaked<'_, P> {
    fn drop(&mut self) {
        let detector = self.detector;
        detector.without_interrupts(|meta| self.text.lock().clear(meta));
        detector.borrowed.fetch_sub(1, Ordering::Release);
    }
}

struct Writer<'l, 'd, P: Platform> {
    leaked: &'l Leaked<'d, P>,
}

impl<P: Platform> Write for Writer<'_, '_, P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let leaked = self.leaked;
        leaked
            .detector
            .without_interrupts(|meta| leaked.text.lock().push(text, meta));
        Ok(())
    }
}

/// Text in pieces of metadata: a panic has no allocator to ask. The first word of a piece is its bytes, the second
/// leads to the next one.
struct Text {
    pieces: Pieces,
    /// Bytes that found no room.
    lost: usize,
}

const CLASS: Class = Class::LARGEST;
const HEAD: usize = 2;
const BYTES: usize = (CLASS.words() - HEAD) * WORD;

impl Text {
    const fn new() -> Self {
        Self {
            pieces: Pieces::new(CLASS),
            lost: 0,
        }
    }

    fn push(&mut self, text: &str, meta: &MetaAlloc<'_>) {
        for character in text.chars() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            // No character is parted, so that each piece is text.
            let room = |piece: Piece| BYTES - piece.get(0) as usize;
            let last = self.pieces.last();
            let last = last.filter(|&piece| room(piece) >= bytes.len());
            let Some(piece) = last.or_else(|| self.pieces.append(meta)) else {
                self.lost += bytes.len();
                continue;
            };
            for &byte in bytes {
                let at = piece.get(0) as usize;
                piece.set(0, at as u64 + 1);
                let (word, shift) = (HEAD + at / WORD, 8 * (at % WORD));
                let others = piece.get(word) & !(0xff << shift);
                piece.set(word, others | u64::from(byte) << shift);
            }
        }
    }

    fn write_to(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for piece in self.pieces.each() {
            let len = piece.get(0) as usize;
            let mut bytes = [0; BYTES];
            for (at, byte) in bytes.iter_mut().enumerate().take(len) {
                *byte = (piece.get(HEAD + at / WORD) >> (8 * (at % WORD))) as u8;
            }
            f.write_str(core::str::from_utf8(&bytes[..len]).unwrap_or("?"))?;
        }
        if self.lost > 0 {
            write!(f, "\nkmemleak: no memory for {} bytes more", self.lost)?;
        }
        Ok(())
    }

    fn clear(&mut self, meta: &MetaAlloc<'_>) {
        self.pieces.clear(meta);
        self.lost = 0;
    }
}

/// Runs an expression, or a block, and gives its value; panics with the report if memory leaked meanwhile, and with the
/// reason if that can't be told.
///
/// The first argument is the [`Detector`]. What the value owns is no leak as long as the caller's stack is a root. What
/// leaks meanwhile counts, whoever allocated it: nothing else should lose memory at the same time. A body that leaves by
/// `return`, `break` or `?` is not checked.
///
/// ```
/// # use kmemleak::{Detector, IrqState, Platform, Root, RootCursor, assert_no_leaks};
/// # struct Kernel;
/// # // SAFETY: there are no roots, and there is one thread.
/// # unsafe impl Platform for Kernel {
/// #     fn now_us(&self) -> u64 { 1 }
/// #     fn irq_save(&self) -> IrqState { IrqState(0) }
/// #     fn irq_restore(&self, _: IrqState) {}
/// #     fn next_root(&self, _: &mut RootCursor) -> Option<Root> { None }
/// # }
/// # static KMEMLEAK: Detector<Kernel> = Detector::new(Kernel);
/// # fn driver_probe() -> u32 { 5 }
/// let value = assert_no_leaks!(KMEMLEAK, driver_probe());
/// assert_eq!(value, 5);
/// ```
#[macro_export]
macro_rules! assert_no_leaks {
    ($detector:expr, $body:expr) => {{
        let scope = $detector.scope();
        let value = $body;
        if let Err(leaked) = scope.finish() {
            panic!("{leaked}");
        }
        value
    }};
}
