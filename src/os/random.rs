//! Randomness from the kernel: for what must not be guessed, and for seeds.

/// 64 random bits (`getrandom(2)`); 0 where the kernel has none, which makes nothing fail but surprise.
pub fn bits() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}
