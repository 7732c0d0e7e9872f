//! Random bits from the kernel: for values that must not be guessed, and for seeds.

/// 64 random bits (`getrandom(2)`). 0 where the kernel has none: callers work with it, but can be predicted.
pub fn bits() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}
