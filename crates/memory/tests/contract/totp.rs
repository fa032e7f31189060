//! Authenticators of people.

use domain::ids::ApprovalId;
use store::totp::{self, Spent};
use uuid::Uuid;

use crate::samples::{T0, approver};
use crate::world::{World, assert_locked, state};

cases! {
    a_secret_is_set_by_an_administrator_only,
    a_step_is_used_once_by_each_person,
}

async fn a_secret_is_set_by_an_administrator_only(world: &World) {
    approver(world, "zoe").await;
    for (person, secret, want) in [("zoe", 15, "23514"), ("zoe", 65, "23514"), ("nobody", 20, "23503")] {
        let mut unit = world.begin("admin").await;
        assert_eq!(state(totp::set_secret(&mut unit, person, &vec![7; secret], T0).await), want, "{person} {secret}");
    }
    let mut unit = world.begin("admin").await;
    totp::set_secret(&mut unit, "zoe", &[6; 16], T0).await.unwrap();
    totp::set_secret(&mut unit, "zoe", &[7; 64], T0).await.unwrap();
    unit.commit().await.unwrap();
    for role in ["supervisor", "treasury"] {
        let mut unit = world.begin(role).await;
        assert_eq!(totp::secret(&mut unit, "zoe").await.unwrap(), Some(vec![7; 64]), "{role}");
        assert_eq!(totp::secret(&mut unit, "anna").await.unwrap(), None);
        assert_eq!(state(totp::set_secret(&mut unit, "zoe", &[8; 20], T0).await), "42501", "{role}");
    }
    for role in ["telegram_jarvis", "audit_verify", "online_trading"] {
        let mut unit = world.begin(role).await;
        assert_eq!(state(totp::secret(&mut unit, "zoe").await), "42501", "{role}");
    }
}

async fn a_step_is_used_once_by_each_person(world: &World) {
    approver(world, "zoe").await;
    approver(world, "anna").await;
    let of = |person: &str, step, request| Spent {
        person_id: person.to_owned(),
        step,
        approval_id: ApprovalId(Uuid::from_u128(request)),
        at: T0,
    };
    let mut unit = world.begin("supervisor").await;
    assert!(totp::spend(&mut unit, &of("zoe", 5, 1)).await.unwrap());
    assert!(!totp::spend(&mut unit, &of("zoe", 5, 1)).await.unwrap());
    assert!(!totp::spend(&mut unit, &of("zoe", 5, 2)).await.unwrap(), "for whatever");
    assert!(totp::spend(&mut unit, &of("zoe", 6, 2)).await.unwrap());
    assert!(totp::spend(&mut unit, &of("anna", 5, 1)).await.unwrap());
    let mut second = world.begin_impatient("supervisor").await;
    assert_locked(totp::spend(&mut second, &of("zoe", 5, 3)).await);
    unit.commit().await.unwrap();
    let mut unit = world.begin("treasury").await;
    assert_eq!(totp::spent(&mut unit, "zoe", 5).await.unwrap(), Some(of("zoe", 5, 1)));
    assert_eq!(totp::spent(&mut unit, "zoe", 7).await.unwrap(), None);
    assert_eq!(state(totp::spend(&mut unit, &of("zoe", 7, 1)).await), "42501");
    let mut unit = world.begin("supervisor").await;
    assert_eq!(state(totp::spend(&mut unit, &of("nobody", 1, 1)).await), "23503");
    let mut unit = world.begin("supervisor").await;
    assert_eq!(state(totp::spend(&mut unit, &of("zoe", -1, 1)).await), "23514");
}
