//! A number that tells one text from others, of a text that is written and not kept.

use core::fmt::{self, Write};

/// FNV-1a, 64 bits (Fowler, Noll, Vo): <http://www.isthe.com/chongo/tech/comp/fnv/>.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

struct TextSum(u64);

impl Write for TextSum {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        Ok(())
    }
}

/// The sum of what `write` writes; where it fails, of what it has written until then.
pub(super) fn text_sum(write: impl FnOnce(&mut dyn Write) -> fmt::Result) -> u64 {
    let mut sum = TextSum(BASIS);
    let _ = write(&mut sum);
    sum.0
}

#[cfg(test)]
mod tests {
    use super::text_sum;

    /// As the authors' list of test vectors has them.
    #[test]
    fn sums_are_those_of_the_authors() {
        let of = |text: &str| text_sum(|out| out.write_str(text));
        assert_eq!(of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of("foobar"), 0x8594_4171_f739_67e8);
    }
}
