//! Why a message was turned away at the door, before money saw it. Stable codes: they go to the dead-letter stream, to
//! metrics and into the documentation.

/// A stable code for a message that is not acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectCode {
    /// No bytes at all.
    Empty,
    /// Larger than 64 KiB.
    Oversized,
    /// Neither Protobuf by header nor JSON by its first byte.
    UnknownContentType,
    /// Protobuf that does not decode.
    BadProtobuf,
    /// JSON that does not parse, or holds invalid UTF-8.
    BadJson,
    /// JSON nested deeper than 32 levels.
    TooDeep,
    /// JSON with a field that the contract does not have.
    UnknownField,
    /// The subject is none of the swarm's.
    UnknownSubject,
    /// A message without a payload, or with another one than its subject carries.
    WrongPayload,
    /// A required id is missing or no UUID.
    BadId,
    /// An enum value that is unspecified or unknown.
    BadEnum,
    /// A decimal that is no plain decimal, or out of range.
    BadDecimal,
    /// A field that must be there is missing or empty.
    MissingField,
    /// Two fields that exclude each other, or neither of them.
    AmbiguousAmount,
    /// A text longer than its field allows, or with control characters.
    BadText,
    /// A schema version this build does not know.
    UnknownVersion,
    /// Its valid-until, or timestamp plus ttl, has passed.
    Expired,
    /// Stamped more than 5 s ahead of our clock.
    FromTheFuture,
    /// It names another user than the door it came through.
    WrongUser,
    /// Its instrument is no symbol of any venue here.
    UnknownInstrument,
    /// No fresh price, so it can't be planned.
    NoMark,
    /// Rounded down to the venue's step, nothing is left, or less than the venue takes.
    TooSmall,
    /// The handler failed on it until its attempts ran out.
    AttemptsExhausted,
    /// The action is understood but not offered.
    NotSupported,
}

impl RejectCode {
    /// All codes.
    pub const ALL: [Self; 24] = [
        Self::Empty,
        Self::Oversized,
        Self::UnknownContentType,
        Self::BadProtobuf,
        Self::BadJson,
        Self::TooDeep,
        Self::UnknownField,
        Self::UnknownSubject,
        Self::WrongPayload,
        Self::BadId,
        Self::BadEnum,
        Self::BadDecimal,
        Self::MissingField,
        Self::AmbiguousAmount,
        Self::BadText,
        Self::UnknownVersion,
        Self::Expired,
        Self::FromTheFuture,
        Self::WrongUser,
        Self::UnknownInstrument,
        Self::NoMark,
        Self::TooSmall,
        Self::AttemptsExhausted,
        Self::NotSupported,
    ];

    /// The code as people and machines read it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "EMPTY",
            Self::Oversized => "OVERSIZED",
            Self::UnknownContentType => "UNKNOWN_CONTENT_TYPE",
            Self::BadProtobuf => "BAD_PROTOBUF",
            Self::BadJson => "BAD_JSON",
            Self::TooDeep => "TOO_DEEP",
            Self::UnknownField => "UNKNOWN_FIELD",
            Self::UnknownSubject => "UNKNOWN_SUBJECT",
            Self::WrongPayload => "WRONG_PAYLOAD",
            Self::BadId => "BAD_ID",
            Self::BadEnum => "BAD_ENUM",
            Self::BadDecimal => "BAD_DECIMAL",
            Self::MissingField => "MISSING_FIELD",
            Self::AmbiguousAmount => "AMBIGUOUS_AMOUNT",
            Self::BadText => "BAD_TEXT",
            Self::UnknownVersion => "UNKNOWN_VERSION",
            Self::Expired => "EXPIRED",
            Self::FromTheFuture => "FROM_THE_FUTURE",
            Self::WrongUser => "WRONG_USER",
            Self::UnknownInstrument => "UNKNOWN_INSTRUMENT",
            Self::NoMark => "NO_MARK",
            Self::TooSmall => "TOO_SMALL",
            Self::AttemptsExhausted => "ATTEMPTS_EXHAUSTED",
            Self::NotSupported => "NOT_SUPPORTED",
        }
    }
}

/// A rejection with what was found, for the dead letter. The detail names fields, never repeats untrusted text at
/// length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {detail}", code.code())]
pub struct Reject {
    /// Stable code.
    pub code: RejectCode,
    /// Field and reason, at most 200 characters.
    pub detail: String,
}

impl Reject {
    /// Makes a rejection; the detail is cut to 200 characters and freed of control characters.
    #[must_use]
    pub fn new(code: RejectCode, detail: impl AsRef<str>) -> Self {
        let detail = detail.as_ref().chars().filter(|c| !c.is_control()).take(200).collect();
        Self { code, detail }
    }
}
