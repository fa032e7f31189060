//! The queue of Telegram's notices in memory.

use std::sync::Arc;

use async_trait::async_trait;
use store::StoreError;
use store::port::TelegramNotices;
use store::telegram_notices::Queued;

use crate::record::access::Right;
use crate::record::refusal::{check, limit, texts};
use crate::record::unit::{Lock, MemoryUnit, view};

#[async_trait]
impl TelegramNotices for MemoryUnit {
    async fn insert_notice(&mut self, line: &Queued) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("telegram_notices")?;
            texts([line.text.as_str()])?;
            check(!line.text.is_empty(), "a notice says something")?;
            let key = (line.message_id, line.chat_id);
            if view!(s, telegram_notices).has(&key) {
                return Ok(false);
            }
            s.lock(Lock::TelegramNotice(key.0, key.1))?;
            s.changes.telegram_notices.insert(key, Some(Arc::new(line.clone())));
            Ok(true)
        })
    }

    async fn notices(&mut self, rows: i64) -> Result<Vec<Queued>, StoreError> {
        self.run(|s| {
            s.select("telegram_notices")?;
            let rows = limit(rows)?;
            let mut waiting: Vec<Queued> =
                view!(s, telegram_notices).all().map(|(_, line)| line.as_ref().clone()).collect();
            waiting.sort_by_key(|line| line.made_at);
            waiting.truncate(rows);
            Ok(waiting)
        })
    }

    async fn delete_notices(&mut self, told: &[Queued]) -> Result<(), StoreError> {
        self.run(|s| {
            s.select("telegram_notices")?;
            s.access.allow("telegram_notices", Right::Delete)?;
            for line in told {
                let key = (line.message_id, line.chat_id);
                s.lock(Lock::TelegramNotice(key.0, key.1))?;
                s.changes.telegram_notices.insert(key, None);
            }
            Ok(())
        })
    }
}
