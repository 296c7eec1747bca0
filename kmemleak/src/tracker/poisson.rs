//! The arithmetic of a Poisson sample by bytes.
//!
//! Imagine points on the bytes that are allocated, one byte after the other: at random, in the mean one for each `every` bytes. An
//! allocation is in the sample if a point lies on it. So a block of `size` bytes is in it with the probability
//! `1 - exp(-size / every)`, and a block that is in it stands for the inverse of that many like it ([`weight`]). The gaps between
//! points are exponential, and have no memory: after a block with a point, a new gap begins ([`gap`]). Heap profilers sample so:
//! TCMalloc (<https://google.github.io/tcmalloc/sampling.html>), and Go, whose `pprof` scales by the same weight.
//!
//! Kernels have no floating point here, so numbers are fixed-point: `Q32` has 32 bits behind the point.

/// The smallest and the largest mean distance of points, in bytes.
pub(crate) const EVERY: core::ops::RangeInclusive<u64> = 1..=1 << 40;

/// A weight of one. A weight has 16 bits behind the point.
pub(crate) const ONE: u64 = 1 << 16;

/// ln 2, as Q32.
const LN_2: u64 = 0xb172_17f7;

/// The bytes from a point to the next one: exponential with the mean `every` where `random` is any word with the same probability.
pub(super) fn gap(random: u64, every: u64) -> u64 {
    let logarithm = (u128::from(halvings(random | 1)) * u128::from(LN_2)) >> 32;
    let bytes = (logarithm * u128::from(every)) >> 32;
    bytes as u64 + 1
}

/// By how many halvings 2^64 becomes `word`, which is not zero: 64 less its binary logarithm, as Q32. Bit by bit, by squaring
/// (C. Turner, "A fast binary logarithm algorithm", IEEE Signal Processing Magazine 27(5), 2010).
fn halvings(word: u64) -> u64 {
    let zeros = word.leading_zeros();
    // From one to below two, with 63 bits behind the point.
    let mut rest = word << zeros;
    let mut fraction = 0;
    for _ in 0..32 {
        let square = (u128::from(rest) * u128::from(rest)) >> 63;
        let is_two = square >> 64 != 0;
        rest = (if is_two { square >> 1 } else { square }) as u64;
        fraction = fraction << 1 | u64::from(is_two);
    }
    ((u64::from(zeros) + 1) << 32) - fraction
}

/// How many blocks of `size` bytes one in the sample stands for.
pub(crate) fn weight(size: u64, every: u64) -> u64 {
    // Behind the point of what follows.
    const BITS: u32 = 62;
    /// From here on the probability is one, to the last bit.
    const CERTAIN: u64 = 44;
    if size / every >= CERTAIN {
        return ONE;
    }
    let mut x = (u128::from(size) << BITS) / u128::from(every);
    let mut doublings = 0;
    while x >> (BITS - 6) != 0 {
        x >>= 1;
        doublings += 1;
    }
    // 1 - exp(-x) where x is small, by its series.
    let mut term = x;
    let mut probability = 0_u128;
    for number in 2..10 {
        match number % 2 {
            0 => probability += term,
            _ => probability -= term,
        }
        term = ((term * x) >> BITS) / number;
    }
    // 1 - exp(-2x) is p(2 - p) where p is 1 - exp(-x).
    for _ in 0..doublings {
        probability = (probability * ((2 << BITS) - probability)) >> BITS;
    }
    ((1 << (BITS + 16)) / probability.max(1)) as u64
}

/// Random numbers: xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016). The
/// state is not zero.
pub(super) fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn the_logarithm_is_right() {
        for word in [1, 2, 3, 1000, 0x1234_5678_9abc_def0, 1 << 63, u64::MAX] {
            let exact = 64.0 - (word as f64).log2();
            let found = halvings(word) as f64 / 4_294_967_296.0;
            assert!((found - exact).abs() < 1e-8, "{word}: {found}, not {exact}");
        }
    }

    /// Gaps are exponential: of as many parts of the same probability each one gets its share.
    #[test]
    fn gaps_are_exponential() {
        const EVERY: u64 = 524_288;
        const GAPS: usize = 100_000;
        let (mut state, mut sum, mut parts) = (1, 0.0, [0_usize; 10]);
        for _ in 0..GAPS {
            let gap = gap(random(&mut state), EVERY) as f64 / EVERY as f64;
            sum += gap;
            let quantile = 1.0 - (-gap).exp();
            parts[((quantile * 10.0) as usize).min(9)] += 1;
        }
        assert!((sum / GAPS as f64 - 1.0).abs() < 0.01, "{sum}");
        for part in parts {
            // Five standard deviations.
            assert!(part.abs_diff(GAPS / 10) < 475, "{parts:?}");
        }
    }

    #[test]
    fn a_weight_is_the_inverse_of_the_probability() {
        for every in [1, 100, 4096, 524_288, 1 << 40] {
            for size in [1, 8, 64, 500, 4096, 524_288, 1 << 25, 1 << 45] {
                let exact = -1.0 / (-(size as f64) / every as f64).exp_m1();
                let found = weight(size, every) as f64 / ONE as f64;
                let error = (found / exact - 1.0).abs();
                assert!(error < 2e-5, "{size} in {every}: {found}, not {exact}");
            }
        }
    }
}
