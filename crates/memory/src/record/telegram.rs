//! Telegram's updates, accounts and prompts in memory.

use std::sync::Arc;

use async_trait::async_trait;
use domain::canonical::Sha256Digest;
use domain::ids::ApprovalId;
use domain::time::UnixMs;
use store::StoreError;
use store::port::Telegram;
use store::telegram::{Account, Link, Prompt, Update};

use crate::record::refusal::{check, document, limit, missing, texts, unique};
use crate::record::unit::{Lock, MemoryUnit, Statement, view};

fn is_approver(s: &Statement<'_>, person_id: &str) -> Result<(), StoreError> {
    if view!(s, approvers).has(&person_id.to_owned()) { Ok(()) } else { Err(missing("no such approver")) }
}

fn key_of(prompt: &Prompt) -> (ApprovalId, String, i64, i64) {
    (prompt.approval_id, prompt.person_id.clone(), prompt.chat_id, prompt.message_id)
}

#[async_trait]
impl Telegram for MemoryUnit {
    async fn insert_update(&mut self, update: &Update) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("telegram_updates")?;
            texts([update.kind.as_str()])?;
            document(&update.raw)?;
            check(update.raw.is_object(), "an update is an object")?;
            if view!(s, telegram_updates).has(&update.update_id) {
                return Ok(false);
            }
            s.lock(Lock::TelegramUpdate(update.update_id))?;
            s.changes.telegram_updates.insert(update.update_id, Some(Arc::new(update.clone())));
            Ok(true)
        })
    }

    async fn unhandled_updates(&mut self, rows: i64) -> Result<Vec<Update>, StoreError> {
        self.run(|s| {
            s.select("telegram_updates")?;
            let rows = limit(rows)?;
            let waiting = view!(s, telegram_updates).all().filter(|(_, update)| update.handled_at.is_none());
            Ok(waiting.take(rows).map(|(_, update)| update.as_ref().clone()).collect())
        })
    }

    async fn set_update_handled(&mut self, update_id: i64, outcome: &str, now: UnixMs) -> Result<bool, StoreError> {
        self.run(|s| {
            s.update("telegram_updates", &["handled_at", "outcome"])?;
            texts([outcome])?;
            let Some(found) = view!(s, telegram_updates).get(&update_id).filter(|u| u.handled_at.is_none()).cloned()
            else {
                return Ok(false);
            };
            s.lock(Lock::TelegramUpdate(update_id))?;
            let (handled_at, outcome) = (Some(now), Some(outcome.to_owned()));
            let handled = Update { handled_at, outcome, ..found.as_ref().clone() };
            s.changes.telegram_updates.insert(update_id, Some(Arc::new(handled)));
            Ok(true)
        })
    }

    async fn update(&mut self, update_id: i64) -> Result<Option<Update>, StoreError> {
        self.run(|s| {
            s.select("telegram_updates")?;
            Ok(view!(s, telegram_updates).get(&update_id).map(|update| update.as_ref().clone()))
        })
    }

    async fn insert_link(&mut self, link: &Link) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert("telegram_links")?;
            texts([link.person_id.as_str()])?;
            document(&link.act)?;
            check(link.act.is_object(), "an act is an object")?;
            if view!(s, telegram_links).has(&link.code_hash) {
                return Err(unique("that code was made before"));
            }
            s.lock(Lock::TelegramLink(link.code_hash))?;
            is_approver(s, &link.person_id)?;
            let fresh = Link { used_by: None, used_at: None, ..link.clone() };
            s.changes.telegram_links.insert(link.code_hash, Some(Arc::new(fresh)));
            Ok(())
        })
    }

    async fn take_link(&mut self, hash: Sha256Digest, by: i64, now: UnixMs) -> Result<Option<String>, StoreError> {
        self.run(|s| {
            s.update("telegram_links", &["used_by", "used_at"])?;
            let usable = |link: &&Arc<Link>| link.used_by.is_none() && link.expires_at > now;
            let Some(link) = view!(s, telegram_links).get(&hash).filter(usable).cloned() else { return Ok(None) };
            s.lock(Lock::TelegramLink(hash))?;
            let used = Link { used_by: Some(by), used_at: Some(now), ..link.as_ref().clone() };
            s.changes.telegram_links.insert(hash, Some(Arc::new(used)));
            Ok(Some(link.person_id.clone()))
        })
    }

    async fn links_used_by(&mut self, telegram_user_id: i64) -> Result<Vec<Link>, StoreError> {
        self.run(|s| {
            s.select("telegram_links")?;
            let used = view!(s, telegram_links).all().filter(|(_, link)| link.used_by == Some(telegram_user_id));
            let mut links: Vec<Link> = used.map(|(_, link)| link.as_ref().clone()).collect();
            links.sort_by_key(|link| (link.used_at, link.code_hash));
            Ok(links)
        })
    }

    async fn upsert_account(&mut self, account: &Account) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert("telegram_accounts")?;
            s.update("telegram_accounts", &["person_id", "chat_id", "linked_at", "active"])?;
            texts([account.person_id.as_str()])?;
            s.lock(Lock::TelegramAccount(account.telegram_user_id))?;
            is_approver(s, &account.person_id)?;
            s.changes.telegram_accounts.insert(account.telegram_user_id, Some(Arc::new(account.clone())));
            Ok(())
        })
    }

    async fn account(&mut self, telegram_user_id: i64) -> Result<Option<Account>, StoreError> {
        self.run(|s| {
            s.select("telegram_accounts")?;
            Ok(view!(s, telegram_accounts).get(&telegram_user_id).map(|account| account.as_ref().clone()))
        })
    }

    async fn accounts_of(&mut self, person_id: &str) -> Result<Vec<Account>, StoreError> {
        self.run(|s| {
            s.select("telegram_accounts")?;
            texts([person_id])?;
            let own = view!(s, telegram_accounts).all().filter(|(_, account)| account.person_id == person_id);
            Ok(own.map(|(_, account)| account.as_ref().clone()).collect())
        })
    }

    async fn insert_prompt(&mut self, prompt: &Prompt) -> Result<bool, StoreError> {
        self.run(|s| {
            s.insert("telegram_prompts")?;
            texts([prompt.person_id.as_str()])?;
            let key = key_of(prompt);
            if view!(s, telegram_prompts).has(&key) {
                return Ok(false);
            }
            s.lock(Lock::TelegramPrompt(key.0, key.1.clone(), key.2, key.3))?;
            is_approver(s, &prompt.person_id)?;
            s.changes.telegram_prompts.insert(key, Some(Arc::new(prompt.clone())));
            Ok(true)
        })
    }

    async fn prompts(&mut self, approval_id: ApprovalId) -> Result<Vec<Prompt>, StoreError> {
        self.run(|s| {
            s.select("telegram_prompts")?;
            let from = (approval_id, String::new(), i64::MIN, i64::MIN);
            let of_request = view!(s, telegram_prompts).range(from..).take_while(|(key, _)| key.0 == approval_id);
            let mut prompts: Vec<Prompt> = of_request.map(|(_, prompt)| prompt.as_ref().clone()).collect();
            prompts.sort_by_key(|prompt| prompt.sent_at);
            Ok(prompts)
        })
    }

    async fn open_prompts(&mut self) -> Result<Vec<Prompt>, StoreError> {
        self.run(|s| {
            s.select("telegram_prompts")?;
            let open = view!(s, telegram_prompts).all().filter(|(_, prompt)| !prompt.is_final);
            let mut prompts: Vec<Prompt> = open.map(|(_, prompt)| prompt.as_ref().clone()).collect();
            prompts.sort_by_key(|prompt| prompt.sent_at);
            Ok(prompts)
        })
    }

    async fn set_prompt_edited(&mut self, prompt: &Prompt, now: UnixMs, is_final: bool) -> Result<bool, StoreError> {
        self.run(|s| {
            s.update("telegram_prompts", &["edited_at", "final"])?;
            let key = key_of(prompt);
            let Some(found) = view!(s, telegram_prompts).get(&key).filter(|p| !p.is_final).cloned() else {
                return Ok(false);
            };
            s.lock(Lock::TelegramPrompt(key.0, key.1.clone(), key.2, key.3))?;
            let edited = Prompt { edited_at: Some(now), is_final, ..found.as_ref().clone() };
            s.changes.telegram_prompts.insert(key, Some(Arc::new(edited)));
            Ok(true)
        })
    }

    async fn telegram_state(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.run(|s| {
            s.select("telegram_state")?;
            texts([key])?;
            Ok(view!(s, telegram_state).get(&key.to_owned()).cloned())
        })
    }

    async fn set_telegram_state(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        self.run(|s| {
            s.insert("telegram_state")?;
            s.update("telegram_state", &["value"])?;
            texts([key, value])?;
            check(!key.is_empty(), "a key has a name")?;
            s.lock(Lock::TelegramState(key.to_owned()))?;
            s.changes.telegram_state.insert(key.to_owned(), Some(value.to_owned()));
            Ok(())
        })
    }
}
