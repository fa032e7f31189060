//! The exchange's JSON, read in one pass without building a tree.

use std::borrow::Cow;
use std::fmt;

use domain::market::Symbol;
use domain::money::{Price, Quantity};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::{FeedEvent, FeedKind, Level};
use crate::decimal;
use crate::error::VenueError;

/// A string that stays where it is unless it has escapes (an `Option<Cow>` would be copied).
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    fn price(&self) -> Option<Price> {
        decimal::price(&self.0)
    }

    fn quantity(&self) -> Option<Quantity> {
        decimal::quantity(&self.0)
    }
}

/// A combined-stream message.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    data: Body<'a>,
}

/// All fields of all messages; which ones are there says what it is.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "e", borrow, default)]
    event: Option<Text<'a>>,
    #[serde(rename = "E", default)]
    event_ms: Option<i64>,
    #[serde(rename = "s", borrow, default)]
    symbol: Option<Text<'a>>,
    #[serde(rename = "U", default)]
    first_update_id: Option<u64>,
    #[serde(rename = "u", default)]
    final_update_id: Option<u64>,
    #[serde(rename = "b", borrow, default)]
    bids: Option<OneOrMany<'a>>,
    #[serde(rename = "a", borrow, default)]
    asks: Option<OneOrMany<'a>>,
    #[serde(rename = "B", borrow, default)]
    bid_quantity: Option<Text<'a>>,
    #[serde(rename = "A", borrow, default)]
    ask_quantity: Option<Text<'a>>,
    #[serde(rename = "t", default)]
    trade_id: Option<u64>,
    #[serde(rename = "p", borrow, default)]
    price: Option<Text<'a>>,
    #[serde(rename = "q", borrow, default)]
    quantity: Option<Text<'a>>,
    #[serde(rename = "T", default)]
    traded_ms: Option<i64>,
    #[serde(rename = "m", default)]
    buyer_is_maker: Option<bool>,
    #[serde(rename = "lastUpdateId", default)]
    last_update_id: Option<u64>,
    #[serde(rename = "bids", borrow, default)]
    snapshot_bids: Option<OneOrMany<'a>>,
    #[serde(rename = "asks", borrow, default)]
    snapshot_asks: Option<OneOrMany<'a>>,
}

/// `b` and `a` are a price in a bookTicker and a list of levels in a depth update.
enum OneOrMany<'a> {
    One(Cow<'a, str>),
    Many(Vec<Level>),
}

impl<'de: 'a, 'a> Deserialize<'de> for OneOrMany<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a price or a list of levels")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut levels = Vec::with_capacity(16);
        while let Some(level) = seq.next_element::<Level>()? {
            levels.push(level);
        }
        Ok(OneOrMany::Many(levels))
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(2, LevelVisitor)
    }
}

struct LevelVisitor;

impl<'de> Visitor<'de> for LevelVisitor {
    type Value = Level;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pair of price and quantity")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let PriceText(price) =
            seq.next_element()?.ok_or_else(|| serde::de::Error::custom("a level without a price"))?;
        let QuantityText(quantity) =
            seq.next_element()?.ok_or_else(|| serde::de::Error::custom("a level without a quantity"))?;
        // Old snapshots carry an empty third element.
        while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(Level { price, quantity })
    }
}

