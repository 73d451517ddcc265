//! The application data of every server: what is at each place of the stream is known.

/// The bytes from here on.
pub fn bytes(begin: u64, len: usize) -> Vec<u8> {
    (begin..begin + len as u64).map(at).collect()
}

pub fn at(place: u64) -> u8 {
    // The top byte of a product with a large odd number: neighbours and repetitions differ.
    (place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}
