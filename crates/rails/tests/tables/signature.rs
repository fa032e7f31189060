//! A permit is good as it was signed, and in no other form: every field is under the signature, the key is known by its
//! id, and the id can't be swapped.

use crate::scene::{NOW, btc, envelope, price, quantity};
use domain::ids::PermitId;
use domain::order::{OrderEnvelope, Permit, PermitBody, Side};
use domain::person::{Act, PersonAct, SignedAct};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use rails::signature::{
    PermitSigner, PermitVerifier, SignatureFault, key_id, parse_private_key, parse_public_key, sign_act, verify_act,
};
use serde_json::{Value, json};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn body() -> PermitBody {
    PermitBody {
        schema: PermitBody::SCHEMA.to_owned(),
        permit_id: PermitId(uuid_of(1)),
        envelope: envelope(1, &btc(), Side::Buy, quantity("5"), price("100")),
        kill_epoch: 7,
        signed_at: NOW,
        expires_at: NOW.plus_ms(60_000),
        key_id: String::new(),
    }
}

fn uuid_of(number: u8) -> uuid::Uuid {
    domain::ids::derive("test", &[&[number]])
}

fn permit() -> Permit {
    PermitSigner::new(key(1)).sign(body()).unwrap()
}

fn verifier() -> PermitVerifier {
    PermitVerifier::new([key(1).verifying_key(), key(2).verifying_key()])
}

/// The path of every value that is no object, however deep.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), found))
        }
        _ => found.push(path.to_owned()),
    }
}

/// Another value of the same kind.
fn changed(path: &str, value: &Value, salt: u32) -> Value {
    let words: &[&str] = match path.rsplit('/').next().unwrap() {
        "side" => &["buy", "sell"],
        "order_type" => &["limit", "market"],
        "time_in_force" => &["ioc", "gtc"],
        "venue" => &["paper", "binance"],
        _ => &[],
    };
    if let Some(other) = words.iter().find(|word| **word != value.as_str().unwrap()) {
        return json!(other);
    }
    match value {
        Value::Bool(is) => json!(!is),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1 + i64::from(salt)),
        Value::String(text) => match uuid::Uuid::parse_str(text) {
            Ok(_) => json!(uuid::Uuid::from_u128(u128::from(salt) + 1)),
            Err(_) if text.parse::<rust_decimal::Decimal>().is_ok() => json!(format!("{}", salt + 200_000)),
            Err(_) => json!(format!("{text}{salt}")),
        },
        other => panic!("{path}: {other}"),
    }
}

#[test]
fn a_permit_verifies_as_it_was_signed_and_until_its_time() {
    let (permit, verifier) = (permit(), verifier());
    assert_eq!(permit.body.key_id, key_id(&key(1).verifying_key()));
    for (now, want) in [
        (NOW, Ok(())),
        (permit.body.expires_at, Ok(())),
        (permit.body.expires_at.plus_ms(1), Err(SignatureFault::Untimely)),
    ] {
        assert_eq!(verifier.verify(&permit, now), want, "{now}");
    }
    let older = PermitBody { envelope: OrderEnvelope { valid_until: NOW, ..body().envelope }, ..body() };
    let older = PermitSigner::new(key(2)).sign(older).unwrap();
    assert_eq!(verifier.verify(&older, NOW), Ok(()));
    assert_eq!(verifier.verify(&older, NOW.plus_ms(1)), Err(SignatureFault::Untimely), "the order's own time");
}

