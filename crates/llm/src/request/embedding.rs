//! A request for vectors.

use serde_json::Value;

use super::{Fields, Invalid};

/// Most texts of one request.
const MOST_TEXTS: usize = 2_048;

/// Texts to be made into vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingRequest {
    /// The alias that was asked for.
    pub model: String,
    /// Texts, none of them empty.
    pub texts: Vec<String>,
    /// Vectors as base64 of little-endian floats, which is what the official clients ask for.
    pub base64: bool,
}

impl EmbeddingRequest {
    /// Reads a body. Tokens in place of texts are refused: they belong to one model's vocabulary.
    ///
    /// # Errors
    /// [`Invalid`], with the parameter.
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let mut fields = Fields::parse(body)?;
        let model = fields.text("model")?.ok_or_else(|| Invalid::of("model", "missing", "model is missing"))?;
        let texts = match fields.take("input") {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) if (1..=MOST_TEXTS).contains(&list.len()) && list.iter().all(Value::is_string) => {
                list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
            }
            _ => return Err(Invalid::wrong("input", "a text or a list of 1 to 2048 texts")),
        };
        if texts.iter().any(String::is_empty) {
            return Err(Invalid::wrong("input", "texts that are not empty"));
        }
        let base64 = match fields.text("encoding_format")?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => return Err(Invalid::wrong("encoding_format", "float or base64")),
        };
        fields.refuse_what_is_left()?;
        Ok(Self { model, texts, base64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_everything_else_is_refused() {
        let one = EmbeddingRequest::parse(br#"{"model":"embed","input":"a","encoding_format":"base64"}"#).unwrap();
        assert_eq!((one.texts.as_slice(), one.base64), (&["a".to_owned()][..], true));
        for (body, param) in [
            (&br#"{"model":"e","input":[]}"#[..], "input"),
            (br#"{"model":"e","input":[1,2]}"#, "input"),
            (br#"{"model":"e","input":""}"#, "input"),
            (br#"{"input":"a"}"#, "model"),
            (br#"{"model":"e","input":"a","encoding_format":"int8"}"#, "encoding_format"),
            (br#"{"model":"e","input":"a","dimensions":3}"#, "dimensions"),
        ] {
            assert_eq!(EmbeddingRequest::parse(body).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
