//! What a human reads: snapshots, and that nothing an agent says can change it.

use domain::canonical::Sha256Digest;
use domain::money::{Price, Quantity, Usd};
use domain::order::{OrderEnvelope, OrderType, Side, Slicing, TimeInForce};
use domain::time::UnixMs;
use rails::render::{HEADING, MAX_PROSE_CHARS, MAX_PROSE_LINES, digest_words, lines, prose, shown};

use crate::scene;

fn envelope() -> OrderEnvelope {
    let mut order = scene::envelope(1, &scene::btc(), Side::Buy, scene::quantity("0.025"), scene::price("60000.01"));
    order.max_slippage_bps = 105;
    order.valid_until = UnixMs(1_800_000_900_000);
    order.policy_version = "0123456789abcdef".to_owned();
    order
}

fn digest() -> Sha256Digest {
    Sha256Digest::parse(&"7f00000120c0a801".repeat(4)).unwrap()
}

const FIELDS: &str = "\
Order: BUY 0.025 BTCUSDT
Worst price: $60000.01 per unit
At most: $1500.00025
Slippage at most: 1.05 %
Only reduces: no
Kind: place (limit, what does not trade at once is cancelled)
Venue: paper
Valid until: 2027-01-15T08:15:00.000Z
Tier: 1
";

#[test]
fn the_fields_are_these() {
    let seen = shown(&envelope(), 1, digest(), "");
    let (head, tail) = seen.text.split_at(FIELDS.len());
    assert_eq!(head, FIELDS);
    let order = envelope();
    let want = format!(
        "Account: {}\nOrder id: {}\nPolicy: 0123456789abcdef\nDigest: {}\nDigest words: lusab babad fagab pobad\n",
        order.user_id,
        order.order_id,
        digest()
    );
    assert_eq!(tail, want);
    assert_eq!(seen.prose, "");
}

#[test]
fn each_kind_of_order_says_what_it_is() {
    for (order_type, time_in_force, says) in [
        (OrderType::Limit, TimeInForce::GoodTillCancelled, "place (limit, rests until it trades or ends)"),
        (OrderType::Market, TimeInForce::ImmediateOrCancel, "place (market, bounded by the worst price)"),
        (OrderType::Market, TimeInForce::GoodTillCancelled, "place (market, rests at the worst price)"),
    ] {
        let order = OrderEnvelope { order_type, time_in_force, side: Side::Sell, reduce_only: true, ..envelope() };
        let order = OrderEnvelope { min_out: Quantity::parse("3").unwrap(), ..order };
        let lines = lines(&order, 2, digest());
        let value = |label: &str| lines.iter().find(|(name, _)| name == label).unwrap().1.clone();
        assert_eq!(value("Kind"), says);
        assert_eq!((value("Order"), value("Only reduces")), ("SELL 0.025 BTCUSDT".to_owned(), "yes".to_owned()));
        assert_eq!((value("At least out"), value("Tier")), ("3".to_owned(), "2".to_owned()));
    }
}

fn sliced(count: u16, part: &str, every_ms: u32) -> OrderEnvelope {
    let quantity = Quantity::parse(part).unwrap();
    OrderEnvelope { slicing: Some(Slicing { count, quantity, every_ms }), ..envelope() }
}

#[test]
fn slices_are_shown_to_whoever_approves() {
    let lines = lines(&sliced(5, "0.005", 1_500), 1, digest());
    let said = lines.iter().find(|(name, _)| name == "Slices").unwrap();
    assert_eq!(said.1, "5 child orders of 0.005, the last with the rest, 1500 ms apart");
}

#[test]
fn every_number_of_an_order_is_in_what_is_shown() {
    let base = shown(&envelope(), 1, digest(), "same");
    for changed in [
        OrderEnvelope { quantity: Quantity::parse("0.026").unwrap(), ..envelope() },
        OrderEnvelope { worst_price: Price::parse("60000.02").unwrap(), ..envelope() },
        OrderEnvelope { max_notional_usd: Usd::parse("1500.01").unwrap(), ..envelope() },
        OrderEnvelope { max_slippage_bps: 106, ..envelope() },
        OrderEnvelope { valid_until: UnixMs(1_800_000_900_001), ..envelope() },
        OrderEnvelope { side: Side::Sell, ..envelope() },
        OrderEnvelope { policy_version: "p2".to_owned(), ..envelope() },
        OrderEnvelope { venue: domain::market::Venue::Binance, ..envelope() },
        OrderEnvelope { symbol: domain::market::Symbol::parse("ETHUSDT").unwrap(), ..envelope() },
        sliced(5, "0.005", 1_000),
        sliced(4, "0.005", 1_000),
        sliced(5, "0.004", 1_000),
        sliced(5, "0.005", 1_001),
    ] {
        let other = shown(&changed, 1, digest(), "same");
        assert_ne!((base.text.clone(), base.digest), (other.text, other.digest), "{changed:?}");
    }
    assert_ne!(shown(&envelope(), 2, digest(), "same").digest, base.digest);
    assert_ne!(shown(&envelope(), 1, Sha256Digest::ZERO, "same").digest, base.digest);
    assert_ne!(shown(&envelope(), 1, digest(), "other").digest, base.digest);
}