#[test]
fn a_signature_of_another_key_is_none() {
    let (permit, verifier) = (permit(), verifier());
    let stranger = PermitSigner::new(key(9)).sign(body()).unwrap();
    assert_eq!(verifier.verify(&stranger, NOW), Err(SignatureFault::UnknownKey));
    assert_eq!(PermitVerifier::default().verify(&permit, NOW), Err(SignatureFault::UnknownKey));
    // A stranger who claims to be treasury.
    let claimed = PermitBody { key_id: permit.body.key_id.clone(), ..body() };
    let claimed = Permit { signature: stranger.signature.clone(), body: claimed };
    assert_eq!(verifier.verify(&claimed, NOW), Err(SignatureFault::BadSignature));
    // Signed by one known key, said to be of another.
    let other = key_id(&key(2).verifying_key());
    let swapped = Permit { body: PermitBody { key_id: other, ..permit.body.clone() }, ..permit.clone() };
    assert_eq!(verifier.verify(&swapped, NOW), Err(SignatureFault::BadSignature));
    for signature in ["", "00", &"0".repeat(128), &permit.signature.replace(|c: char| c.is_ascii_digit(), "x")] {
        let spoiled = Permit { signature: signature.to_owned(), ..permit.clone() };
        assert_eq!(verifier.verify(&spoiled, NOW), Err(SignatureFault::BadSignature), "{signature}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_though_it_is_signed() {
    let signer = PermitSigner::new(key(1));
    let of = |envelope: OrderEnvelope| signer.sign(PermitBody { envelope, ..body() }).unwrap();
    let renamed = of(OrderEnvelope { client_order_id: "s1".to_owned(), ..body().envelope });
    assert_eq!(verifier().verify(&renamed, NOW), Err(SignatureFault::Inconsistent));
    let schema = of(OrderEnvelope { schema: "swarm.order.v2".to_owned(), ..body().envelope });
    assert_eq!(verifier().verify(&schema, NOW), Err(SignatureFault::UnknownSchema));
    let permit_schema = signer.sign(PermitBody { schema: "swarm.permit.v2".to_owned(), ..body() }).unwrap();
    assert_eq!(verifier().verify(&permit_schema, NOW), Err(SignatureFault::UnknownSchema));
}

#[test]
fn a_signer_says_the_id_of_its_key_and_shows_the_key_to_nobody() {
    let signer = PermitSigner::new(key(1));
    assert_eq!(signer.key_id(), key_id(&key(1).verifying_key()));
    let shown = format!("{signer:?}");
    assert_eq!(shown, format!("PermitSigner {{ key_id: {:?}, .. }}", signer.key_id()));
    assert!(!shown.contains(&hex::encode(key(1).to_bytes())), "{shown}");
}

#[test]
fn keys_are_64_hex_digits() {
    let text = hex::encode(key(1).verifying_key().as_bytes());
    assert_eq!(parse_public_key(&format!(" {text}\n")), Ok(key(1).verifying_key()));
    assert_eq!(parse_private_key(&hex::encode([1; 32])).unwrap().to_bytes(), [1; 32]);
    for bad in ["", "00", &text[..63], &format!("{text}0"), &"zz".repeat(32)] {
        assert_eq!(parse_public_key(bad), Err(SignatureFault::BadKey), "{bad}");
        assert!(parse_private_key(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_act_is_its_persons_alone() {
    let act = PersonAct {
        schema: PersonAct::SCHEMA.to_owned(),
        person_id: "operator".to_owned(),
        what: Act::LowerKill { level: 0, epoch: 7 },
        reason: "checked".to_owned(),
        signed_at: UnixMs(1),
    };
    let signed = sign_act(&key(1), act.clone()).unwrap();
    let public = |seed| hex::encode(key(seed).verifying_key().as_bytes());
    assert_eq!(verify_act(&signed, &public(1)), Ok(()));
    assert_eq!(verify_act(&signed, &public(2)), Err(SignatureFault::BadSignature));
    assert_eq!(verify_act(&signed, "none"), Err(SignatureFault::BadKey));
    let schema = SignedAct { act: PersonAct { schema: "swarm.act.v2".to_owned(), ..act.clone() }, ..signed.clone() };
    assert_eq!(verify_act(&schema, &public(1)), Err(SignatureFault::UnknownSchema));
    let reworded = SignedAct { act: PersonAct { reason: "unchecked".to_owned(), ..act }, ..signed };
    assert_eq!(verify_act(&reworded, &public(1)), Err(SignatureFault::BadSignature));
}

/// Changes one field of the permit after it was signed.
fn tampered(pick: usize, salt: u32) -> (String, Permit) {
    let permit = permit();
    let mut document = serde_json::to_value(&permit.body).unwrap();
    let mut paths = Vec::new();
    leaves(&document, "", &mut paths);
    let path = &paths[pick % paths.len()];
    let place = document.pointer_mut(path).unwrap();
    *place = changed(path, place, salt);
    (path.clone(), Permit { body: serde_json::from_value(document).unwrap(), signature: permit.signature })
}

fn refused(path: &str, permit: &Permit) {
    let want = match path {
        "/schema" | "/envelope/schema" => SignatureFault::UnknownSchema,
        "/key_id" => SignatureFault::UnknownKey,
        _ => SignatureFault::BadSignature,
    };
    assert_eq!(verifier().verify(permit, NOW), Err(want), "{path}");
}

#[test]
fn each_field_of_a_permit_is_under_its_signature() {
    let mut paths = Vec::new();
    leaves(&serde_json::to_value(permit().body).unwrap(), "", &mut paths);
    assert_eq!(paths.len(), 25, "a new field needs no more than this number: {paths:?}");
    for pick in 0..paths.len() {
        let (path, permit) = tampered(pick, 0);
        refused(&path, &permit);
    }
}

proptest! {
    #[test]
    fn any_change_of_any_field_breaks_the_signature(pick in any::<usize>(), salt in 0_u32..1_000_000) {
        let (path, permit) = tampered(pick, salt);
        refused(&path, &permit);
    }

    #[test]
    fn any_other_signature_is_none(at in 0_usize..128, digit in 1_u8..16) {
        let mut permit = permit();
        let old = u8::from_str_radix(&permit.signature[at..=at], 16).unwrap();
        permit.signature.replace_range(at..=at, &format!("{:x}", (old + digit) % 16));
        prop_assert_eq!(verifier().verify(&permit, NOW), Err(SignatureFault::BadSignature));
    }
}
