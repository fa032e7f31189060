//! What can go wrong with one try at a provider, and what each of it means: for the breaker, for the next tier, for the
//! client. This table is the router's policy; adapters only say which row it was.

use std::time::Duration;

/// Prose of a provider that is passed on is cut here, characters.
const LONGEST_TEXT: usize = 300;

/// What a failure says about the tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// The tier is ill: enough of these in a row open its breaker.
    Breaker,
    /// The tier is busy or metered: it is left alone for a while.
    Cooldown,
    /// Nothing will change until a person changes the configuration.
    UntilChange,
    /// It says nothing about the tier.
    Nothing,
}

/// What the router does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next tier of the chain.
    Tier,
    /// The next tier that has a larger context window.
    LargerContext,
    /// Nobody: the client hears it.
    Client,
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident, $code:literal, $counts:ident, $next:ident, $status:literal;)+) => {
        /// Which failure it was.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[$meta])* $kind),+ }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// The stable word for headers, logs, metrics and error bodies.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$kind => $code),+ }
            }

            /// What it says about the tier.
            #[must_use]
            pub const fn counts(self) -> Counts {
                match self { $(Self::$kind => Counts::$counts),+ }
            }

            /// What the router does next.
            #[must_use]
            pub const fn next(self) -> Next {
                match self { $(Self::$kind => Next::$next),+ }
            }

            /// HTTP status when it is the answer that the client gets.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status),+ }
            }
        }
    };
}

kinds! {
    /// No connection: refused, no route, no name, TLS.
    Unreachable, "unreachable", Breaker, Tier, 503;
    /// The connection was cut before the answer was whole.
    Reset, "connection_reset", Breaker, Tier, 502;
    /// No whole answer within the tier's time.
    Timeout, "timeout", Breaker, Tier, 504;
    /// A stream had no content within the tier's time.
    FirstTokenTimeout, "first_token_timeout", Breaker, Tier, 504;
    /// A stream stood still.
    Stalled, "stalled", Breaker, Tier, 504;
    /// 5xx.
    ServerError, "server_error", Breaker, Tier, 502;
    /// 429, or 503 and 529 of a provider that says it is overloaded.
    RateLimited, "rate_limited", Cooldown, Tier, 503;
    /// 401 or 403: the key is wrong.
    Unauthorized, "unauthorized", UntilChange, Tier, 502;
    /// 402: nothing left on the account.
    PaymentRequired, "payment_required", UntilChange, Tier, 502;
    /// The provider does not know the model.
    ModelMissing, "model_missing", UntilChange, Tier, 502;
    /// 400 and 422: the request is wrong, and would be so anywhere.
    BadRequest, "bad_request", Nothing, Client, 400;
    /// The caller asks for a model that the router does not have.
    UnknownModel, "model_not_found", Nothing, Client, 404;
    /// The prompt does not fit.
    ContextLength, "context_length_exceeded", Nothing, LargerContext, 400;
    /// The provider's policy refused the request. Asking another would be a way around it.
    ContentFilter, "content_filter", Nothing, Client, 400;
    /// The model does not continue a message of the assistant.
    PrefillRefused, "prefill_refused", Nothing, Tier, 400;
    /// The tier can't do something that the request asks for.
    Unsupported, "unsupported", Nothing, Tier, 400;
    /// 200 without an answer in it.
    Empty, "empty_answer", Breaker, Tier, 502;
    /// 200 with something that is no answer.
    Malformed, "malformed_answer", Breaker, Tier, 502;
    /// An answer that breaks the schema that was asked for.
    SchemaInvalid, "schema_invalid", Breaker, Tier, 502;
    /// A stream that ended without its end.
    Cut, "cut_stream", Breaker, Tier, 502;
    /// More than the bound on answers.
    TooLarge, "answer_too_large", Nothing, Tier, 502;
    /// Not configured: no key.
    Off, "off", Nothing, Tier, 503;
    /// Its breaker is open.
    BreakerOpen, "breaker_open", Nothing, Tier, 503;
    /// It is left alone until its cooldown ends.
    CoolingDown, "cooling_down", Nothing, Tier, 503;
    /// A quota of the provider would be passed.
    Quota, "quota_spent", Nothing, Tier, 429;
    /// A budget would be passed.
    Budget, "budget_spent", Nothing, Tier, 402;
    /// No room in the tier's queue.
    QueueFull, "queue_full", Nothing, Tier, 503;
    /// Its turn would come too late.
    QueueTooLong, "queue_too_long", Nothing, Tier, 503;
    /// A request of low priority does not spend money.
    LowPriority, "low_priority", Nothing, Tier, 503;
    /// Every tier was tried or left out; the words say why, tier by tier.
    NoTier, "no_tier_answered", Nothing, Client, 503;
    /// A fault of the router itself.
    Internal, "router_fault", Nothing, Client, 500;
    /// More requests at once than the router takes.
    Overloaded, "router_overloaded", Nothing, Client, 503;
    /// The request's own deadline.
    Deadline, "deadline", Nothing, Client, 504;
    /// Whoever waited for the answer went away.
    Cancelled, "cancelled", Nothing, Client, 499;
}

/// One failed try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{}", kind.code(), if text.is_empty() { "" } else { ": " }, text)]
pub struct Failure {
    /// Which row of the table.
    pub kind: Kind,
    /// Status of the provider's answer, where there was one.
    pub status: Option<u16>,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
    /// The provider's or our own words, cleaned and cut. Never the prompt, never a key.
    pub text: String,
}

impl Failure {
    /// A failure with words of our own or the provider's, which are cleaned.
    #[must_use]
    pub fn new(kind: Kind, text: impl AsRef<str>) -> Self {
        Self { kind, status: None, retry_after: None, text: clean(text.as_ref()) }
    }

    /// The same with the status it came with.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same with the name of the tier before its words, for a client that hears of this tier alone.
    #[must_use]
    pub fn told_of(mut self, tier: &str) -> Self {
        self.text = if self.text.is_empty() {
            format!("{tier}: {}", self.kind.code())
        } else {
            format!("{tier}: {}", self.text)
        };
        self
    }

    /// The same with the time the provider wants.
    #[must_use]
    pub const fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }
}

/// One line without control characters, cut.
fn clean(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect();
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_fault_never_opens_a_breaker_and_an_ill_tier_never_ends_the_chain() {
        for kind in Kind::ALL {
            if kind.counts() != Counts::Nothing {
                assert_eq!(kind.next(), Next::Tier, "{kind:?}");
            }
            if kind.next() == Next::Client {
                assert_eq!(kind.counts(), Counts::Nothing, "{kind:?}");
            }
            assert!(kind.status() >= 400, "{kind:?}");
        }
    }

    #[test]
    fn codes_are_one_each() {
        let codes: std::collections::BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
    }

    #[test]
    fn a_client_that_hears_of_one_tier_is_told_which() {
        for (text, told) in [("it stood still", "groq: it stood still"), ("", "groq: stalled")] {
            assert_eq!(Failure::new(Kind::Stalled, text).told_of("groq").text, told);
        }
    }

    #[test]
    fn words_of_a_provider_are_one_short_line() {
        let failure = Failure::new(Kind::ServerError, format!("a\nb\u{1b}[31m{}", "x".repeat(1_000)));
        assert!(!failure.text.chars().any(char::is_control));
        assert_eq!(failure.text.chars().count(), LONGEST_TEXT);
    }
}
