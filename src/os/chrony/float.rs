//! The protocol's floating-point number: 7 bits of exponent and 25 bits of coefficient, both two's
//! complement, for coefficient × 2^(exponent - 25). About seven digits; no infinity and no "not a number".

const COEFFICIENT_BITS: i32 = 25;
#[cfg(test)]
const EXPONENTS: std::ops::RangeInclusive<i32> = -64..=63;
/// The largest coefficient, 2^24 - 1.
#[cfg(test)]
const LARGEST: f64 = 16_777_215.0;

/// The number in these 32 bits. Exact, since a double is wider in both parts.
pub fn decode(raw: u32) -> f64 {
    let raw = raw.cast_signed();
    // Shifted down as signed numbers, so that the sign fills the place.
    let (exponent, coefficient) = (raw >> COEFFICIENT_BITS, (raw << 7) >> 7);
    f64::from(coefficient) * f64::from(exponent - COEFFICIENT_BITS).exp2()
}

/// The nearest number of this format. Saturates at the largest; too small a number, and NaN, become 0.
/// The agent itself sends none.
#[cfg(test)]
pub fn encode(number: f64) -> u32 {
    if number.is_nan() {
        return 0;
    }
    let size = number.abs().min(f64::MAX);
    // So that the coefficient fills its bits: from 2^23 up to, but not including, 2^24.
    let mut exponent = floor_log2(size) + 2;
    let mut coefficient = (size * f64::from(COEFFICIENT_BITS - exponent).exp2()).round();
    if coefficient > LARGEST {
        coefficient /= 2.0;
        exponent += 1;
    }
    if exponent < *EXPONENTS.start() {
        return 0;
    }
    if exponent > *EXPONENTS.end() {
        (coefficient, exponent) = (LARGEST, *EXPONENTS.end());
    }
    pack(coefficient.copysign(number), exponent)
}

/// The exponent of a finite double of 0 or more; from its bits, since a logarithm would round.
#[cfg(test)]
fn floor_log2(size: f64) -> i32 {
    i32::try_from(size.to_bits() >> 52).unwrap_or(0) - 1023
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "24 bits and a sign")]
fn pack(coefficient: f64, exponent: i32) -> u32 {
    ((exponent << COEFFICIENT_BITS) | (coefficient as i32 & ((1 << COEFFICIENT_BITS) - 1))).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_encoded_as_by_chronyc() {
        // `chronyc makestep 1 3`, `makestep 0.1 1`, `makestep 1000 0`, as captured.
        for (number, wire) in [(1.0, 0x0480_0000), (0.1, 0xfccc_cccd), (1000.0, 0x16fa_0000)] {
            assert_eq!(encode(number), wire, "{number}: {:#x}", encode(number));
            assert!((decode(wire) - number).abs() < 1e-8);
        }
        assert_eq!((decode(0x05c0_0000), decode(0)), (-0.5, 0.0), "exact");
    }

    #[test]
    fn encoding_saturates_and_never_wraps() {
        let largest = LARGEST * 38_f64.exp2();
        for huge in [f64::MAX, f64::INFINITY, 1e30] {
            assert!((decode(encode(huge)) - largest).abs() < 1.0, "{huge}");
            assert!((decode(encode(-huge)) + largest).abs() < 1.0, "-{huge}");
        }
        for nothing in [f64::NAN, f64::MIN_POSITIVE / 2.0, 1e-40, 0.0] {
            assert_eq!(encode(nothing), 0, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn numbers_survive_a_round_trip_within_24_bits(size in 1e-12..1e12_f64, negative: bool) {
            let number = if negative { -size } else { size };
            let back = decode(encode(number));
            prop_assert!((back - number).abs() <= size * f64::from(-24).exp2(), "{number} became {back}");
        }

        #[test]
        fn decoding_any_bits_gives_a_number_that_encodes_to_itself(raw: u32) {
            let number = decode(raw);
            prop_assert!(number.is_finite());
            // Several patterns are the same number, since a small coefficient may have any exponent.
            if number.abs() >= f64::from(-64).exp2() {
                prop_assert!((decode(encode(number)) - number).abs() <= number.abs() * f64::from(-24).exp2());
            }
        }
    }
}
