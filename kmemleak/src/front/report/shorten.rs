//! Names of functions, short enough for a line.
//!
//! Rust writes all generic arguments of a function into its name, with whole paths: hundreds of characters, of which the first
//! and the last few say what it is. So of generic arguments the last segments of their paths are kept, and arguments of arguments
//! become `_`: `kernel::Table::<u64, Box<_>>::insert`. The type and the trait of `<Type as Trait>::function` and of
//! `<impl Trait for Type>` say whose function it is: they stay whole as long as the line has room, and are never left out.
//!
//! Names come in pieces, and are shortened as they come: memory is needed for the result alone.
//!
//! # Invariants
//!
//! - If the brackets of a name pair up, those of the result do, also where it is cut for lack of room, which `…` shows.
//! - What lies outside all brackets is kept, up to the room for a name.

/// Bytes of a name that are kept, cut or not.
const ROOM: usize = 512;
/// What stands for what was cut.
const CUT: char = '…';
/// What stands for generic arguments that are not shown.
const HIDDEN: char = '_';

/// How short a name is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brevity {
    /// Generic arguments are shown, theirs are not.
    Arguments,
    /// The paths of `<Type as Trait>` are shortened too.
    Types,
    /// Generic arguments are not shown.
    Bare,
}

impl Brevity {
    /// How deep generic arguments are shown.
    const fn depth(self) -> usize {
        match self {
            Self::Arguments | Self::Types => 1,
            Self::Bare => 0,
        }
    }

    const fn shorter(self) -> Option<Self> {
        match self {
            Self::Arguments => Some(Self::Types),
            Self::Types => Some(Self::Bare),
            Self::Bare => None,
        }
    }
}

/// What a character does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Opens,
    Closes,
    Other,
}

impl Sort {
    /// Of all but the angles.
    const fn of(letter: char) -> Self {
        match letter {
            '(' | '[' | '{' => Self::Opens,
            ')' | ']' | '}' => Self::Closes,
            _ => Self::Other,
        }
    }
}

/// A name, shortened.
#[derive(Clone, Debug)]
pub(super) struct ShortName {
    text: [u8; ROOM],
    len: usize,
    brevity: Brevity,
    /// The character that came last.
    last: char,
    /// Brackets round a type, as in `<Type as Trait>`, that are open.
    types: usize,
    /// Brackets round generic arguments that are open.
    arguments: usize,
    /// Braces that are open, as in `{closure#0}`.
    braces: usize,
    /// Brackets in the result that are open, of all sorts.
    open: usize,
    /// Where the path begins whose segments come.
    path: Option<usize>,
    /// Where the arguments begin that are hidden once they end, and how many brackets were open there.
    hidden_from: Option<(usize, usize)>,
    /// Whether anything stood in the last brackets that are shown empty.
    hides: bool,
    /// How many brackets have been opened since the name was cut.
    cut: Option<usize>,
}

impl ShortName {
    pub(super) const EMPTY: Self = Self::new(Brevity::Arguments);

