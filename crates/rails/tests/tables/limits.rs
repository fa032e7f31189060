//! The limits file, a user's own limits, and the policy version.

use crate::scene::{decimal, house, house_text, usd};
use rails::limits::Limits;
use serde_json::{Value, json};

/// Each limit: a tighter and a looser value than the house's.
fn either_side() -> Vec<(&'static str, Value, Value)> {
    vec![
        ("position_usd", json!("9999.99"), json!("10000.01")),
        ("total_exposure_percent", json!("99"), json!("100")),
        ("price_collar_percent", json!("4.9"), json!("5.1")),
        ("daily_loss_percent", json!("4.9"), json!("5.1")),
        ("approval_over_usd", json!("999"), json!("1001")),
        ("approval_window_ms", json!(300_001), json!(299_999)),
        ("approval_tier2_over_usd", json!("4999"), json!("5001")),
        ("approval_ttl_ms", json!(899_999), json!(900_001)),
        ("approval_prompts_per_hour", json!(11), json!(13)),
        ("approval_people_tier1", json!(2), json!(1)),
        ("approval_people_tier2", json!(2), json!(1)),
        ("approval_people_tier3", json!(3), json!(1)),
        ("rate_risk_increasing", json!(19), json!(21)),
        ("rate_exits", json!(59), json!(61)),
        ("rate_window_ms", json!(3_600_001), json!(3_599_999)),
        ("breaker_losses", json!(2), json!(4)),
        ("breaker_loss_percent", json!("1.9"), json!("2.1")),
        ("mark_max_age_ms", json!(29_999), json!(30_001)),
        ("worst_fee_percent", json!("0.2"), json!("0.05")),
        ("permit_ttl_ms", json!(59_999), json!(60_001)),
    ]
}

#[test]
fn the_file_that_ships_has_the_seeds_numbers() {
    let limits = house();
    assert_eq!(limits.position_usd, usd("10000"));
    assert_eq!(limits.total_exposure_percent, decimal("100"));
    assert_eq!(limits.price_collar_percent, decimal("5"));
    assert_eq!(limits.daily_loss_percent, decimal("5"));
    assert_eq!(limits.approval_over_usd, usd("1000"));
    assert_eq!((limits.approval_window_ms, limits.approval_ttl_ms), (300_000, 900_000));
    assert_eq!((limits.rate_risk_increasing, limits.rate_exits, limits.rate_window_ms), (20, 60, 3_600_000));
    assert_eq!((limits.breaker.losses, limits.breaker.loss_percent), (3, decimal("2")));
    assert_eq!(limits.mark_max_age_ms, 30_000);
}

#[test]
fn people_are_shown_what_the_file_says() {
    let text = house_text();
    let written: std::collections::BTreeMap<&str, _> = text
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once(" = "))
        .map(|(name, value)| (name, decimal(value.trim().trim_matches('"'))))
        .collect();
    assert_eq!(written.len(), either_side().len());
    assert_eq!(house().named(), written);
}

#[test]
fn each_limit_must_be_there_and_no_other_may_be() {
    for (name, _, _) in either_side() {
        let without: String =
            house_text().lines().filter(|line| !line.starts_with(name)).fold(String::new(), |a, l| a + l + "\n");
        assert_eq!(Limits::parse(&without).unwrap_err().faults, [format!("{name} is missing")]);
    }
    assert_eq!(Limits::parse("").unwrap_err().faults.len(), 20, "all faults at once");
    assert_eq!(Limits::parse(&(house_text() + "bypass = 1")).unwrap_err().faults, ["bypass is not a limit"]);
    assert!(Limits::parse("not toml").is_err());
}

#[test]
fn a_value_that_is_none_is_a_fault() {
    for (line, fault) in [
        ("position_usd = 10000.0", "position_usd must be a decimal in quotes"),
        (
            "position_usd = \"-1\"",
            "position_usd is unreadable: not a plain decimal: digits and at most one point, no sign, no exponent",
        ),
        ("position_usd = \"\"", "position_usd is unreadable: empty amount"),
        ("total_exposure_percent = \"100.1\"", "total_exposure_percent must be from 0 to 100"),
        ("daily_loss_percent = \"101\"", "daily_loss_percent must be from 0 to 100"),
        ("price_collar_percent = \"100\"", "price_collar_percent must be from 0 to 99"),
        ("rate_window_ms = 0", "rate_window_ms must be from 1000 to 86400000"),
        ("approval_window_ms = 999", "approval_window_ms must be from 1000 to 86400000"),
        ("breaker_losses = 0", "breaker_losses must be from 1 to 1000"),
        ("rate_risk_increasing = \"20\"", "rate_risk_increasing must be a whole number"),
        ("rate_risk_increasing = -1", "rate_risk_increasing must be from 0 to 1000000"),
        ("rate_exits = 0", "rate_exits must be from 1 to 1000000"),
        ("approval_people_tier1 = 0", "approval_people_tier1 must be from 1 to 100"),
        ("approval_people_tier3 = 101", "approval_people_tier3 must be from 1 to 100"),
        ("approval_people_tier1 = 2", "approval_people_tier2 is below approval_people_tier1"),
        ("approval_people_tier2 = 3", "approval_people_tier3 is below approval_people_tier2"),
        ("approval_ttl_ms = 0", "approval_ttl_ms must be from 1 to 86400000"),
        ("approval_tier2_over_usd = \"999\"", "approval_tier2_over_usd is below approval_over_usd"),
    ] {
        let name = line.split(' ').next().unwrap();
        let spoiled: String = house_text()
            .lines()
            .map(|l| if l.starts_with(name) { line } else { l })
            .fold(String::new(), |a, l| a + l + "\n");
        assert_eq!(Limits::parse(&spoiled).unwrap_err().faults, [fault], "{line}");
    }
}

