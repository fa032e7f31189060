//! What is written reads back as itself, in both forms.

use std::collections::BTreeSet;

use domain::message::Payload;
use proptest::prelude::*;
use prost::Message as _;
use proto::v1;

use super::samples::{KINDS, dice};
use super::*;
use crate::codec::encode;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_payload_reads_back_as_itself_from_protobuf_and_from_json(dice in dice()) {
        for kind in 0..KINDS {
            let sent = dice.message(kind);
            let encoded = encode(&sent);
            let wire = Raw { subject: encoded.subject.clone(), headers: encoded.headers.clone(), payload: encoded.payload.clone() };
            prop_assert_eq!(read(&wire), Ok(sent.clone()), "Protobuf");

            let message = v1::AgentMessage::decode(encoded.payload.as_slice()).unwrap();
            let headers = encoded.headers.iter().filter(|(name, _)| name != "content-type").cloned().collect();
            let text = Raw { subject: encoded.subject, headers, payload: serde_json::to_vec(&message).unwrap() };
            prop_assert_eq!(read(&text), Ok(sent), "JSON");
        }
    }

    #[test]
    fn a_signed_envelope_keeps_its_digest_over_the_wire(dice in dice()) {
        let sent = dice.message(8);
        let encoded = encode(&sent);
        let got = read(&Raw { subject: encoded.subject, headers: encoded.headers, payload: encoded.payload }).unwrap();
        let (Payload::Permit(sent), Payload::Permit(got)) = (sent.payload, got.payload) else { panic!("no permit") };
        prop_assert_eq!(sent.body.signed_bytes().unwrap(), got.body.signed_bytes().unwrap());
    }
}

#[test]
fn the_samples_cover_every_payload_that_goes_on_the_wire() {
    use proptest::strategy::ValueTree as _;
    let dice = dice().new_tree(&mut proptest::test_runner::TestRunner::deterministic()).unwrap().current();
    let kinds: BTreeSet<_> = (0..KINDS).map(|kind| dice.payload(kind).1.kind()).collect();
    assert_eq!(kinds.len(), KINDS);
}

#[test]
fn a_timer_has_no_wire_form() {
    use proptest::strategy::ValueTree as _;
    let dice = dice().new_tree(&mut proptest::test_runner::TestRunner::deterministic()).unwrap().current();
    let encoded = encode(&domain::message::Envelope { payload: Payload::Timer("t"), ..dice.message(0) });
    let code =
        read(&Raw { subject: encoded.subject, headers: encoded.headers, payload: encoded.payload }).unwrap_err().code;
    assert_eq!(code, domain::reject::RejectCode::WrongPayload);
}
