//! What a button under a Telegram prompt carries: which request, which word, and a MAC that stops guessing. Whoever holds
//! no key (supervisor, treasury) reads request and word all the same; authority comes from stored rows, never from here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2_mac::Sha256;
use uuid::Uuid;

use crate::ids::ApprovalId;

/// First character of what this build writes.
const VERSION: &str = "1";
/// Characters of 128 bits in base64url.
const CHARS: usize = 22;
/// What is hashed begins with this.
const TAG: &[u8] = b"swarm.telegram_button.v1\0";

/// What a button says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Press {
    /// Yes; from tier 2 on it only asks for the second tap.
    Approve,
    /// No.
    Reject,
    /// Show the ways to modify.
    Menu,
    /// Yes, after the words of the digest were shown.
    Confirm,
    /// Back to the first keyboard.
    Back,
    /// Half the quantity.
    Half,
    /// A quarter of it.
    Quarter,
    /// A worst price that gives half a percent less room.
    HalfPercent,
    /// One that gives a percent less.
    OnePercent,
}

/// How much less a modifying press asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Less {
    /// Of the quantity: one part in so many.
    Part(u32),
    /// Of the room that the worst price gives: so many basis points of that price.
    Closer(u32),
}

impl Press {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Approve,
        Self::Reject,
        Self::Menu,
        Self::Confirm,
        Self::Back,
        Self::Half,
        Self::Quarter,
        Self::HalfPercent,
        Self::OnePercent,
    ];

    /// Its character.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Approve => 'a',
            Self::Reject => 'r',
            Self::Menu => 'm',
            Self::Confirm => 'c',
            Self::Back => '0',
            Self::Half => 'h',
            Self::Quarter => 'q',
            Self::HalfPercent => 't',
            Self::OnePercent => 'u',
        }
    }

    /// Reads the character.
    #[must_use]
    pub fn parse(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|press| press.letter() == letter)
    }

    /// What a modifying press asks for.
    #[must_use]
    pub const fn less(self) -> Option<Less> {
        match self {
            Self::Half => Some(Less::Part(2)),
            Self::Quarter => Some(Less::Part(4)),
            Self::HalfPercent => Some(Less::Closer(50)),
            Self::OnePercent => Some(Less::Closer(100)),
            _ => None,
        }
    }
}

/// A button as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Button {
    /// Which request.
    pub approval_id: ApprovalId,
    /// Which word.
    pub press: Press,
    mac: [u8; 16],
}

impl Button {
    /// Whether it was made with this key for this account.
    #[must_use]
    pub fn is_genuine(&self, key: &[u8], telegram_user_id: i64) -> bool {
        keyed(key, self.approval_id, self.press, telegram_user_id).verify_truncated_left(&self.mac).is_ok()
    }
}

/// `callback_data` of a button for one account: 46 of the 64 bytes Telegram allows.
#[must_use]
pub fn encode(key: &[u8], approval_id: ApprovalId, press: Press, telegram_user_id: i64) -> String {
    let tag = keyed(key, approval_id, press, telegram_user_id).finalize().into_bytes();
    let (id, mac) = (URL_SAFE_NO_PAD.encode(approval_id.0.as_bytes()), URL_SAFE_NO_PAD.encode(&tag[..16]));
    format!("{VERSION}{id}{}{mac}", press.letter())
}

/// Reads `callback_data`; `None` for everything that [`encode`] does not write.
#[must_use]
pub fn decode(data: &str) -> Option<Button> {
    let rest = data.strip_prefix(VERSION)?;
    if !rest.is_ascii() || rest.len() != 2 * CHARS + 1 {
        return None;
    }
    let (id, rest) = rest.split_at(CHARS);
    let (letter, mac) = rest.split_at(1);
    let bytes = |text: &str| <[u8; 16]>::try_from(URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    Some(Button {
        approval_id: ApprovalId(Uuid::from_bytes(bytes(id)?)),
        press: Press::parse(letter.chars().next()?)?,
        mac: bytes(mac)?,
    })
}

/// Every part has a fixed width, so no two different triples are hashed alike.
fn keyed(key: &[u8], approval_id: ApprovalId, press: Press, telegram_user_id: i64) -> Hmac<Sha256> {
    // A key longer than a block is hashed first, so that every key has a form this takes.
    let mut block = [0u8; 64];
    if key.len() <= block.len() {
        block[..key.len()].copy_from_slice(key);
    } else {
        use sha2_mac::Digest;
        block[..32].copy_from_slice(&Sha256::digest(key));
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    mac.update(TAG);
    mac.update(approval_id.0.as_bytes());
    mac.update(&[press.letter() as u8]);
    mac.update(&telegram_user_id.to_be_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key of telegram_jarvis alone";

    fn id(n: u128) -> ApprovalId {
        ApprovalId(Uuid::from_u128(n))
    }

    #[test]
    fn a_button_reads_back_and_is_genuine_for_its_key_request_word_and_account_alone() {
        for press in Press::ALL {
            let data = encode(KEY, id(7), press, 99);
            assert_eq!(data.len(), 46);
            let button = decode(&data).unwrap();
            assert_eq!((button.approval_id, button.press), (id(7), press));
            assert!(button.is_genuine(KEY, 99));
            assert!(
                !button.is_genuine(KEY, 98) && !button.is_genuine(b"another key", 99) && !button.is_genuine(b"", 99)
            );
            assert!(!Button { approval_id: id(8), ..button }.is_genuine(KEY, 99));
            for other in Press::ALL.into_iter().filter(|other| *other != press) {
                assert!(!Button { press: other, ..button }.is_genuine(KEY, 99), "{press:?} {other:?}");
            }
        }
        let long = [7u8; 100];
        assert!(decode(&encode(&long, id(1), Press::Approve, 1)).unwrap().is_genuine(&long, 1));
    }

    #[test]
    fn anything_else_is_no_button() {
        let good = encode(KEY, id(7), Press::Approve, 99);
        let mut wrong = vec![String::new(), "1".to_owned(), format!("{good}A"), good.replacen('1', "2", 1)];
        wrong.push(good[..45].to_owned());
        wrong.push(format!("1{}x{}", &good[1..23], &good[24..]));
        wrong.push(good.replace('A', "+"));
        wrong.push(format!("{}é", &good[..44]));
        // Bits that no 128-bit value has.
        wrong.push(format!("{}B", &good[..45]));
        for data in wrong {
            assert_eq!(decode(&data), None, "{data}");
        }
    }
}
