//! Whether an answer has the form that was asked for. Providers promise it and break it, so that the router looks.

use std::sync::{Arc, LazyLock};

use jsonschema::Validator;
use quick_cache::sync::Cache;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::answer::{Answer, Finish, json_of};
use crate::failure::{Failure, Kind};
use crate::request::{ChatRequest, Format};

/// Schemas whose validators are kept.
const KEPT: usize = 256;

/// What was compiled last, for the whole process: a schema is looked at when a request is read and again when it is answered.
static COMPILED: LazyLock<Cache<[u8; 32], Arc<Validator>>> = LazyLock::new(|| Cache::new(KEPT));

/// The validator of a schema, compiled once while it is among the last used.
///
/// # Errors
/// Why the schema can't be used.
pub fn validator_of(schema: &Value) -> Result<Arc<Validator>, String> {
    let key: [u8; 32] = Sha256::digest(schema.to_string()).into();
    let compile = || jsonschema::validator_for(schema).map(Arc::new);
    COMPILED.get_or_insert_with(&key, compile).map_err(|error| error.to_string())
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
pub fn check_format(request: &ChatRequest, answer: &Answer) -> Result<(), Failure> {
    if answer.tool_calls.iter().any(|call| json_of(&call.arguments).is_none()) {
        return Err(Failure::new(Kind::Malformed, "the arguments of a call of a tool are no JSON"));
    }
    if request.format == Format::Text || answer.finish != Finish::Stop || answer.refusal.is_some() {
        return Ok(());
    }
    let invalid = |text: String| Err(Failure::new(Kind::SchemaInvalid, text));
    let Some(value) = json_of(&answer.content) else { return invalid("the answer is no JSON".to_owned()) };
    match &request.format {
        Format::JsonObject if !matches!(value, Value::Object(_)) => invalid("the answer is no JSON object".to_owned()),
        Format::Schema { schema, .. } => {
            // Whoever read the request refused a schema that can't be used.
            let validator =
                validator_of(schema).map_err(|_| Failure::new(Kind::BadRequest, "the schema can't be used"))?;
            match validator.validate(&value) {
                Ok(()) => Ok(()),
                // The path is of the schema: that of the answer has names in it that the model made up.
                Err(error) => invalid(format!("the answer breaks the schema at {}", error.schema_path().as_str())),
            }
        }
        Format::Text | Format::JsonObject => Ok(()),
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
            let checked = check_format(request, &answer(content, finish));
            assert_eq!(checked.as_ref().err().map(|failure| failure.kind), kind, "{content}");
            assert!(
                checked.err().is_none_or(|failure| !failure.text.contains("secret")),
                "words of the model are not repeated"
            );
        }
        let refusal = Answer { refusal: Some("no".to_owned()), ..answer("", Finish::Stop) };
        assert_eq!(check_format(&schema, &refusal), Ok(()));
    }

    #[test]
    fn arguments_of_tools_are_json_whatever_the_format() {
        let call = |arguments: &str| Answer {
            tool_calls: vec![ToolCall { id: "a".to_owned(), name: "f".to_owned(), arguments: arguments.to_owned() }],
            ..answer("", Finish::ToolCalls)
        };
        let text = request(&json!({ "type": "text" }));
        assert_eq!(check_format(&text, &call("{}")), Ok(()));
        assert_eq!(check_format(&text, &call("{")).unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn a_schema_is_compiled_once() {
        let Format::Schema { schema, .. } = schema().format else { panic!("a schema") };
        assert!(Arc::ptr_eq(&validator_of(&schema).unwrap(), &validator_of(&schema.clone()).unwrap()));
        let bad = json!({ "type": "no such type" });
        assert!(validator_of(&bad).is_err() && validator_of(&bad).is_err());
    }
}
