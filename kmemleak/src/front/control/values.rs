//! Values that are typed: what they look like, and what they mean.

use crate::checker::numbers::Topic;
use crate::metadata::hidden::Hidden;
use crate::tracker::poisson::EVERY;
use crate::tracker::sampling::StacksTaken;
use crate::verdict::handles::ShortHandle;

use super::options::checksum;

/// What a handle looks like.
pub(super) const LISTED: &str = "a number from a report, like #1";

/// A switch.
pub(super) fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// Of which allocations call stacks are taken.
pub(super) fn stacks(value: &str) -> Option<StacksTaken> {
    match value {
        "on" => Some(StacksTaken::All),
        "off" => Some(StacksTaken::None),
        _ => {
            let every = value.strip_prefix("sample:")?.parse().ok()?;
            (EVERY.contains(&every)).then_some(StacksTaken::Sample { every })
        }
    }
}

/// A call site, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SiteName {
    Checksum(u32),
    Handle(ShortHandle),
}

pub(super) fn site_name(text: &str) -> Option<SiteName> {
    match text.strip_prefix('#') {
        Some(_) => handle(text).map(SiteName::Handle),
        None => checksum(text).map(SiteName::Checksum),
    }
}

/// An address, or a handle.
pub(super) fn topic(text: &str) -> Option<Topic> {
    match text.strip_prefix('#') {
        Some(_) => handle(text).map(Topic::Handle),
        None => parse_hidden(text).map(Topic::Address),
    }
}

/// `#N`.
pub(super) fn handle(text: &str) -> Option<ShortHandle> {
    let number = text.strip_prefix('#')?;
    // A sign would be taken as well.
    let digits = number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse().ok().filter(|_| digits).map(ShortHandle)
}

/// A number, in hexadecimal whether or not it begins with `0x`. It is kept inverted from the first digit on, since a word that
/// holds the address would be a pointer to it.
pub(super) fn parse_hidden(text: &str) -> Option<Hidden> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut inverted = usize::MAX;
    for digit in digits.chars() {
        let digit = digit.to_digit(16)? as usize;
        inverted = inverted << 4 | (0xf - digit);
    }
    Some(Hidden::from_bits(inverted as u64))
}