#[test]
fn each_limit_may_be_at_either_end_of_its_range_and_not_beyond() {
    let (usd, percent) = ((json!("0"), json!("1000000000000"), json!("1000000000001")), (json!("0"), json!("100")));
    for (name, under, least, most, over) in [
        ("position_usd", None, usd.0.clone(), usd.1.clone(), usd.2.clone()),
        ("total_exposure_percent", None, percent.0.clone(), percent.1.clone(), json!("100.1")),
        ("price_collar_percent", None, percent.0.clone(), json!("99"), json!("99.1")),
        ("daily_loss_percent", None, percent.0.clone(), percent.1.clone(), json!("100.1")),
        ("approval_over_usd", None, usd.0.clone(), usd.1.clone(), usd.2.clone()),
        ("approval_window_ms", Some(999), json!(1_000), json!(86_400_000), json!(86_400_001)),
        ("approval_tier2_over_usd", None, usd.0.clone(), usd.1.clone(), usd.2.clone()),
        ("approval_ttl_ms", Some(0), json!(1), json!(86_400_000), json!(86_400_001)),
        ("approval_prompts_per_hour", Some(-1), json!(0), json!(1_000), json!(1_001)),
        ("approval_people_tier1", Some(0), json!(1), json!(100), json!(101)),
        ("approval_people_tier2", Some(0), json!(1), json!(100), json!(101)),
        ("approval_people_tier3", Some(0), json!(1), json!(100), json!(101)),
        ("rate_risk_increasing", Some(-1), json!(0), json!(1_000_000), json!(1_000_001)),
        ("rate_exits", Some(0), json!(1), json!(1_000_000), json!(1_000_001)),
        ("rate_window_ms", Some(999), json!(1_000), json!(86_400_000), json!(86_400_001)),
        ("breaker_losses", Some(0), json!(1), json!(1_000), json!(1_001)),
        ("breaker_loss_percent", None, percent.0.clone(), percent.1.clone(), json!("100.1")),
        ("mark_max_age_ms", Some(0), json!(1), json!(86_400_000), json!(86_400_001)),
        ("worst_fee_percent", None, percent.0.clone(), percent.1.clone(), json!("100.1")),
        ("permit_ttl_ms", Some(0), json!(1), json!(86_400_000), json!(86_400_001)),
    ] {
        for end in [least, most] {
            assert!(house().tightened_by(&json!({ name: end.clone() })).is_ok(), "{name} = {end}");
        }
        for beyond in under.map(|number| json!(number)).into_iter().chain([over]) {
            let fault = house().tightened_by(&json!({ name: beyond.clone() })).unwrap_err().faults.remove(0);
            let of_range = fault.starts_with(&format!("{name} must be from "));
            assert!(of_range || fault == format!("{name} is unreadable: amount out of range"), "{beyond}: {fault}");
        }
    }
}

#[test]
fn the_second_tier_may_begin_where_the_first_does_and_not_below() {
    let written = |tier2: &str| {
        let own = format!("approval_tier2_over_usd = \"{tier2}\"");
        let line = |l: &str| if l.starts_with("approval_tier2_over_usd") { own.clone() } else { l.to_owned() };
        Limits::parse(&house_text().lines().map(line).collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(written("1000").unwrap().approval_tier2_over_usd, usd("1000"));
    assert!(written("999.99").is_err());
}

#[test]
fn a_user_may_only_tighten() {
    for (name, tighter, looser) in either_side() {
        let own = house().tightened_by(&json!({ name: tighter })).unwrap();
        assert_ne!(own, house(), "{name} tightens");
        assert_ne!(own.version(), house().version(), "{name} is part of the policy version");
        assert_eq!(own.tightened_by(&json!({ name: looser.clone() })).unwrap(), own, "{name} does not loosen again");
        assert_eq!(house().tightened_by(&json!({ name: looser })).unwrap(), house(), "{name} does not loosen");
    }
    assert_eq!(house().tightened_by(&json!({})).unwrap(), house());
    assert_eq!(house().tightened_by(&json!({"position_usd": "500"})).unwrap().position_usd, usd("500"));
}

#[test]
fn an_unreadable_constraint_is_a_fault_and_never_ignored() {
    for (constraints, faults) in [
        (json!(null), vec!["trading constraints are not an object"]),
        (json!({"position": "1"}), vec!["position is not a limit"]),
        (json!({"position_usd": 1.5}), vec!["position_usd must be a decimal in quotes"]),
        (
            json!({"position_usd": null, "rate_exits": 1.5}),
            vec!["position_usd must be a decimal in quotes", "rate_exits must be a whole number"],
        ),
    ] {
        assert_eq!(house().tightened_by(&constraints).unwrap_err().faults, faults, "{constraints}");
    }
}

#[test]
fn the_version_is_of_the_values_and_not_of_their_writing() {
    assert_eq!(house().version(), Limits::parse(&house_text().replace("\"5\"", "\"5.00\"")).unwrap().version());
    assert_eq!(house().version().len(), 16);
    assert!(house().version().bytes().all(|b| b.is_ascii_hexdigit()));
    assert_ne!(house().version(), "0".repeat(16));
}
