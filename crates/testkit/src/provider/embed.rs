//! Vectors of texts: the same text gives the same vector, and texts that share words lie near each other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Dimensions unless the request or the test says otherwise.
pub(super) const DIMENSIONS: usize = 256;

/// Words hashed into a vector of length one.
#[must_use]
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions.max(1)];
    for word in text.split_whitespace() {
        // FNV-1a
        let hash = word
            .to_lowercase()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let at = (hash % vector.len() as u64) as usize;
        vector[at] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    } else {
        vector[0] = 1.0;
    }
    vector
}

/// A list of numbers, or their bytes (little-endian) in base64.
pub(super) fn written(vector: &[f32], base64: bool) -> Value {
    if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        return json!(STANDARD.encode(bytes));
    }
    json!(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_share_words_lie_near_each_other() {
        let cosine = |a: &str, b: &str| -> f32 {
            vector(a, DIMENSIONS).iter().zip(vector(b, DIMENSIONS)).map(|(a, b)| a * b).sum()
        };
        assert!((cosine("buy ten BTC now", "BUY ten btc now") - 1.0).abs() < 1e-5);
        let near = cosine("should we buy ten BTC", "should we sell ten BTC");
        assert!(near > 0.6 && near < 0.99 && near > cosine("should we buy ten BTC", "what a fine morning"), "{near}");
        assert!((cosine("", "") - 1.0).abs() < 1e-5);
        assert_eq!(written(&[1.0, -2.0], true), json!("AACAPwAAAMA="));
    }
}
