use std::time::Duration;

use super::*;

fn refused(adapter: Adapter, status: u16, body: &str) -> Failure {
    adapter.refusal(status, |_| None, UnixMs(0), body.as_bytes())
}

fn check(adapter: Adapter, rows: &[(u16, Value, Kind)]) {
    for (status, body, kind) in rows {
        let failure = refused(adapter, *status, &body.to_string());
        assert_eq!(failure.kind, *kind, "{status} {body}");
        assert_eq!(failure.status, Some(*status));
    }
}

fn openai(message: &str, code: &str) -> Value {
    json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": code } })
}

fn router(code: u16, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message }, "user_id": "u" })
}

#[test]
fn errors_of_the_openai_dialect_about_the_request_mean_what_they_say() {
    check(
        Adapter::OpenAi,
        &[
            (
                400,
                openai("This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
                Kind::ContextLength,
            ),
            (
                400,
                openai("Please reduce the length of the messages or completion.", "context_length_exceeded"),
                Kind::ContextLength,
            ),
            (
                400,
                router(400, "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000"),
                Kind::ContextLength,
            ),
            (
                400,
                json!({ "error": { "code": 400, "message": "x", "type": "exceed_context_size_error", "n_ctx": 256 } }),
                Kind::ContextLength,
            ),
            (
                500,
                json!({ "error": { "code": 500, "message": "the request exceeds the available context size." } }),
                Kind::ContextLength,
            ),
            (
                413,
                json!({ "error": { "message": "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 14810",
            "type": "tokens", "code": "rate_limit_exceeded" } }),
                Kind::Quota,
            ),
            (400, openai("The response was filtered", "content_filter"), Kind::ContentFilter),
            (
                403,
                json!({ "error": { "code": 403, "message": "x requires moderation", "metadata": { "reasons": ["violence"], "flagged_input": "p" } } }),
                Kind::ContentFilter,
            ),
            (
                400,
                json!({ "error": { "code": 400, "message": "Assistant response prefill is incompatible with enable_thinking." } }),
                Kind::PrefillRefused,
            ),
            (
                400,
                openai(
                    "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
                    "x",
                ),
                Kind::PrefillRefused,
            ),
        ],
    );
}

#[test]
fn errors_of_the_openai_dialect_about_the_provider_mean_what_they_say() {
    check(
        Adapter::OpenAi,
        &[
            (400, openai("Unsupported parameter: 'max_tokens'", "unsupported_parameter"), Kind::Unsupported),
            (400, openai("This model does not support response format `json_schema`.", ""), Kind::Unsupported),
            (404, router(404, "No endpoints found that support tool use."), Kind::Unsupported),
            (404, router(404, "No endpoints found for x/y."), Kind::ModelMissing),
            (404, openai("The model `x` does not exist", "model_not_found"), Kind::ModelMissing),
            (400, openai("The model `x` has been decommissioned", "model_decommissioned"), Kind::ModelMissing),
            (400, router(400, "x/y is not a valid model ID"), Kind::ModelMissing),
            (400, openai("Failed to generate JSON.", "json_validate_failed"), Kind::SchemaInvalid),
            (400, openai("messages must not be empty", "invalid"), Kind::BadRequest),
            (422, json!({ "error": { "message": "no", "type": "invalid_request_error" } }), Kind::BadRequest),
            (402, router(402, "Insufficient credits"), Kind::PaymentRequired),
            (
                429,
                json!({ "error": { "message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota" } }),
                Kind::PaymentRequired,
            ),
            (
                429,
                json!({ "error": { "message": "Rate limit reached for maximum context length", "code": "rate_limit_exceeded" } }),
                Kind::RateLimited,
            ),
            (498, json!({ "error": { "message": "no flex" } }), Kind::RateLimited),
            (503, router(503, "There is no available model provider"), Kind::ServerError),
            (
                503,
                json!({ "error": { "code": 503, "message": "Loading model", "type": "unavailable_error" } }),
                Kind::RateLimited,
            ),
            (502, router(502, "down"), Kind::ServerError),
            (500, router(500, "the prefill worker is gone"), Kind::ServerError),
            (408, router(408, "Your request timed out"), Kind::Timeout),
            (
                400,
                json!({ "object": "error", "message": "This model's maximum context length is 10 tokens", "type": "BadRequestError", "code": 400 }),
                Kind::ContextLength,
            ),
            (422, json!({ "detail": "nothing" }), Kind::BadRequest),
        ],
    );
}

#[test]
fn a_key_is_never_repeated_and_a_page_never_shown() {
    let body = json!({ "error": { "message": "Incorrect API key provided: sk-abcdef", "code": "invalid_api_key" } });
    let failure = refused(Adapter::OpenAi, 401, &body.to_string());
    assert_eq!(failure.kind, Kind::Unauthorized);
    assert!(!failure.text.contains("abcdef"));
    let body = json!({ "error": { "message": "odd header Bearer abcdef and gsk_ghi here" } });
    let failure = refused(Adapter::OpenAi, 400, &body.to_string());
    assert!(!failure.text.contains("abcdef") && !failure.text.contains("ghi") && failure.text.contains("here"));
    for adapter in Adapter::ALL {
        for (status, kind) in
            [(502, Kind::ServerError), (403, Kind::Unauthorized), (529, Kind::RateLimited), (301, Kind::ServerError)]
        {
            let failure = refused(*adapter, status, "<html><body>cloudflare prefill</body></html>");
            assert_eq!(failure.kind, kind);
            assert!(!failure.text.contains("html") && !failure.text.contains("cloudflare"));
        }
    }
}

#[test]
fn when_to_ask_again_is_read_from_every_place_that_says_it() {
    let now = UnixMs(1_784_110_000_000); // 2026-07-15 10:06:40 UTC
    type Row = (&'static [(&'static str, &'static str)], &'static str, Option<u64>);
    let rows: &[Row] = &[
        (&[("retry-after", "2")], "", Some(2_000)),
        (&[("retry-after", "2.5")], "", Some(2_500)),
        (&[("retry-after", "2"), ("retry-after-ms", "150")], "", Some(150)),
        (&[("retry-after", "Wed, 15 Jul 2026 10:07:10 GMT")], "", Some(30_000)),
        (&[("retry-after", "Wed, 15 Jul 2026 10:00:00 GMT")], "", Some(0)),
        (&[("retry-after", "soon")], "", None),
        (&[("retry-after", "-3")], "", None),
        (&[("retry-after", "99999999999999999999999")], "", Some(31 * 86_400_000)),
        // The reset of what is spent, not of what is left.
        (
            &[
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "2m59.56s"),
                ("x-ratelimit-remaining-tokens", "10"),
                ("x-ratelimit-reset-tokens", "7.66s"),
            ],
            "",
            Some(179_560),
        ),
        (&[("x-ratelimit-remaining-requests", "5"), ("x-ratelimit-reset-requests", "1s")], "", None),
        (&[], "Rate limit reached. Please try again in 5.289s. Visit", Some(5_289)),
        (&[], "try again in 1m2s", Some(62_000)),
        (&[], "try again in a while", None),
        (&[], "", None),
    ];
    for (headers, text, expected) in rows {
        let find = |name: &str| headers.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
        let body = json!({ "error": { "message": text } }).to_string();
        let failure = Adapter::OpenAi.refusal(429, find, now, body.as_bytes());
        assert_eq!(failure.kind, Kind::RateLimited);
        assert_eq!(failure.retry_after, expected.map(Duration::from_millis), "{headers:?} {text}");
    }
}

