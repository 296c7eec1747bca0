//! The functions for C: the header declares those that the macro defines, with the same arguments; and a program in C that was
//! compiled against the header, and linked with a detector, finds its leak.

mod caller;
mod header;
