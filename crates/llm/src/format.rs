//! Whether an answer has the form that was asked for. Providers promise it and break it, so that the router looks.

use std::sync::Arc;

use jsonschema::Validator;
use quick_cache::sync::Cache;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::answer::{Answer, Finish, json_of};
use crate::failure::{Failure, Kind};
use crate::request::{ChatRequest, Format};

/// Schemas whose validators are kept.
const KEPT: usize = 256;

/// Validators of schemas, each compiled once while it is among the last used.
#[derive(Debug)]
pub struct Validators {
    kept: Cache<[u8; 32], Arc<Validator>>,
}

impl Default for Validators {
    fn default() -> Self {
        Self { kept: Cache::new(KEPT) }
    }
}

impl Validators {
    /// The validator of a format; `None` where it has no schema.
    ///
    /// # Errors
    /// [`Kind::BadRequest`], when the schema can't be used. [`ChatRequest::parse`] has refused those already.
    pub fn of(&self, format: &Format) -> Result<Option<Arc<Validator>>, Failure> {
        let Format::Schema { schema, .. } = format else { return Ok(None) };
        let key: [u8; 32] = Sha256::digest(schema.to_string()).into();
        let compile = || match jsonschema::validator_for(schema) {
            Ok(validator) => Ok(Arc::new(validator)),
            Err(error) => Err(Failure::new(Kind::BadRequest, format!("the schema can't be used: {}", error.masked()))),
        };
        self.kept.get_or_insert_with(&key, compile).map(Some)
    }
}

/// Looks at a whole answer, also one put together from a stream. Calls of tools must have arguments that are JSON. An
/// answer that ended by itself must be what the request's format says; one that met its bound on tokens, was filtered, or
/// is a refusal is what its `finish` says it is.
///
/// The text must be the JSON and nothing else but white space. A code fence around it is not taken off: whoever asked for
/// a schema hands the text to a parser of JSON.
///
/// # Errors
/// [`Kind::Malformed`] of arguments, [`Kind::SchemaInvalid`] of the text. Neither repeats what the model wrote.
pub fn check_format(request: &ChatRequest, answer: &Answer, validator: Option<&Validator>) -> Result<(), Failure> {
    if answer.tool_calls.iter().any(|call| json_of(&call.arguments).is_none()) {
        return Err(Failure::new(Kind::Malformed, "the arguments of a call of a tool are no JSON"));
    }
    if request.format == Format::Text || answer.finish != Finish::Stop || answer.refusal.is_some() {
        return Ok(());
    }
    let invalid = |text: String| Err(Failure::new(Kind::SchemaInvalid, text));
    let Some(value) = json_of(&answer.content) else { return invalid("the answer is no JSON".to_owned()) };
    match (&request.format, validator) {
        (Format::JsonObject, _) if !matches!(value, Value::Object(_)) => {
            invalid("the answer is no JSON object".to_owned())
        }
        (Format::Schema { .. }, Some(validator)) => match validator.validate(&value) {
            Ok(()) => Ok(()),
            // The path is of the schema: that of the answer has names in it that the model made up.
            Err(error) => invalid(format!("the answer breaks the schema at {}", error.schema_path().as_str())),
        },
        (Format::Schema { .. }, None) => invalid("the schema that the answer must have is not at hand".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answer::{ToolCall, Usage};

    fn request(format: &Value) -> ChatRequest {
        let body =
            json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "response_format": format });
        ChatRequest::parse(body.to_string().as_bytes()).unwrap()
    }

    fn schema() -> ChatRequest {
        let schema = json!({ "type": "object", "required": ["side"], "additionalProperties": false,
            "properties": { "side": { "enum": ["buy", "sell"] } } });
        request(&json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } }))
    }

    fn answer(content: &str, finish: Finish) -> Answer {
        Answer {
            content: content.to_owned(),
            reasoning: String::new(),
            refusal: None,
            tool_calls: Vec::new(),
            finish,
            usage: Usage::default(),
            model: String::new(),
        }
    }

    #[test]
    fn only_what_was_asked_for_passes() {
        let validators = Validators::default();
        let (schema, object) = (schema(), request(&json!({ "type": "json_object" })));
        let text = request(&json!({ "type": "text" }));
        let rows = [
            (&schema, r#"{"side":"buy"}"#, Finish::Stop, None),
            (&schema, " {\"side\":\"sell\"}\n", Finish::Stop, None),
            (&schema, r#"{"side":"secret"}"#, Finish::Stop, Some(Kind::SchemaInvalid)),
            (&schema, r#"{"side":"buy","secret":1}"#, Finish::Stop, Some(Kind::SchemaInvalid)),
            (&schema, r#"{"side":"buy""#, Finish::Stop, Some(Kind::SchemaInvalid)),
            (&schema, "```json\n{\"side\":\"buy\"}\n```", Finish::Stop, Some(Kind::SchemaInvalid)),
            (&schema, r#"{"side":"#, Finish::Length, None),
            (&schema, "", Finish::ContentFilter, None),
            (&object, "{}", Finish::Stop, None),
            (&object, "[]", Finish::Stop, Some(Kind::SchemaInvalid)),
            (&object, "no", Finish::Stop, Some(Kind::SchemaInvalid)),
            (&text, "no", Finish::Stop, None),
        ];
        for (request, content, finish, kind) in rows {
            let validator = validators.of(&request.format).unwrap();
            let checked = check_format(request, &answer(content, finish), validator.as_deref());
            assert_eq!(checked.as_ref().err().map(|failure| failure.kind), kind, "{content}");
            assert!(
                checked.err().is_none_or(|failure| !failure.text.contains("secret")),
                "words of the model are not repeated"
            );
        }
        let refusal = Answer { refusal: Some("no".to_owned()), ..answer("", Finish::Stop) };
        assert_eq!(check_format(&schema, &refusal, None), Ok(()));
        assert!(
            check_format(&schema, &answer("{}", Finish::Stop), None).is_err(),
            "never passed for want of a validator"
        );
    }

    #[test]
    fn arguments_of_tools_are_json_whatever_the_format() {
        let call = |arguments: &str| Answer {
            tool_calls: vec![ToolCall { id: "a".to_owned(), name: "f".to_owned(), arguments: arguments.to_owned() }],
            ..answer("", Finish::ToolCalls)
        };
        let text = request(&json!({ "type": "text" }));
        assert_eq!(check_format(&text, &call("{}"), None), Ok(()));
        assert_eq!(check_format(&text, &call("{"), None).unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn a_schema_is_compiled_once() {
        let validators = Validators::default();
        let (one, two) = (validators.of(&schema().format).unwrap(), validators.of(&schema().format).unwrap());
        assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
        assert!(validators.of(&Format::Text).unwrap().is_none());
    }
}
