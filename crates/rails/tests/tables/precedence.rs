//! Which refusal is heard when several rails refuse.

use std::collections::BTreeSet;

use crate::scene::{NOW, Scene, envelope, paper, price, quantity, rules, usd};
use domain::ids::UserId;
use domain::market::{InstrumentId, Symbol, Venue};
use domain::message::TokenVerdict;
use domain::money::Usd;
use domain::order::Side;
use domain::time::UnixMs;
use rails::check::KillReading;
use rails::refusal::{Refusal, RefusalCode};
use rust_decimal::Decimal;

type Spoil = (RefusalCode, fn(&mut Scene));

/// One way to make each rail refuse, in order of precedence. None of them disturbs the reason of another.
const SPOILS: [Spoil; 18] = [
    (RefusalCode::UnknownUser, |s| s.order.user_id = UserId::of_handle("stranger")),
    (RefusalCode::Expired, |s| s.order.valid_until = NOW.plus_ms(-1)),
    (RefusalCode::UnknownInstrument, |s| s.instrument.as_mut().unwrap().id = paper("ETHUSDT")),
    (RefusalCode::VenueFilter, |s| s.instrument.as_mut().unwrap().step = Decimal::from(3)),
    (RefusalCode::TokenVerdict, |s| s.verdict.as_mut().unwrap().allowed = false),
    (RefusalCode::SpotShort, |s| s.order.reduce_only = true),
    (RefusalCode::StaleMark, |s| s.hold(&paper("NOMARK"), "1")),
    (RefusalCode::PriceCollar, |s| s.mark(&token(), "50", 0)),
    (RefusalCode::KillLevel, |s| s.kill = KillReading::Unreadable),
    (RefusalCode::Breaker, |s| s.book.breaker.latched_at = Some(UnixMs(0))),
    (RefusalCode::DailyLoss, |s| s.book.day.equity = usd("1000000")),
    (RefusalCode::Rate, |s| s.stamp(2..22, true, 0)),
    (RefusalCode::Position, |s| s.limits.position_usd = Usd::ZERO),
    (RefusalCode::Total, |s| s.limits.total_exposure_percent = Decimal::ZERO),
    (RefusalCode::Cash, |s| s.limits.worst_fee_percent = Decimal::from(1_000_000)),
    (RefusalCode::ApprovalMismatch, |s| s.yes.as_mut().unwrap().forged = true),
    (RefusalCode::ApprovalExpired, |s| s.yes.as_mut().unwrap().expires_at = UnixMs(0)),
    (RefusalCode::BadPermit, |s| s.order.schema.clear()),
];

fn token() -> InstrumentId {
    InstrumentId { venue: Venue::PaperDex, symbol: Symbol::parse("Mint1").unwrap() }
}

/// A token bought for 2,000.00 with a human's yes.
fn good() -> Scene {
    let mut scene = Scene::good();
    scene.mark(&token(), "100", 0);
    scene.instrument = Some(rules(token()));
    scene.order = envelope(1, &token(), Side::Buy, quantity("20"), price("100"));
    scene.verdict = Some(TokenVerdict {
        venue: Venue::PaperDex,
        mint: "Mint1".to_owned(),
        allowed: true,
        max_notional: usd("2000"),
        reason: String::new(),
        valid_until: NOW,
    });
    scene.approve(1);
    scene
}

#[test]
fn of_two_refusals_the_earlier_code_is_heard() {
    assert_eq!(good().answer(), "YES");
    for (first, (code, spoil)) in SPOILS.iter().enumerate() {
        for (later_code, later) in &SPOILS[first..] {
            let mut scene = good();
            later(&mut scene);
            spoil(&mut scene);
            assert_eq!(scene.answer(), code.code(), "{code:?} and {later_code:?}");
        }
    }
}

#[test]
fn of_all_refusals_the_first_is_heard_until_it_is_mended() {
    for (first, (code, _)) in SPOILS.iter().enumerate() {
        let mut scene = good();
        SPOILS[first..].iter().rev().for_each(|(_, spoil)| spoil(&mut scene));
        assert_eq!(scene.answer(), code.code());
    }
}

#[test]
fn a_human_is_asked_only_when_every_rail_passes() {
    for (code, spoil) in SPOILS {
        let mut scene = good();
        spoil(&mut scene);
        scene.yes = None;
        let of_approval = matches!(code, RefusalCode::ApprovalMismatch | RefusalCode::ApprovalExpired);
        assert_eq!(scene.answer(), if of_approval { "HUMAN 1 2000" } else { code.code() });
    }
}

#[test]
fn the_list_of_codes_is_in_order_and_each_is_said_once() {
    assert!(RefusalCode::ALL.is_sorted_by(|a, b| a < b));
    let words: BTreeSet<_> = RefusalCode::ALL.iter().map(|code| code.code()).collect();
    assert_eq!(words.len(), RefusalCode::ALL.len());
    for code in RefusalCode::ALL {
        assert_eq!(RefusalCode::parse(code.code()), Some(code));
        assert!(code.code().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{code:?}");
    }
    assert!(SPOILS.is_sorted_by(|a, b| a.0 < b.0));
}

#[test]
fn a_refusal_reads_as_its_code_and_numbers() {
    let mut scene = Scene::unattended();
    scene.buy("100.001", "100");
    let rails::check::Verdict::Refused(refusal) = scene.verdict() else { panic!("over the limit") };
    assert_eq!(refusal.to_string(), "POSITION limit_usd=10000 position_usd=10000.1");
    assert_eq!(Refusal::new(RefusalCode::Rate).to_string(), "RATE");
}
