//! One-time codes of a person's authenticator (RFC 6238 with SHA-1, 30 s and 6 digits, which every app knows).

use domain::time::UnixMs;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Length of a step, ms.
const STEP_MS: i64 = 30_000;
/// Codes of this many steps before and after are taken: clocks of phones.
const WINDOW: i64 = 1;
/// 10 to the number of digits.
const MODULUS: u32 = 1_000_000;
/// Digits of RFC 4648 base 32, as authenticators read secrets.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The step a moment lies in.
#[must_use]
pub const fn step_of(now: UnixMs) -> i64 {
    now.0.div_euclid(STEP_MS)
}

/// The code of a step; `None` for a step before the epoch or a secret that can't be a key.
#[must_use]
pub fn code(secret: &[u8], step: i64) -> Option<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).ok()?;
    mac.update(&u64::try_from(step).ok()?.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 15);
    let number = u32::from_be_bytes([hash[at] & 0x7f, hash[at + 1], hash[at + 2], hash[at + 3]]);
    Some(format!("{:06}", number % MODULUS))
}

/// Which step near `now` has this code. Every candidate is computed and compared in full.
#[must_use]
pub fn step_with(secret: &[u8], given: &str, now: UnixMs) -> Option<i64> {
    let here = step_of(now);
    let mut found = None;
    for step in here - WINDOW..=here + WINDOW {
        if code(secret, step).is_some_and(|code| same(code.as_bytes(), given.as_bytes())) {
            found = found.or(Some(step));
        }
    }
    found
}

/// Whether `step` is one that [`step_with`] could have found at `at`.
#[must_use]
pub const fn is_near(step: i64, at: UnixMs) -> bool {
    (step - step_of(at)).abs() <= WINDOW
}

/// Compares without an early end.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// A secret as authenticators read it: base 32 without padding.
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0_u8; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        let digits = (chunk.len() * 8).div_ceil(5);
        for at in 0..digits {
            out.push(char::from(BASE32[usize::try_from(bits >> (35 - 5 * at) & 31).unwrap_or(0)]));
        }
    }
    out
}

/// What an authenticator is shown once, as a link or a QR code.
#[must_use]
pub fn uri(person_id: &str, secret: &[u8]) -> String {
    let mut name = String::new();
    for byte in person_id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    let secret = base32(secret);
    format!("otpauth://totp/swarm:{name}?secret={secret}&issuer=swarm&algorithm=SHA1&digits=6&period=30")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 6238, appendix B, the last six of its eight digits.
        for (seconds, want) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(SECRET, step_of(UnixMs(seconds * 1000))).unwrap(), want, "{seconds}");
        }
        assert_eq!(code(SECRET, -1), None);
    }

    #[test]
    fn a_code_is_known_in_its_step_and_the_ones_beside_it() {
        let now = UnixMs(1_800_000_000_000);
        let here = step_of(now);
        for (step, want) in [(-2, None), (-1, Some(-1)), (0, Some(0)), (1, Some(1)), (2, None)] {
            let code = code(SECRET, here + step).unwrap();
            assert_eq!(step_with(SECRET, &code, now), want.map(|step: i64| here + step), "{step}");
            assert_eq!(is_near(here + step, now), want.is_some());
            assert_eq!(step_with(b"another secret of 20", &code, now), None);
        }
        let good = code(SECRET, here).unwrap();
        for bad in ["", "0", &good[1..], &format!("{good}0"), &format!(" {good}"), "abcdef"] {
            assert_eq!(step_with(SECRET, bad, now), None, "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_written_as_authenticators_read_it() {
        for (bytes, want) in [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foobar", "MZXW6YTBOI")] {
            assert_eq!(base32(bytes.as_bytes()), want);
        }
        assert_eq!(base32(SECRET), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let uri = uri("a b&c", SECRET);
        assert!(uri.starts_with("otpauth://totp/swarm:a%20b%26c?secret=GEZDGNBVGY3TQOJQ"), "{uri}");
    }
}
