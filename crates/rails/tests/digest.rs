//! The digest a human approves: any change of any field makes another, and nothing about how a document is written can.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use domain::ids::{ApprovalId, IntentId, OrderId, UserId};
use domain::market::{Symbol, Venue};
use domain::money::{Price, Quantity, Usd};
use domain::order::{OrderEnvelope, OrderType, Side, Slicing, TimeInForce};
use domain::time::UnixMs;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use uuid::Uuid;

fn amount() -> impl Strategy<Value = Decimal> {
    (1_i64..1_000_000_000_000, 0_u32..=8).prop_map(|(units, scale)| Decimal::new(units, scale).normalize())
}

fn of<T: Clone + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

prop_compose! {
    fn envelope()(
        ids in any::<[u128; 3]>(),
        words in ("[a-z]{1,8}", "[A-Za-z0-9]{1,12}", "[0-9a-f]{16}", "s[0-9a-f]{4}"),
        kind in (of(&[Venue::Paper, Venue::PaperDex, Venue::Binance, Venue::Jupiter]), of(Side::ALL), of(OrderType::ALL), of(TimeInForce::ALL)),
        amounts in (amount(), amount(), amount(), amount()),
        rest in (any::<u32>(), any::<bool>(), 0_i64..4_000_000_000_000),
    ) -> OrderEnvelope {
        OrderEnvelope {
            schema: OrderEnvelope::SCHEMA.to_owned(),
            action: words.0,
            user_id: UserId(Uuid::from_u128(ids[0])),
            client_order_id: words.3,
            order_id: OrderId(Uuid::from_u128(ids[1])),
            intent_id: IntentId(Uuid::from_u128(ids[2])),
            venue: kind.0,
            symbol: Symbol::parse(&words.1).unwrap(),
            side: kind.1,
            order_type: kind.2,
            time_in_force: kind.3,
            quantity: Quantity::new(amounts.0).unwrap(),
            worst_price: Price::new(amounts.1).unwrap(),
            max_notional_usd: Usd::new(amounts.2).unwrap(),
            max_slippage_bps: rest.0,
            min_out: Quantity::new(amounts.3).unwrap(),
            reduce_only: rest.1,
            valid_until: UnixMs(rest.2),
            policy_version: words.2,
            slicing: Some(Slicing {
                count: u16::try_from(rest.0 % 50).unwrap(),
                quantity: Quantity::new(amounts.3).unwrap(),
                every_ms: rest.0,
            }),
        }
    }
}

fn fields(envelope: &OrderEnvelope) -> Map<String, Value> {
    serde_json::to_value(envelope).unwrap().as_object().unwrap().clone()
}

/// The fields in the order that `keys` gives, as a text with blanks in it.
fn written(fields: &Map<String, Value>, keys: &[&String]) -> String {
    let body: Vec<String> = keys.iter().map(|key| format!(" {:?} :\n {}", key, fields[*key])).collect();
    format!("{{{}\t}}", body.join(" , "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Takes every field in turn from another envelope: whenever that changes the value it changes the digest, and two
    /// changes never make the same one.
    #[test]
    fn a_change_of_any_field_changes_the_digest(one in envelope(), other in envelope()) {
        let (base, theirs) = (fields(&one), fields(&other));
        let mut digests = vec![one.digest().unwrap()];
        for (name, value) in &theirs {
            if base[name] == *value {
                continue;
            }
            let mut changed = base.clone();
            changed.insert(name.clone(), value.clone());
            let changed: OrderEnvelope = serde_json::from_value(Value::Object(changed)).unwrap();
            digests.push(changed.digest().unwrap());
        }
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        prop_assert_eq!(digests.len(), count);
        prop_assert_eq!(base.len(), 20, "a field that is not in this test is not in the digest's proof");
    }

    /// Key order and blanks are nothing; a key twice is no envelope, whichever of the two would win.
    #[test]
    fn how_it_is_written_does_not(one in envelope(), other in envelope(), seed in any::<u64>()) {
        let base = fields(&one);
        let mut keys: Vec<&String> = base.keys().collect();
        keys.sort_by_key(|key| domain::ids::derive("order", &[key.as_bytes(), &seed.to_be_bytes()]));
        let read: OrderEnvelope = serde_json::from_str(&written(&base, &keys)).unwrap();
        prop_assert_eq!(read.digest().unwrap(), one.digest().unwrap());
        let theirs = fields(&other);
        for key in keys.iter().copied() {
            let text = written(&base, &keys);
            let twice = format!("{}, {key:?}: {} }}", text.trim_end_matches(['}', '\t']), theirs[key]);
            prop_assert!(serde_json::from_str::<OrderEnvelope>(&twice).is_err(), "{}", twice);
        }
    }

    /// Numbers that are equal are one number however they are written.
    #[test]
    fn trailing_zeros_are_nothing(one in envelope(), zeros in 1_u32..6) {
        let mut padded = fields(&one);
        let text = padded["quantity"].as_str().unwrap().to_owned();
        let point = if text.contains('.') { "" } else { "." };
        padded.insert("quantity".to_owned(), Value::String(format!("{text}{point}{}", "0".repeat(zeros as usize))));
        let read: OrderEnvelope = serde_json::from_value(Value::Object(padded)).unwrap();
        prop_assert_eq!(read.digest().unwrap(), one.digest().unwrap());
    }
}

#[test]
fn an_act_on_a_request_names_it_and_its_envelope() {
    use domain::person::{Act, Change, PersonAct, Vote};
    let (id, digest) = (ApprovalId(Uuid::nil()), domain::canonical::Sha256Digest([1; 32]));
    let change = |text: &str| Change { quantity: Some(Quantity::parse(text).unwrap()), worst_price: None };
    let acts = [
        Act::Vote { approval_id: id, digest, vote: Vote::Approve },
        Act::Vote { approval_id: id, digest, vote: Vote::Reject },
        Act::Vote { approval_id: ApprovalId(Uuid::from_u128(1)), digest, vote: Vote::Approve },
        Act::Vote { approval_id: id, digest: domain::canonical::Sha256Digest([2; 32]), vote: Vote::Approve },
        Act::Revoke { approval_id: id, digest },
        Act::Modify { approval_id: id, digest, change: change("1") },
        Act::Modify { approval_id: id, digest, change: change("2") },
        Act::Modify { approval_id: id, digest, change: Change { worst_price: Price::parse("1").ok(), ..change("1") } },
        Act::LinkTelegram { code_hash: digest },
    ];
    let signed = acts.map(|what| {
        let (schema, person_id) = (PersonAct::SCHEMA.to_owned(), "zoe".to_owned());
        PersonAct { schema, person_id, what, reason: String::new(), signed_at: UnixMs(0) }.signed_bytes().unwrap()
    });
    let mut different = signed.to_vec();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), signed.len());
}