#[test]
fn the_limits_of_groq_are_read() {
    let headers = [
        ("x-ratelimit-limit-requests", "14400"),
        ("x-ratelimit-limit-tokens", "18000"),
        ("x-ratelimit-remaining-requests", "14370"),
        ("x-ratelimit-remaining-tokens", "17997"),
        ("x-ratelimit-reset-requests", "2m59.56s"),
        ("x-ratelimit-reset-tokens", "7.66s"),
    ];
    let find = |name: &str| headers.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
    let limits = Adapter::OpenAi.limits(find, UnixMs(0));
    assert_eq!((limits.limit_requests, limits.remaining_requests), (Some(14_400), Some(14_370)));
    assert_eq!((limits.limit_tokens, limits.remaining_tokens), (Some(18_000), Some(17_997)));
    assert_eq!(limits.reset_requests, Some(Duration::from_millis(179_560)));
    assert_eq!(limits.reset_tokens, Some(Duration::from_millis(7_660)));
    assert_eq!(limits.spent_for(), None);
    assert_eq!(Adapter::OpenAi.limits(|_| None, UnixMs(0)), ProviderLimits::default());
    assert_eq!(Adapter::OpenAi.limits(|_| Some("1h-"), UnixMs(0)), ProviderLimits::default());
}

#[test]
fn errors_of_anthropic_mean_what_they_say() {
    let anthropic = |kind: &str, message: &str| json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "r" });
    let wrong = "invalid_request_error";
    let spent = json!({ "type": "error", "error": { "type": "rate_limit_error", "message": "x",
        "details": { "error_code": "enforced_spend_limit_reached" } } });
    check(
        Adapter::Anthropic,
        &[
            (400, anthropic(wrong, "prompt is too long: 210000 tokens > 200000 maximum"), Kind::ContextLength),
            (
                400,
                anthropic(wrong, "input length and `max_tokens` exceed context limit: 1 + 2 > 2"),
                Kind::ContextLength,
            ),
            (413, anthropic("request_too_large", "Request exceeds the maximum size"), Kind::ContextLength),
            (400, anthropic(wrong, "Output blocked by content filtering policy"), Kind::ContentFilter),
            (
                400,
                anthropic(
                    wrong,
                    "This model does not support assistant message prefill. The conversation must end with a user message.",
                ),
                Kind::PrefillRefused,
            ),
            (
                400,
                anthropic(wrong, "Your credit balance is too low to access the Anthropic API."),
                Kind::PaymentRequired,
            ),
            (429, spent, Kind::PaymentRequired),
            (
                400,
                anthropic(
                    wrong,
                    "output_config.format.schema: For 'object' type, 'additionalProperties' must be false",
                ),
                Kind::Unsupported,
            ),
            (
                400,
                anthropic(wrong, "`temperature` and `top_p` cannot both be specified for this model."),
                Kind::Unsupported,
            ),
            (400, anthropic(wrong, "messages: at least one message is required"), Kind::BadRequest),
            (401, anthropic("authentication_error", "invalid x-api-key"), Kind::Unauthorized),
            (402, anthropic("billing_error", "x"), Kind::PaymentRequired),
            (403, anthropic("permission_error", "x"), Kind::Unauthorized),
            (404, anthropic("not_found_error", "model: claude-x"), Kind::ModelMissing),
            (429, anthropic("rate_limit_error", "x"), Kind::RateLimited),
            (500, anthropic("api_error", "Internal server error"), Kind::ServerError),
            (503, anthropic("overloaded_error", "Overloaded"), Kind::RateLimited),
            (529, anthropic("overloaded_error", "Overloaded"), Kind::RateLimited),
        ],
    );
}

#[test]
fn errors_of_ollama_mean_what_they_say() {
    check(
        Adapter::Ollama,
        &[
            (404, json!({ "error": "model 'qwen3:8b' not found" }), Kind::ModelMissing),
            (400, json!({ "error": "registry.ollama.ai/library/x does not support tools" }), Kind::Unsupported),
            (400, json!({ "error": "the input length exceeds the context length" }), Kind::ContextLength),
            (
                503,
                json!({ "error": "server busy, please try again.  maximum pending requests exceeded" }),
                Kind::RateLimited,
            ),
            (
                500,
                json!({ "error": "model requires more system memory (5.6 GiB) than is available" }),
                Kind::ServerError,
            ),
            (400, json!({ "error": "invalid duration" }), Kind::BadRequest),
        ],
    );
}
