//! The contract only grows: what is in `contract.lock` stays as it is, and what is new must be appended there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't read its files has failed"
)]

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

fn field_line(owner: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = match field.type_name() {
        "" => format!("{:?}", Type::try_from(field.r#type.unwrap()).unwrap()).to_lowercase(),
        name => name.trim_start_matches('.').to_owned(),
    };
    let group = match field.oneof_index {
        Some(_) if field.proto3_optional() => "optional".to_owned(),
        Some(at) => format!("oneof {}", message.oneof_decl[usize::try_from(at).unwrap()].name()),
        None if field.label() == Label::Repeated => "repeated".to_owned(),
        None => "plain".to_owned(),
    };
    format!("{owner}.{} = {} {kind} ({group})", field.name(), field.number())
}

fn enum_lines(owner: &str, item: &EnumDescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{owner}.{}", item.name());
    lines.extend(item.value.iter().map(|v| format!("{name}.{} = {} value", v.name(), v.number())));
}

fn message_lines(owner: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{owner}.{}", message.name());
    lines.push(format!("{name} message"));
    lines.extend(message.field.iter().map(|f| field_line(&name, message, f)));
    message.enum_type.iter().for_each(|e| enum_lines(&name, e, lines));
    message.nested_type.iter().for_each(|m| message_lines(&name, m, lines));
}

fn compiled() -> Vec<String> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let mut lines = Vec::new();
    for file in &set.file {
        file.message_type.iter().for_each(|m| message_lines(file.package(), m, &mut lines));
        file.enum_type.iter().for_each(|e| enum_lines(file.package(), e, &mut lines));
    }
    lines
}

/// What breaks: lines of the lock that the contract lost, and lines of the contract that the lock lacks.
fn differences(locked: &[String], compiled: &[String]) -> (Vec<String>, Vec<String>) {
    let locked: BTreeSet<_> = locked.iter().collect();
    let compiled: BTreeSet<_> = compiled.iter().collect();
    let gone = locked.difference(&compiled).map(|l| (**l).clone()).collect();
    let new = compiled.difference(&locked).map(|l| (**l).clone()).collect();
    (gone, new)
}

fn locked() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/swarm/v1/contract.lock")).unwrap();
    text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn the_contract_is_what_the_lock_says() {
    let (gone, new) = differences(&locked(), &compiled());
    assert!(
        gone.is_empty(),
        "removed, renumbered or retyped; readers of old messages would break:\n{}",
        gone.join("\n")
    );
    assert!(new.is_empty(), "new; append to swarm/v1/contract.lock:\n{}", new.join("\n"));
}

#[test]
fn a_removed_or_renumbered_field_is_noticed() {
    let before = compiled();
    let mut removed = before.clone();
    removed.retain(|l| !l.starts_with("swarm.v1.TradingSignal.amount "));
    assert_eq!(differences(&before, &removed).0, ["swarm.v1.TradingSignal.amount = 3 string (plain)"]);
    let renumbered: Vec<_> =
        before.iter().map(|l| l.replace("TradingSignal.amount = 3", "TradingSignal.amount = 30")).collect();
    let (gone, new) = differences(&before, &renumbered);
    assert_eq!((gone.len(), new.len()), (1, 1));
}

#[test]
fn the_seeds_fields_keep_their_numbers() {
    let lines: BTreeSet<_> =
        compiled().into_iter().map(|l| l.rsplit_once(" (").map_or(l.clone(), |(a, _)| a.to_owned())).collect();
    for (message, fields) in [
        (
            "AgentMessage",
            "message_id=1 correlation_id=2 source_agent=3 target_agent=4 timestamp_ns=5:int64 priority=6:int32 ttl_ms=7:int32 topic=8 retry_count=16:int32",
        ),
        (
            "AgentMessage",
            "trading_signal=10:swarm.v1.TradingSignal approval_request=11:swarm.v1.ApprovalRequest approval_response=12:swarm.v1.ApprovalResponse health_check=13:swarm.v1.HealthCheck command=14:swarm.v1.AgentCommand",
        ),
        (
            "TradingSignal",
            "action=1 token_address=2 amount=3 price_limit=4 expiry_timestamp=5:int64 confidence=6:double reasoning=7",
        ),
        ("ApprovalRequest", "action_type=1 description=2 timeout_ms=4:int64 requester_agent=5"),
        (
            "ApprovalResponse",
            "decision=1:swarm.v1.ApprovalResponse.Decision reason=3 approver_id=4 approved_at=5:int64",
        ),
    ] {
        for field in fields.split(' ') {
            let (name, rest) = field.split_once('=').unwrap();
            let (number, kind) = rest.split_once(':').unwrap_or((rest, "string"));
            let line = format!("swarm.v1.{message}.{name} = {number} {kind}");
            assert!(lines.contains(&line), "{line}");
        }
    }
}

#[test]
fn no_enum_has_a_meaning_at_zero() {
    for line in compiled().iter().filter(|l| l.ends_with(" = 0 value")) {
        assert!(line.contains("_UNSPECIFIED = 0"), "{line}");
    }
}
