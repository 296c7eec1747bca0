//! A call stack that is to be stored.

use crate::platform::MAX_FRAMES;
use crate::stacks::frame_walk::FrameChain;

/// The frames of a call stack, with how far above each the caller's frame lies.
pub(super) struct Walked {
    addresses: [usize; MAX_FRAMES],
    links: [u16; MAX_FRAMES],
    len: usize,
    /// Whether a frame with a return address of zero follows. Its address and the link to it are then behind those of the frames.
    ends_with_zero: bool,
    /// The sum of the links, in bytes; `None` if one of them is too long to be stored, or no link is known.
    span: Option<u32>,
}

impl Walked {
    /// Walks on from where `chain` stands.
    pub(super) fn new(mut chain: FrameChain) -> Self {
        let mut walked = Self {
            addresses: [0; MAX_FRAMES],
            links: [0; MAX_FRAMES],
            len: 0,
            ends_with_zero: false,
            span: Some(0),
        };
        let mut before = chain.frame();
        while walked.len < MAX_FRAMES
            && let Some(address) = chain.return_address()
        {
            if let Some(inner) = walked.len.checked_sub(1) {
                walked.add_link(inner, chain.frame() - before);
            }
            before = chain.frame();
            walked.addresses[walked.len] = address;
            walked.len += 1;
            chain.up();
        }
        if (1..MAX_FRAMES).contains(&walked.len) && chain.stands_at_frame() {
            // The chain has ended here, and not because the walk is long enough.
            walked.add_link(walked.len - 1, chain.frame() - before);
            walked.ends_with_zero = true;
        }
        walked
    }

    fn add_link(&mut self, frame: usize, bytes: usize) {
        self.span = self.span.and_then(|span| {
            self.links[frame] = u16::try_from(bytes).ok()?;
            Some(span + u32::from(self.links[frame]))
        });
    }

    /// A call stack of which only the addresses are known: its innermost frames.
    pub(super) fn without_links(addresses: &[usize]) -> Self {
        let mut walked = Self {
            addresses: [0; MAX_FRAMES],
            links: [0; MAX_FRAMES],
            len: addresses.len().min(MAX_FRAMES),
            ends_with_zero: false,
            span: None,
        };
        for (to, from) in walked.addresses.iter_mut().zip(addresses) {
            *to = *from;
        }
        walked
    }

    pub(super) fn addresses(&self) -> &[usize] {
        &self.addresses[..self.len]
    }

    pub(super) fn span(&self) -> Option<u32> {
        self.span
    }

    /// How many frames an entry has room for: these, and one for an end of zero.
    pub(super) fn stored_frames(&self) -> usize {
        self.len + usize::from(self.ends_with_zero)
    }

    /// Each address with its link, and zeros behind them.
    pub(super) fn frames(&self) -> impl Iterator<Item = (usize, u16)> {
        self.addresses.into_iter().zip(self.links)
    }
}
