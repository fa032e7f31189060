//! What belongs to the house: accounts, instruments, the kill level, and what the supervisor must not forget.

use std::sync::Arc;

use async_trait::async_trait;
use domain::ids::UserId;
use domain::market::{Instrument, InstrumentId};
use domain::money::Usd;
use domain::time::UnixMs;
use rails::book::Breaker;
use rust_decimal::Decimal;
use serde_json::Value;
use store::StoreError;
use store::kill::Kill;
use store::port::{Instruments, KillLevels, Supervision, Users};
use store::supervision::{Declared, Restart};
use store::users::User;

use crate::record::Defect;
use crate::record::refusal::{check, document, limit, numeric, texts, unique};
use crate::record::tables::Account;
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

fn is_handle(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = text.bytes();
    (1..=32).contains(&text.len())
        && bytes.next().is_some_and(plain)
        && bytes.all(|byte| plain(byte) || matches!(byte, b'_' | b'-'))
}

/// Whether the unit may write this row; holds the row.
fn may_declare(s: &mut Statement<'_>, declared: &Declared) -> Result<(), StoreError> {
    s.insert("declared_state")?;
    s.update("declared_state", &["state", "config_hash", "binary_hash", "reason", "at"])?;
    let Declared { agent, state, config_hash, binary_hash, reason, .. } = declared;
    texts([agent, state, config_hash, binary_hash, reason].map(String::as_str))?;
    check(matches!(state.as_str(), "running" | "stopped" | "quarantined"), "no such state")?;
    s.lock(Lock::Declared(agent.clone()))
}

#[async_trait]
impl Users for MemoryUnit {
    async fn open_account(&mut self, user: &User, opening: Usd, now: UnixMs) -> Result<User, StoreError> {
        self.run(|s| {
            let user_id = user.user_id;
            s.insert("users")?;
            texts([user.handle.as_str()])?;
            document(&user.trading_constraints)?;
            check(is_handle(&user.handle), "a handle is a short plain word")?;
            check(user.trading_constraints.is_object(), "constraints are an object")?;
            if !view!(s, users).has(&user_id) {
                s.lock(Lock::User(user_id))?;
                s.changes.users.insert(user_id, Some(Arc::new(user.clone())));
                for table in ["accounts", "rails_state", "equity_daily"] {
                    s.insert(table)?;
                }
                check(!opening.is_negative(), "an account opens with no debt")?;
                s.changes.accounts.insert(user_id, Some(Account { cash: opening, opening }));
                s.changes.rails_state.insert(user_id, Some(Breaker::default()));
                s.changes.equity_daily.insert((user_id, now.day()), Some(opening));
            }
            s.select("users")?;
            let stored = view!(s, users).get(&user_id).map(|row| row.as_ref().clone());
            stored.ok_or(StoreError::Corrupt { table: "users", column: "user_id" })
        })
    }

    async fn user(&mut self, user_id: UserId) -> Result<Option<User>, StoreError> {
        self.run(|s| {
            s.select("users")?;
            Ok(view!(s, users).get(&user_id).map(|row| row.as_ref().clone()))
        })
    }

    async fn user_ids(&mut self, rows: i64) -> Result<Vec<UserId>, StoreError> {
        self.run(|s| {
            let sight = s.select("users")?;
            let rows = limit(rows)?;
            Ok(view!(s, users).all().map(|(user, _)| *user).filter(|user| sight.sees(*user)).take(rows).collect())
        })
    }

    async fn set_constraints(&mut self, user_id: UserId, constraints: &Value) -> Result<bool, StoreError> {
        self.run(|s| {
            s.update("users", &["trading_constraints"])?;
            document(constraints)?;
            let Some(row) = view!(s, users).get(&user_id).cloned() else { return Ok(false) };
            s.lock(Lock::User(user_id))?;
            check(constraints.is_object(), "constraints are an object")?;
            let row = User { trading_constraints: constraints.clone(), ..row.as_ref().clone() };
            s.changes.users.insert(user_id, Some(Arc::new(row)));
            Ok(true)
        })
    }
}

