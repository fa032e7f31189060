//! The decoders under test. A target panics when a decoder did something it promises not to do.

mod files;
mod journal;
mod message;
mod settings;
mod signed;
mod venue;
mod words;

mod money;

use crate::seeds::{self, Seeds};

/// One decoder, or a few that read the same text.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: folder of its corpus, argument of `make fuzz`.
    pub name: &'static str,
    /// What it reads.
    pub reads: &'static str,
    /// Longest input tried, bytes.
    pub max_bytes: usize,
    /// Feeds it one input.
    pub run: fn(&[u8]),
    /// What it starts from.
    pub seeds: fn() -> Seeds,
}

/// All targets.
pub const TARGETS: [Target; 16] = [
    Target {
        name: "protobuf",
        reads: "Protobuf messages off the bus",
        max_bytes: 4_096,
        run: message::protobuf,
        seeds: seeds::protobuf,
    },
    Target {
        name: "json",
        reads: "JSON signals and messages off the bus",
        max_bytes: 4_096,
        run: message::json,
        seeds: seeds::json,
    },
    Target {
        name: "door",
        reads: "subjects and headers of NATS messages",
        max_bytes: 2_048,
        run: message::door,
        seeds: seeds::door,
    },
    Target { name: "money", reads: "decimals", max_bytes: 200, run: money::money, seeds: seeds::money },
    Target {
        name: "feed",
        reads: "market data of the exchange, stream and depth snapshot",
        max_bytes: 4_096,
        run: venue::feed,
        seeds: seeds::feed,
    },
    Target {
        name: "recording",
        reads: "recordings, packed and plain, into books",
        max_bytes: 8_192,
        run: venue::recording,
        seeds: seeds::recording,
    },
    Target {
        name: "exchange_info",
        reads: "instruments and filters of the exchange",
        max_bytes: 4_096,
        run: venue::exchange_info,
        seeds: seeds::exchange_info,
    },
    Target {
        name: "journal",
        reads: "journal of the paper exchange",
        max_bytes: 8_192,
        run: journal::journal,
        seeds: seeds::journal,
    },
    Target {
        name: "limits",
        reads: "limits.toml and a person's own limits",
        max_bytes: 4_096,
        run: settings::limits,
        seeds: seeds::limits,
    },
    Target {
        name: "planner",
        reads: "planner.toml, strategies.toml and review.toml",
        max_bytes: 4_096,
        run: settings::planner,
        seeds: seeds::planner,
    },
    Target {
        name: "replay",
        reads: "replay.toml and record.toml",
        max_bytes: 4_096,
        run: settings::replay,
        seeds: seeds::replay,
    },
    Target {
        name: "desk",
        reads: "desk.toml and people.toml",
        max_bytes: 4_096,
        run: settings::desk,
        seeds: seeds::desk,
    },
    Target {
        name: "signed",
        reads: "signed acts, envelopes, permits, keys",
        max_bytes: 4_096,
        run: signed::signed,
        seeds: seeds::signed,
    },
    Target {
        name: "anchors",
        reads: "signed heads of the audit chains",
        max_bytes: 4_096,
        run: files::anchors,
        seeds: seeds::anchors,
    },
    Target {
        name: "small_files",
        reads: "kill level, plan, connect.json, holdings",
        max_bytes: 4_096,
        run: files::small_files,
        seeds: seeds::small_files,
    },
    Target {
        name: "words",
        reads: "updates of Telegram, linking codes, and what agents say",
        max_bytes: 2_048,
        run: words::words,
        seeds: seeds::words,
    },
];

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
