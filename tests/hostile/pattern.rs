//! The application data of every server: each position of the stream has a known byte.

/// Returns `len` bytes of the stream, from position `begin`.
pub fn bytes(begin: u64, len: usize) -> Vec<u8> {
    (begin..begin + len as u64).map(at).collect()
}

pub fn at(place: u64) -> u8 {
    // The top byte of a product with a large odd number, so that neighbouring bytes differ.
    (place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}