    const fn new(brevity: Brevity) -> Self {
        Self {
            text: [0; ROOM],
            len: 0,
            brevity,
            last: ' ',
            types: 0,
            arguments: 0,
            braces: 0,
            open: 0,
            path: None,
            hidden_from: None,
            hides: false,
            cut: None,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        // Whole characters are put in and taken out.
        core::str::from_utf8(&self.text[..self.len]).unwrap_or_default()
    }

    /// Columns that it takes.
    pub(super) fn columns(&self) -> usize {
        self.as_str().chars().count()
    }

    /// Whether what comes next lies outside all brackets.
    pub(super) fn is_outside(&self) -> bool {
        self.types + self.arguments + self.braces == 0
    }

    /// Whether the path of the function, its type and its trait are whole.
    pub(super) fn has_whole_paths(&self) -> bool {
        self.brevity == Brevity::Arguments && self.cut.is_none()
    }

    /// Makes it shorter, if that can be done.
    pub(super) fn shorten(&mut self) -> bool {
        let Some(shorter) = self.brevity.shorter() else {
            return false;
        };
        let mut short = Self::new(shorter);
        self.as_str().chars().for_each(|letter| short.push(letter));
        *self = short;
        true
    }

    /// The next character.
    pub(super) fn push(&mut self, letter: char) {
        let last = core::mem::replace(&mut self.last, letter);
        match letter {
            '<' => self.open_angle(last),
            '>' if last == '-' => self.put(letter, Sort::Other),
            '>' => self.close_angle(),
            _ => {
                self.note_path(letter, last);
                self.put(letter, Sort::of(letter));
            }
        }
    }

    fn is_hidden(&self) -> bool {
        self.arguments > self.brevity.depth() + 1
    }

    /// Arguments stand behind a name; what stands elsewhere between such brackets is a type.
    fn open_angle(&mut self, last: char) {
        let is_type = self.arguments == 0 && !is_of_word(last) && !matches!(last, ':' | '}' | '>');
        self.put('<', Sort::Opens);
        self.path = None;
        if is_type {
            self.types += 1;
            return;
        }
        let depth = self.brevity.depth();
        if self.arguments == depth && self.cut.is_none() {
            self.hidden_from = Some((self.len, self.open));
        } else if self.arguments == depth + 1 {
            self.hides = false;
        }
        self.arguments += 1;
    }

    fn close_angle(&mut self) {
        self.path = None;
        let depth = self.brevity.depth();
        if self.arguments == 0 {
            self.types = self.types.saturating_sub(1);
        } else {
            self.arguments -= 1;
            if self.arguments == depth {
                self.hide();
            } else if self.arguments == depth + 1 && core::mem::take(&mut self.hides) {
                self.append_hidden();
            }
        }
        self.put('>', Sort::Closes);
    }

    /// Leaves out the arguments that end here. `<impl Trait for Type>` is none.
    fn hide(&mut self) {
        let Some((from, open)) = self.hidden_from.take() else {
            return;
        };
        let arguments = self.text.get(from..self.len).unwrap_or_default();
        if arguments.is_empty() || arguments.starts_with(b"impl ") {
            return;
        }
        (self.len, self.open, self.cut) = (from, open, None);
        self.append_hidden();
    }

    /// Of a path that is to be shortened, drops what comes before its last segment. A closure keeps the name of its function.
    fn note_path(&mut self, letter: char, last: char) {
        if self.braces > 0 || self.is_hidden() || self.cut.is_some() {
            return;
        }
        let shortens = self.arguments > 0 || self.types > 0 && self.brevity != Brevity::Arguments;
        match (is_of_word(letter), self.path) {
            (true, Some(path)) if last == ':' && shortens => self.len = path,
            (true, Some(_)) => {}
            (true, None) => self.path = Some(self.len),
            (false, _) if matches!(letter, ':' | '{') => {}
            (false, _) => self.path = None,
        }
    }

    fn put(&mut self, letter: char, sort: Sort) {
        self.show(letter, sort);
        match letter {
            '{' => self.braces += 1,
            '}' => self.braces = self.braces.saturating_sub(1),
            _ => {}
        }
    }

    /// Puts a character into the result, if it is shown and there is room. There is always room for the brackets that close.
    fn show(&mut self, letter: char, sort: Sort) {
        if self.is_hidden() {
            self.hides = true;
        } else if let Some(depth) = self.cut {
            match (sort, depth) {
                (Sort::Closes, 0) => self.close(letter),
                (Sort::Closes, _) => self.cut = Some(depth - 1),
                (Sort::Opens, _) => self.cut = Some(depth + 1),
                (Sort::Other, _) => {}
            }
        } else if sort == Sort::Closes {
            self.close(letter);
        } else {
            self.add(letter, sort);
        }
    }

    /// Adds a character that closes nothing. Where there is no room, the name is made shorter, or else cut.
    fn add(&mut self, letter: char, sort: Sort) {
        let opens = usize::from(sort == Sort::Opens);
        // With room for the brackets that will close, and for the sign of a cut.
        let needed = letter.len_utf8() + self.open + opens + CUT.len_utf8();
        if self.len + needed <= ROOM {
            self.open += opens;
            self.append(letter);
        } else if self.shorten() {
            let last = core::mem::replace(&mut self.last, letter);
            if letter != '<' {
                self.note_path(letter, last);
            }
            // In a shorter name it may be hidden.
            self.show(letter, sort);
        } else {
            if self.len + self.open + CUT.len_utf8() <= ROOM {
                self.append(CUT);
            }
            self.cut = Some(opens);
        }
    }

    /// A bracket that closes. If it was never opened, it is dropped where there is no room.
    fn close(&mut self, letter: char) {
        self.open = self.open.saturating_sub(1);
        if self.len + letter.len_utf8() + self.open <= ROOM {
            self.append(letter);
        }
    }

    /// Puts the sign for hidden arguments between their brackets, if there is room.
    fn append_hidden(&mut self) {
        if self.cut.is_none() && self.len + HIDDEN.len_utf8() + self.open <= ROOM {
            self.append(HIDDEN);
        }
    }

    fn append(&mut self, letter: char) {
        let end = self.len + letter.len_utf8();
        if let Some(room) = self.text.get_mut(self.len..end) {
            letter.encode_utf8(room);
            self.len = end;
        }
    }
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$' | '.' | '#')
}

#[cfg(test)]
mod tests {
    use super::{ROOM, ShortName};

