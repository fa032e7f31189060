//! What a stream answers to a publish, and what that answer means for whoever sent it.

use serde::Deserialize;

/// A stream's answer to a publish.
#[derive(Deserialize)]
pub(crate) struct PubAck {
    #[serde(default)]
    pub stream: String,
    #[serde(default)]
    pub seq: u64,
    #[serde(default)]
    pub duplicate: bool,
    pub error: Option<ApiError>,
}

/// A JetStream error: HTTP-like class, the server's own code, and its words.
#[derive(Deserialize)]
pub(crate) struct ApiError {
    #[serde(default)]
    pub code: u16,
    #[serde(default)]
    pub err_code: u64,
    #[serde(default)]
    pub description: String,
}

/// What an error answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Whether it was stored is not known, or will be known later: the same id is sent again.
    Unanswered,
    /// A limit is reached; nothing was stored.
    Full,
    /// Larger than the stream takes.
    TooLarge,
    /// A retry would change nothing.
    Refused,
}

/// Codes by the server's own list (`server/errors.json` of nats-server, where each has the name given here). What is not
/// named is judged by its class: 503 is "not now".
const MEANINGS: [(u64, Meaning); 17] = [
    (10_002, Meaning::Full),       // JSAccountResourcesExceededErr
    (10_007, Meaning::Unanswered), // JSClusterNotAssignedErr: this node does not have the stream yet
    (10_008, Meaning::Unanswered), // JSClusterNotAvailErr
    (10_009, Meaning::Unanswered), // JSClusterNotLeaderErr
    (10_023, Meaning::Full),       // JSInsufficientResourcesErr: the server's own limit
    (10_028, Meaning::Full),       // JSMemoryResourcesExceededErr
    (10_039, Meaning::Unanswered), // JSNotEnabledForAccountErr: it starts, or has switched itself off
    (10_041, Meaning::Unanswered), // JSRaftGeneralErrF: leadership was lost on the way
    (10_047, Meaning::Full),       // JSStorageResourcesExceededErr
    (10_053, Meaning::Full),       // JSStreamLimitsErrF
    (10_054, Meaning::TooLarge),   // JSStreamMessageExceedsMaximumErr
    (10_076, Meaning::Unanswered), // JSNotEnabledErr
    (10_077, Meaning::Full),       // JSStreamStoreFailedF, as far as it speaks of a limit; see `of`
    (10_118, Meaning::Unanswered), // JSStreamOfflineErr
    (10_158, Meaning::Unanswered), // JSStreamDuplicateMessageConflict: an earlier try is being stored just now
    (10_167, Meaning::Unanswered), // JSStreamTooManyRequests
    (10_194, Meaning::Unanswered), // JSStreamOfflineReasonErrF
];

/// The stream could not store it; the reason is only in the words.
const STORE_FAILED: u64 = 10_077;

/// What `error` means.
pub(crate) fn meaning(error: &ApiError) -> Meaning {
    // "maximum messages exceeded" and its like are limits. All else is the disk: what a failed write left is not known.
    if error.err_code == STORE_FAILED && !error.description.starts_with("maximum ") {
        return Meaning::Unanswered;
    }
    let named = MEANINGS.iter().find(|(code, _)| *code == error.err_code).map(|(_, meaning)| *meaning);
    named.unwrap_or(if error.code == 503 { Meaning::Unanswered } else { Meaning::Refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16, err_code: u64, words: &str) -> Meaning {
        meaning(&ApiError { code, err_code, description: words.to_owned() })
    }

    #[test]
    fn an_answer_that_says_nothing_about_the_message_is_no_refusal() {
        for (code, err_code, words) in [
            (409, 10_158, "duplicate message id is in process"),
            (503, 10_008, "JetStream system temporarily unavailable"),
            (500, 10_009, "JetStream cluster can not handle request"),
            (503, 10_039, "JetStream not enabled for account"),
            (503, 10_076, "JetStream not enabled"),
            (500, 10_118, "stream is offline"),
            (503, 10_077, "write /data/msgs/1.blk: no space left on device"),
            (503, 10_077, "unable to write"),
            (429, 10_167, "too many requests"),
            (503, 19_999, "a code of tomorrow"),
        ] {
            assert_eq!(of(code, err_code, words), Meaning::Unanswered, "{err_code} {words}");
        }
    }

    #[test]
    fn limits_are_told_apart_from_refusals() {
        for (code, err_code, words, expected) in [
            (503, 10_077, "maximum messages exceeded", Meaning::Full),
            (503, 10_077, "maximum bytes exceeded", Meaning::Full),
            (503, 10_023, "insufficient resources", Meaning::Full),
            (500, 10_047, "insufficient storage resources available", Meaning::Full),
            (400, 10_054, "message size exceeds maximum allowed", Meaning::TooLarge),
            (400, 10_071, "wrong last sequence: 7", Meaning::Refused),
            (400, 19_999, "a code of tomorrow", Meaning::Refused),
        ] {
            assert_eq!(of(code, err_code, words), expected, "{err_code} {words}");
        }
    }
}
