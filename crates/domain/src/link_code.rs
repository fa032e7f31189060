//! The code that binds a Telegram account to a person: eight characters that can be read aloud and typed on a phone. Only
//! its hash is stored.

use sha2::{Digest, Sha256};

use crate::canonical::Sha256Digest;

/// Digits of Crockford's base 32: no I, L, O and U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of 40 bits.
const CHARS: usize = 8;
/// How long a code may be used, ms.
pub const VALID_MS: i64 = 600_000;

/// The code of 40 random bits.
#[must_use]
pub fn of_bits(bits: [u8; 5]) -> String {
    let number = bits.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    (0..CHARS).rev().map(|at| char::from(DIGITS[usize::try_from(number >> (5 * at) & 31).unwrap_or(0)])).collect()
}

/// The hash of what a person typed, read as generously as Crockford does: any case, O for 0, I and L for 1, and no matter for
/// spaces and hyphens. `None` for what is no code.
#[must_use]
pub fn hash(typed: &str) -> Option<Sha256Digest> {
    let mut code = String::new();
    for letter in typed.chars().filter(|c| !matches!(c, ' ' | '-')) {
        let letter = match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        if code.len() == CHARS || !letter.is_ascii() || !DIGITS.contains(&(letter as u8)) {
            return None;
        }
        code.push(letter);
    }
    (code.len() == CHARS).then(|| Sha256Digest(Sha256::digest(&code).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_eight_digits_and_reads_however_it_is_typed() {
        assert_eq!(of_bits([0; 5]), "00000000");
        assert_eq!(of_bits([0xff; 5]), "ZZZZZZZZ");
        assert_eq!(of_bits([0x08, 0x42, 0x10, 0x84, 0x21]), "11111111");
        assert_eq!(of_bits([0x00, 0x44, 0x32, 0x14, 0xc7]), "01234567");
        let hash_of = hash("0123AB1X").unwrap();
        for typed in ["0123ab1x", "o123ABIX", "0123-AB1X", " O123 ablx "] {
            assert_eq!(hash(typed), Some(hash_of), "{typed}");
        }
        assert_ne!(hash("0123AB1Y"), Some(hash_of));
        for typed in ["", "0123AB1", "0123AB1X0", "0123AB1U", "0123AB1é", "０123AB1X"] {
            assert_eq!(hash(typed), None, "{typed}");
        }
    }
}
