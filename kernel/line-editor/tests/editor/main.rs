//! The line editor at a terminal: what is on its screen is judged by a terminal emulator.

mod completion;
mod desk;
mod keys;
mod line;
mod plain;
mod random;
mod session;
mod wrapping;