#[async_trait]
impl Instruments for MemoryUnit {
    async fn upsert_instrument(&mut self, instrument: &Instrument) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert("instruments")?;
            s.update(
                "instruments",
                &["base", "quote", "tick", "step", "min_quantity", "max_quantity", "min_notional"],
            )?;
            texts([instrument.base.as_str(), &instrument.quote])?;
            let mut row = instrument.clone();
            for value in
                [&mut row.tick, &mut row.step, &mut row.min_quantity, &mut row.max_quantity, &mut row.min_notional]
            {
                numeric(*value)?;
                check(*value >= Decimal::ZERO, "a rule is not negative")?;
                *value = value.normalize();
            }
            s.lock(Lock::Instrument(instrument.id.clone()))?;
            s.changes.instruments.insert((instrument.id.venue.name(), instrument.id.clone()), Some(Arc::new(row)));
            Ok(())
        })
    }

    async fn instrument(&mut self, id: &InstrumentId) -> Result<Option<Instrument>, StoreError> {
        self.run(|s| {
            s.select("instruments")?;
            Ok(view!(s, instruments).get(&(id.venue.name(), id.clone())).map(|row| row.as_ref().clone()))
        })
    }

    async fn instruments(&mut self) -> Result<Vec<Instrument>, StoreError> {
        self.run(|s| {
            s.select("instruments")?;
            Ok(view!(s, instruments).all().map(|(_, row)| row.as_ref().clone()).collect())
        })
    }
}

#[async_trait]
impl KillLevels for MemoryUnit {
    async fn kill_level(&mut self) -> Result<Option<Kill>, StoreError> {
        self.run(|s| {
            s.select("kill_levels")?;
            let newest = view!(s, kill_levels).all().last().map(|(_, row)| row.as_ref().clone());
            let zero = s.broken(Defect::KillReadsZero);
            Ok(newest.map(|kill| if zero { Kill { level: 0, ..kill } } else { kill }))
        })
    }

    async fn kill_levels_since(&mut self, epoch: i64) -> Result<Vec<Kill>, StoreError> {
        self.run(|s| {
            s.select("kill_levels")?;
            let rows = view!(s, kill_levels).all().filter(|(at, _)| **at >= epoch).map(|(_, row)| row.as_ref().clone());
            Ok(rows.take(100).collect())
        })
    }

    async fn lock_kill_level(&mut self) -> Result<(), StoreError> {
        self.run(|s| s.lock(Lock::Kill))
    }

    async fn insert_kill_level(&mut self, kill: &Kill) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert("kill_levels")?;
            texts([kill.by.as_str(), &kill.reason])?;
            check(kill.epoch > 0 && kill.level <= 4, "levels are 0 to 4, epochs from 1")?;
            check(!kill.by.is_empty(), "somebody sets the level")?;
            if view!(s, kill_levels).has(&kill.epoch) {
                return Err(unique("that epoch is taken"));
            }
            s.lock(Lock::Epoch(kill.epoch))?;
            s.changes.kill_levels.insert(kill.epoch, Some(Arc::new(kill.clone())));
            Ok(())
        })
    }
}

#[async_trait]
impl Supervision for MemoryUnit {
    async fn insert_restart(&mut self, restart: &Restart) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("restarts")?;
            texts([restart.agent.as_str(), &restart.cause])?;
            let key = (restart.agent.clone(), restart.boot_id);
            if view!(s, restarts).has(&key) {
                return Ok(false);
            }
            s.lock(Lock::Restart(key.0.clone(), key.1))?;
            s.changes.restarts.insert(key, Some(Arc::new(restart.clone())));
            Ok(true)
        })
    }

    async fn restarts_since(&mut self, agent: &str, since: UnixMs) -> Result<Vec<Restart>, StoreError> {
        self.run(|s| {
            s.select("restarts")?;
            texts([agent])?;
            let mut rows: Vec<Restart> = view!(s, restarts)
                .all()
                .filter(|(_, row)| row.agent == agent && row.at >= since)
                .map(|(_, row)| row.as_ref().clone())
                .collect();
            rows.sort_by_key(|row| (row.at, row.boot_id));
            Ok(rows)
        })
    }

    async fn declare(&mut self, declared: &Declared) -> Result<(), StoreError> {
        self.run(|s| {
            may_declare(s, declared)?;
            s.changes.declared.insert(declared.agent.clone(), Some(Arc::new(declared.clone())));
            Ok(())
        })
    }

    async fn declare_over(&mut self, seen: Option<&Declared>, declared: &Declared) -> Result<bool, StoreError> {
        self.run(|s| {
            may_declare(s, declared)?;
            let version = |row: &Declared| (row.state.clone(), row.reason.clone(), row.at);
            let found = view!(s, declared).get(&declared.agent).map(|row| version(row));
            if found.is_some() && found != seen.map(version) {
                return Ok(false);
            }
            s.changes.declared.insert(declared.agent.clone(), Some(Arc::new(declared.clone())));
            Ok(true)
        })
    }

    async fn declared(&mut self) -> Result<Vec<Declared>, StoreError> {
        self.run(|s| {
            s.select("declared_state")?;
            Ok(view!(s, declared).all().map(|(_, row)| row.as_ref().clone()).collect())
        })
    }
}