/// Reads a string as an amount while it is still borrowed from the message.
macro_rules! amount_text {
    ($name:ident, $value:ty, $read:path, $what:literal) => {
        struct $name($value);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $read(text).map($name).ok_or_else(|| E::custom(concat!("not ", $what)))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}
amount_text!(PriceText, Price, decimal::price, "a positive price");
amount_text!(QuantityText, Quantity, decimal::quantity, "a quantity");

/// Reads one line of a recording. `symbol` names the instrument of a snapshot, which does not say it itself. `None`:
/// an empty line, or a message that is no market data (see [`parse_message`]).
///
/// # Errors
/// [`VenueError::Malformed`].
pub fn parse_line(line: &str, symbol: Option<&Symbol>) -> Result<Option<FeedEvent>, VenueError> {
    let line = line.trim_end_matches(['\n', '\r']);
    if line.is_empty() {
        return Ok(None);
    }
    let (time, json) = line.split_once(' ').ok_or_else(|| malformed("a line without a receive time", line))?;
    let received_at_ns = time.parse::<i64>().map_err(|_| malformed("receive time", time))?;
    parse_message(received_at_ns, json, symbol)
}

/// Reads one message of the exchange, bare or wrapped as a combined stream does. `None` when it is no market data: the
/// answer to a subscription, a stream this crate has no use for, or a bookTicker of a book with an empty side.
///
/// # Errors
/// [`VenueError::Malformed`]: not JSON, a field missing, an amount that is none.
pub fn parse_message(
    received_at_ns: i64,
    json: &str,
    symbol: Option<&Symbol>,
) -> Result<Option<FeedEvent>, VenueError> {
    let bad = |error: serde_json::Error| malformed(&error.to_string(), json);
    if json.starts_with("{\"stream\"") || json.starts_with("{\"data\"") {
        let Wrapped { stream, data } = serde_json::from_str::<Wrapped<'_>>(json).map_err(bad)?;
        let named = data.symbol.is_none().then(|| stream_symbol(&stream)).flatten();
        return event(received_at_ns, data, named.as_ref().or(symbol), json);
    }
    event(received_at_ns, serde_json::from_str::<Body<'_>>(json).map_err(bad)?, symbol, json)
}

/// Reads the REST answer of a depth snapshot of `symbol`.
///
/// # Errors
/// [`VenueError::Malformed`].
pub fn parse_snapshot(received_at_ns: i64, json: &str, symbol: &Symbol) -> Result<FeedEvent, VenueError> {
    match parse_message(received_at_ns, json, Some(symbol))? {
        Some(event) if matches!(event.kind, FeedKind::Snapshot { .. }) => Ok(event),
        _ => Err(malformed("not a depth snapshot", json)),
    }
}

fn event(
    received_at_ns: i64,
    body: Body<'_>,
    named: Option<&Symbol>,
    json: &str,
) -> Result<Option<FeedEvent>, VenueError> {
    let symbol = match body.symbol.as_ref().map(|text| text.0.as_ref()) {
        Some(text) => Symbol::parse(text),
        None => named.cloned(),
    };
    let Some(kind) = kind(body, json)? else { return Ok(None) };
    let symbol = symbol.ok_or_else(|| malformed("no symbol", json))?;
    Ok(Some(FeedEvent { received_at_ns, symbol, kind }))
}

fn kind(body: Body<'_>, json: &str) -> Result<Option<FeedKind>, VenueError> {
    let need = |what: &str| malformed(&format!("no or bad {what}"), json);
    match body.event.as_ref().map(|text| text.0.as_ref()) {
        Some("depthUpdate") => Ok(Some(FeedKind::Depth {
            first_update_id: body.first_update_id.ok_or_else(|| need("U"))?,
            final_update_id: body.final_update_id.ok_or_else(|| need("u"))?,
            event_ms: body.event_ms.ok_or_else(|| need("E"))?,
            bids: many(body.bids).ok_or_else(|| need("b"))?,
            asks: many(body.asks).ok_or_else(|| need("a"))?,
        })),
        Some("trade") => Ok(Some(FeedKind::Trade {
            trade_id: body.trade_id.ok_or_else(|| need("t"))?,
            price: body.price.as_ref().and_then(Text::price).ok_or_else(|| need("p"))?,
            quantity: body.quantity.as_ref().and_then(Text::quantity).ok_or_else(|| need("q"))?,
            traded_ms: body.traded_ms.ok_or_else(|| need("T"))?,
            buyer_is_maker: body.buyer_is_maker.ok_or_else(|| need("m"))?,
        })),
        Some("bookTicker") => ticker(&body, json),
        Some(_) => Ok(None),
        None if body.last_update_id.is_some() => Ok(Some(FeedKind::Snapshot {
            last_update_id: body.last_update_id.ok_or_else(|| need("lastUpdateId"))?,
            bids: many(body.snapshot_bids).ok_or_else(|| need("bids"))?,
            asks: many(body.snapshot_asks).ok_or_else(|| need("asks"))?,
        })),
        // Spot's bookTicker has no event name.
        None if body.final_update_id.is_some() => ticker(&body, json),
        None => Ok(None),
    }
}

fn ticker(body: &Body<'_>, json: &str) -> Result<Option<FeedKind>, VenueError> {
    let need = |what: &str| malformed(&format!("no or bad {what}"), json);
    let price = |side: &Option<OneOrMany<'_>>, what: &str| match side {
        Some(OneOrMany::One(text)) => decimal::parse(text).ok_or_else(|| need(what)),
        _ => Err(need(what)),
    };
    let (bid, ask) = (price(&body.bids, "b")?, price(&body.asks, "a")?);
    if bid.is_zero() || ask.is_zero() {
        return Ok(None);
    }
    Ok(Some(FeedKind::BookTicker {
        update_id: body.final_update_id.ok_or_else(|| need("u"))?,
        bid: Price::new(bid).map_err(|_| need("b"))?,
        bid_quantity: body.bid_quantity.as_ref().and_then(Text::quantity).ok_or_else(|| need("B"))?,
        ask: Price::new(ask).map_err(|_| need("a"))?,
        ask_quantity: body.ask_quantity.as_ref().and_then(Text::quantity).ok_or_else(|| need("A"))?,
    }))
}

fn many(side: Option<OneOrMany<'_>>) -> Option<Vec<Level>> {
    match side? {
        OneOrMany::Many(levels) => Some(levels),
        OneOrMany::One(_) => None,
    }
}

fn stream_symbol(stream: &str) -> Option<Symbol> {
    Symbol::parse(&stream.split('@').next()?.to_ascii_uppercase())
}

/// Both are cut: a reader's own words repeat what they stumbled over, however long it is.
fn malformed(what: &str, text: &str) -> VenueError {
    let head = |text: &str, most| text.chars().take(most).collect::<String>();
    VenueError::Malformed { what: format!("{}: {}", head(what, 160), head(text, 80)) }
}