    /// A name as it is kept, and as short as it can be made for so many columns.
    fn short(name: &str, columns: usize) -> ShortName {
        let mut short = ShortName::EMPTY;
        name.chars().for_each(|letter| short.push(letter));
        while short.columns() > columns && short.shorten() {}
        short
    }

    /// Names from a kernel's symbol table, and how they are written in at most 100 columns.
    #[test]
    fn generic_arguments_are_shortened() {
        for (name, expected) in [
            ("kernel::net::open", "kernel::net::open"),
            (
                "kernel::net::open::{{closure}}",
                "kernel::net::open::{{closure}}",
            ),
            (
                "hashbrown::map::HashMap<u64,alloc::boxed::Box<kernel::task::Task>,foldhash::Fast>::insert",
                "hashbrown::map::HashMap<u64,Box<_>,Fast>::insert",
            ),
            (
                "<hashbrown::map::HashMap<u64, alloc::boxed::Box<kernel::task::Task>>>::insert",
                "<hashbrown::map::HashMap<u64, Box<_>>>::insert",
            ),
            (
                "alloc::raw_vec::finish_grow::<alloc::alloc::Global>",
                "alloc::raw_vec::finish_grow::<Global>",
            ),
            (
                "<alloc::vec::Vec<T,A> as alloc::vec::spec_extend::SpecExtend<T,I>>::spec_extend",
                "<alloc::vec::Vec<T,A> as alloc::vec::spec_extend::SpecExtend<T,I>>::spec_extend",
            ),
            (
                "<alloc::collections::btree::node::Handle<alloc::collections::btree::node::NodeRef<alloc::collections::btree::node::marker::Dying,K,V,NodeType>,alloc::collections::btree::node::marker::KV>::drop_key_val::Dropper<T> as core::ops::drop::Drop>::drop",
                "<Handle<NodeRef<_>,KV>::Dropper<T> as Drop>::drop",
            ),
            (
                "core::ptr::drop_in_place<core::iter::adapters::flatten::FlattenCompat<core::iter::adapters::map::Map<core::iter::adapters::filter::Filter<core::slice::iter::Iter<bootloader_api::info::MemoryRegion>,kernel::mm::frame::above_low::{{closure}}>,kernel::mm::frame::usable::{{closure}}>,core::array::iter::IntoIter<(u64,u64),1_usize>>>",
                "core::ptr::drop_in_place<FlattenCompat<_>>",
            ),
            (
                "alloc::collections::btree::navigate::<impl alloc::collections::btree::node::Handle<alloc::collections::btree::node::NodeRef<alloc::collections::btree::node::marker::Dying,K,V,alloc::collections::btree::node::marker::Leaf>,alloc::collections::btree::node::marker::Edge>>::deallocating_next_unchecked",
                "alloc::collections::btree::navigate::<impl Handle<_>>::deallocating_next_unchecked",
            ),
            (
                "kernel::each<fn(kernel::net::Packet) -> core::result::Result<(),kernel::Error>>",
                "kernel::each<fn(Packet) -> Result<_>>",
            ),
            (
                "kernel::run<kernel::shell::leak::plant::{{closure}}::{{closure}},[kernel::Frame; 4_usize]>",
                "kernel::run<plant::{{closure}}::{{closure}},[Frame; 4_usize]>",
            ),
            (
                "<&mut <kernel::A as kernel::B>::C as core::fmt::Write>::write_str",
                "<&mut <kernel::A as kernel::B>::C as core::fmt::Write>::write_str",
            ),
            ("0xffffffff80001234", "0xffffffff80001234"),
            ("", ""),
        ] {
            assert_eq!(short(name, 100).as_str(), expected);
        }
    }

