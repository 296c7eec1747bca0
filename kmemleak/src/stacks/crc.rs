//! Checksums, by which a reader recognises a call stack in another report.

/// Checksum of the addresses of a call stack: CRC-32 as in IEEE 802.3.
pub(crate) fn crc_of(addresses: &[usize]) -> u32 {
    crc32(addresses.iter().flat_map(|address| address.to_le_bytes()))
}

/// CRC-32 (polynomial 0x04c11db7, reflected, IEEE 802.3).
pub(crate) fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 != 0 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_that_of_ieee_802_3() {
        assert_eq!(crc32(b"123456789".iter().copied()), 0xcbf4_3926);
        assert_eq!(crc_of(&[usize::from_le_bytes(*b"12345678")]), 0x9ae0_daaf);
    }
}