/// Everything that was tried on people: a wall of text, other directions, fields of its own, digits of other scripts.
fn attacks() -> Vec<String> {
    vec![
        "x".repeat(10_000),
        "\n".repeat(10_000) + "Order: BUY 1 BTCUSDT",
        "fine\nOrder: BUY 0.00001 BTCUSDT\r\nAt most: $1\u{2028}Tier: 0\u{2029}Digest: 00\u{85}ok".to_owned(),
        "\u{202e}TDSUCTB 1 YUB\u{202c} \u{2066}hidden\u{2069}\u{200f}".to_owned(),
        "\u{200b}\u{200d}\u{feff}\u{2060}\u{ad}\u{e0041}\u{fe0f}\u{3164}\u{2800}".repeat(500),
        "at most ＄１０ or $１٠௧𝟏, approved already".to_owned(),
        format!("A{}", "\u{300}\u{20dd}".repeat(2_000)),
        "\u{1b}[2J\u{1b}[H\u{7}\u{8}\u{8}\u{8}cleared\u{0}".to_owned(),
        "> Order: BUY 1\n\n\n> At most: $1\n--\nagent says (unverified)\nTier: 0".to_owned(),
        "a\n".repeat(300),
    ]
}

#[test]
fn nothing_an_agent_says_alters_hides_or_moves_the_numbers() {
    let want = shown(&envelope(), 1, digest(), "").text;
    for said in attacks() {
        let seen = shown(&envelope(), 1, digest(), &said);
        assert!(seen.text.starts_with(&want), "{said:?}");
        let rest = &seen.text[want.len()..];
        if seen.prose.is_empty() {
            assert_eq!(rest, "", "{said:?}");
            continue;
        }
        assert_eq!(rest, format!("\n{HEADING}\n{}\n", seen.prose), "{said:?}");
        let lines: Vec<&str> = seen.prose.split('\n').collect();
        assert!(lines.len() <= MAX_PROSE_LINES, "{said:?}");
        for line in lines {
            assert!(line.starts_with("> ") && line.len() > 2, "{line:?}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        assert!(seen.prose.chars().count() <= MAX_PROSE_CHARS + 3 * MAX_PROSE_LINES, "{said:?}");
        for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{e0041}', '\u{3164}', '\u{2028}', '\u{1b}'] {
            assert!(!seen.text.contains(hidden), "{hidden:?}");
        }
    }
}

#[test]
fn what_an_agent_says_is_kept_as_far_as_it_is_harmless() {
    for (said, want) in [
        ("", ""),
        (" \n\t\n", ""),
        ("mean reversion: z = -2.1", "> mean reversion: z = -2.1"),
        ("at most ＄１０ and ٠", "> at most ＄１０ and ٠"),
        ("fine\nAt most: $1\r\n\r\nTier: 0", "> fine\n> At most: $1\n> Tier: 0"),
        ("> quoted", "> > quoted"),
        ("gr\u{fc}n caf\u{65}\u{301}", "> gr\u{fc}n caf\u{65}\u{301}"),
        ("\u{202e}abc\u{202c}", "> abc"),
        ("z\u{300}\u{301}\u{302}\u{303}a", "> z\u{300}\u{301}a"),
        ("a\u{2028}b\u{85}c", "> a\n> b\n> c"),
    ] {
        assert_eq!(prose(said), want, "{said:?}");
    }
    assert_eq!(prose(&"x".repeat(10_000)), format!("> {}", "x".repeat(MAX_PROSE_CHARS)));
    assert_eq!(prose(&"a\n".repeat(300)).split('\n').count(), MAX_PROSE_LINES);
    // What would pass the bound together with the lines before it is left out as a whole.
    let full = "a\n".repeat(MAX_PROSE_LINES);
    assert_eq!(prose(&format!("{full}{}", "x".repeat(MAX_PROSE_CHARS))), prose(&full));
    let many = prose(&(0..20).map(|n| format!("{n}\n")).collect::<String>());
    assert!(many.ends_with("> 11 12 13 14 15 16 17 18 19"), "{many}");
}

#[test]
fn digest_words_are_those_of_its_first_bytes() {
    let words = |hex: &str| digest_words(Sha256Digest::parse(&hex.repeat(4)).unwrap()).join("-");
    // Examples of the paper: 127.0.0.1, 63.84.220.193, 140.98.193.141, 64.255.6.200.
    assert_eq!(words("7f0000013f54dcc1"), "lusab-babad-gutih-tugad");
    assert_eq!(words("8c62c18d40ff06c8"), "mudof-sakat-haguz-biram");
}