    #[test]
    fn whose_function_it_is_stays_readable() {
        let name = "<kernel::mm::heap::Heap<kernel::mm::Frames> as core::alloc::global::GlobalAlloc>::alloc::<u8>";
        for (columns, expected) in [
            (
                90,
                "<kernel::mm::heap::Heap<Frames> as core::alloc::global::GlobalAlloc>::alloc::<u8>",
            ),
            (60, "<Heap<Frames> as GlobalAlloc>::alloc::<u8>"),
            (41, "<Heap<_> as GlobalAlloc>::alloc::<_>"),
            (0, "<Heap<_> as GlobalAlloc>::alloc::<_>"),
        ] {
            assert_eq!(short(name, columns).as_str(), expected);
        }
    }

    /// A generator of random numbers.
    struct Random(u32);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) as usize % end
        }
    }

    const PIECES: [&str; 14] = [
        "a", "Vec", "kernel::", "::", " as ", ",", "->", "&", "é", "impl ", "#", "<", "(", "{",
    ];

    fn closing(opening: char) -> Option<char> {
        match opening {
            '<' => Some('>'),
            '(' => Some(')'),
            '[' => Some(']'),
            '{' => Some('}'),
            _ => None,
        }
    }

    /// Whether each bracket closes the one that was opened last.
    fn is_balanced(name: &str) -> bool {
        let (mut open, mut depth, mut last) = ([' '; ROOM], 0, ' ');
        for letter in name.chars() {
            if let Some(closing) = closing(letter) {
                open[depth] = closing;
                depth += 1;
            } else if matches!(letter, '>' | ')' | ']' | '}') && (letter, last) != ('>', '-') {
                if depth == 0 || open[depth - 1] != letter {
                    return false;
                }
                depth -= 1;
            }
            last = letter;
        }
        depth == 0
    }

    #[test]
    fn brackets_of_random_names_stay_balanced() {
        for seed in 0..20_000 {
            let mut random = Random(seed);
            let (mut open, mut depth) = ([' '; 1000], 0);
            let mut name = ShortName::EMPTY;
            for _ in 0..random.below(1000) {
                let piece = PIECES[random.below(PIECES.len())];
                piece.chars().for_each(|letter| name.push(letter));
                if let Some(closing) = piece.chars().next().and_then(closing) {
                    open[depth] = closing;
                    depth += 1;
                }
                while depth > 0 && random.below(3) == 0 {
                    depth -= 1;
                    // Otherwise the bracket would make an arrow.
                    name.push('x');
                    name.push(open[depth]);
                }
            }
            for &closing in open[..depth].iter().rev() {
                name.push('x');
                name.push(closing);
            }
            loop {
                assert!(is_balanced(name.as_str()), "{seed}: {}", name.as_str());
                if !name.shorten() {
                    break;
                }
            }
        }
    }

    #[test]
    fn random_text_is_taken() {
        const LETTERS: [char; 12] = ['a', ':', '<', '>', '(', ')', '{', '}', '-', ' ', '…', '_'];
        for seed in 0..20_000 {
            let mut random = Random(seed);
            let mut name = ShortName::EMPTY;
            for _ in 0..random.below(1500) {
                name.push(LETTERS[random.below(LETTERS.len())]);
            }
            while name.shorten() {}
            assert!(name.as_str().len() <= ROOM);
            assert!(core::str::from_utf8(&name.text[..name.len]).is_ok());
        }
    }

    #[test]
    fn a_name_without_end_is_cut() {
        let mut name = ShortName::EMPTY;
        name.push('(');
        (0..1000).for_each(|_| name.push('é'));
        name.push(')');
        assert!(name.as_str().ends_with("é…)"));
        assert!(name.as_str().len() > ROOM - 4);
        assert!(!name.has_whole_paths());
    }
}
