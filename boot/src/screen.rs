//! What the kernel is told of the screen that its output appears on, as words of its command line.
//!
//! The size is that of the moment when the machine starts: a serial line has no way to tell of a change.

use std::env;
use std::ffi::OsStr;
use std::io;

use boot::machine::Console;
use terminal_size::{Height, Width, terminal_size_of};

use crate::options::ColorOption;

/// A terminal that shows what the kernel writes, and passes on what is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    columns: u16,
    rows: u16,
    color: Color,
}

/// Whether the user wants colours on terminals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Color {
    Wanted,
    Unwanted,
}

/// The size of a terminal that does not tell its size.
const USUAL: (Width, Height) = (Width(80), Height(24));

impl Screen {
    /// The terminal that the serial line is connected to, both ways. `None` where the input or the output is a file or a pipe,
    /// or the terminal knows no escape sequences.
    pub fn of(kind: Console) -> Option<Self> {
        if kind != Console::Terminal || env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return None;
        }
        // It answers for terminals only.
        let size = terminal_size_of(io::stdout())?;
        let (Width(columns), Height(rows)) = match size {
            (Width(0), _) | (_, Height(0)) => USUAL,
            size => size,
        };
        Some(Self {
            columns,
            rows,
            color: color_of(env::var_os("NO_COLOR").as_deref()),
        })
    }
}

/// What `NO_COLOR` says: that there are to be no colours, if it is set and not empty (<https://no-color.org>).
fn color_of(no_color: Option<&OsStr>) -> Color {
    match no_color {
        Some(value) if !value.is_empty() => Color::Unwanted,
        _ => Color::Wanted,
    }
}

/// The boot parameters of our kernel that tell it of the screen; none where there is no screen.
pub fn parameters(screen: Option<&Screen>, color: ColorOption) -> String {
    let on = match (color, screen) {
        (ColorOption::Always, _) => true,
        (ColorOption::Auto, Some(screen)) => screen.color == Color::Wanted,
        (ColorOption::Auto, None) | (ColorOption::Never, _) => false,
    };
    let size = screen.map(|screen| format!("console={}x{}", screen.columns, screen.rows));
    let color = on.then(|| "kmemleak.color=on".to_owned());
    size.into_iter().chain(color).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Screen = Screen {
        columns: 80,
        rows: 24,
        color: Color::Wanted,
    };

    #[test]
    fn a_terminal_is_told_with_its_size_and_its_colours() {
        let on = "console=80x24 kmemleak.color=on";
        assert_eq!(parameters(Some(&SCREEN), ColorOption::Auto), on);
        assert_eq!(parameters(Some(&SCREEN), ColorOption::Always), on);
        assert_eq!(
            parameters(Some(&SCREEN), ColorOption::Never),
            "console=80x24"
        );
    }

    #[test]
    fn a_pipe_has_colours_only_where_they_are_asked_for() {
        assert_eq!(parameters(None, ColorOption::Auto), "");
        assert_eq!(parameters(None, ColorOption::Never), "");
        assert_eq!(parameters(None, ColorOption::Always), "kmemleak.color=on");
    }

    #[test]
    fn no_color_is_heard_unless_it_is_empty_or_colours_are_asked_for() {
        assert_eq!(color_of(None), Color::Wanted);
        assert_eq!(color_of(Some(OsStr::new(""))), Color::Wanted);
        assert_eq!(color_of(Some(OsStr::new("1"))), Color::Unwanted);
        let screen = Screen {
            color: Color::Unwanted,
            ..SCREEN
        };
        assert_eq!(
            parameters(Some(&screen), ColorOption::Auto),
            "console=80x24"
        );
        assert!(parameters(Some(&screen), ColorOption::Always).ends_with("kmemleak.color=on"));
    }
}
