//! What a Solana mint address looks like: base58 text of exactly 32 bytes.

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const MINT_BYTES: usize = 32;

/// `text` is base58 (Bitcoin alphabet) of 32 bytes: 32 to 44 characters. Says nothing about whether such a mint exists.
#[must_use]
pub fn is_mint(text: &str) -> bool {
    (MINT_BYTES..=44).contains(&text.len()) && decoded_len(text) == Some(MINT_BYTES)
}

/// Number of bytes that base58 `text` decodes to; `None` for a character outside the alphabet.
fn decoded_len(text: &str) -> Option<usize> {
    // Big number in base 256, least significant byte first.
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    for character in text.bytes() {
        let mut carry = ALPHABET.iter().position(|known| *known == character)?;
        for byte in &mut bytes {
            carry += usize::from(*byte) * ALPHABET.len();
            *byte = u8::try_from(carry % 256).ok()?;
            carry /= 256;
        }
        while carry > 0 {
            bytes.push(u8::try_from(carry % 256).ok()?);
            carry /= 256;
        }
    }
    let leading_zeros = text.bytes().take_while(|character| *character == ALPHABET[0]).count();
    Some(bytes.len() + leading_zeros)
}

#[cfg(test)]
mod tests {
    use super::is_mint;

    #[test]
    fn only_base58_of_32_bytes_is_a_mint() {
        for (text, want) in [
            ("So11111111111111111111111111111111111111112", true),
            ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", true),
            ("11111111111111111111111111111111", true),
            ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZw", false),
            ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt0v", false),
            ("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", false),
            ("BTCUSDT", false),
            ("", false),
        ] {
            assert_eq!(is_mint(text), want, "{text}");
        }
    }
}
