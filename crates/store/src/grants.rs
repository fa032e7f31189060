//! The grants that each kind of process needs for the functions of this crate, for `AgentSpec::tables`.

use domain::agent::TableGrant;

const fn grant(table: &'static str, rights: &'static str) -> TableGrant {
    TableGrant { table, rights }
}

const INBOX: TableGrant = grant("inbox", "SELECT, INSERT, DELETE");
const OUTBOX: TableGrant = grant("outbox", "SELECT, INSERT, DELETE");
const APPROVAL_STEP: TableGrant = grant("approval_requests(status, changed_at)", "UPDATE");
const PERMIT_STEP: TableGrant = grant("permits(state, changed_at)", "UPDATE");

/// Takes commands and publishes: inbox and outbox only.
pub const MESSAGING: &[TableGrant] = &[INBOX, OUTBOX];

/// Plans orders: reads what is held and the venues' rules.
pub const PLANNER: &[TableGrant] = &[
    INBOX,
    OUTBOX,
    grant("instruments", "SELECT"),
    grant("kill_levels", "SELECT"),
    grant("users", "SELECT"),
    grant("positions", "SELECT"),
];

/// The one writer of the ledger.
pub const TREASURY: &[TableGrant] = &[
    INBOX,
    OUTBOX,
    grant("users", "SELECT, INSERT"),
    grant("accounts", "SELECT, INSERT, UPDATE"),
    grant("rails_state", "SELECT, INSERT, UPDATE"),
    grant("positions", "SELECT, INSERT, UPDATE, DELETE"),
    grant("reservations", "SELECT, INSERT, UPDATE, DELETE"),
    grant("permit_stamps", "SELECT, INSERT"),
    grant("unapproved_notionals", "SELECT, INSERT"),
    grant("equity_daily", "SELECT, INSERT, UPDATE"),
    grant("instruments", "SELECT"),
    grant("kill_levels", "SELECT"),
    grant("approvers", "SELECT"),
    grant("policy_decisions", "SELECT, INSERT"),
    grant("approval_requests", "SELECT, INSERT"),
    APPROVAL_STEP,
    grant("approval_entries", "SELECT"),
    grant("approval_resolutions", "SELECT, INSERT"),
    grant("permits", "SELECT, INSERT"),
    PERMIT_STEP,
    grant("orders", "SELECT"),
    grant("orders(outcome_posted)", "UPDATE"),
    grant("fills", "SELECT"),
    grant("fills(posted_at)", "UPDATE"),
    grant("audit_heads", "SELECT, INSERT, UPDATE"),
    grant("trade_audit", "SELECT, INSERT"),
    grant("telegram_updates", "SELECT"),
    grant("telegram_links", "SELECT"),
    grant("telegram_accounts", "SELECT"),
    grant("telegram_prompts", "SELECT"),
    grant("approver_totp", "SELECT"),
    grant("approver_totp_used", "SELECT"),
];

/// Sends orders to venues.
pub const DESK: &[TableGrant] = &[
    INBOX,
    OUTBOX,
    grant("instruments", "SELECT, INSERT, UPDATE"),
    grant("kill_levels", "SELECT"),
    grant("permits", "SELECT"),
    PERMIT_STEP,
    grant("orders", "SELECT, INSERT"),
    grant("orders(state, filled, venue_order_id, code, updated_at, sent_at, children)", "UPDATE"),
    grant("fills", "SELECT, INSERT"),
    grant("audit_heads", "SELECT, INSERT, UPDATE"),
    grant("trade_audit", "SELECT, INSERT"),
];

/// Starts processes, stores people's words, raises the kill level, signs audit heads, shows the ledger.
pub const SUPERVISOR: &[TableGrant] = &[
    INBOX,
    OUTBOX,
    grant("users", "SELECT"),
    grant("accounts", "SELECT"),
    grant("rails_state", "SELECT"),
    grant("positions", "SELECT"),
    grant("reservations", "SELECT"),
    grant("permit_stamps", "SELECT"),
    grant("unapproved_notionals", "SELECT"),
    grant("equity_daily", "SELECT"),
    grant("instruments", "SELECT"),
    grant("policy_decisions", "SELECT"),
    grant("permits", "SELECT"),
    grant("orders", "SELECT"),
    grant("fills", "SELECT"),
    // Who may approve is set by an administrator: a gateway that could add a key could approve anything.
    grant("approvers", "SELECT"),
    grant("approval_requests", "SELECT"),
    APPROVAL_STEP,
    grant("approval_entries", "SELECT, INSERT"),
    grant("approval_resolutions", "SELECT, INSERT"),
    grant("kill_levels", "SELECT, INSERT"),
    grant("restarts", "SELECT, INSERT"),
    grant("declared_state", "SELECT, INSERT, UPDATE"),
    grant("dead_letters", "SELECT, INSERT, UPDATE, DELETE"),
    grant("audit_heads", "SELECT, INSERT, UPDATE"),
    grant("trade_audit", "SELECT, INSERT"),
    grant("governance_head", "SELECT, UPDATE"),
    grant("governance_audit", "SELECT, INSERT"),
    grant("telegram_updates", "SELECT"),
    // The code of a link is made of what a person signed; that it was used is Telegram's side to say.
    grant("telegram_links", "SELECT, INSERT"),
    grant("telegram_accounts", "SELECT"),
    grant("telegram_prompts", "SELECT"),
    grant("approver_totp", "SELECT"),
    grant("approver_totp_used", "SELECT, INSERT"),
];

/// Speaks with Telegram: keeps what came, whose account is whose and what was shown; decides nothing.
pub const TELEGRAM: &[TableGrant] = &[
    INBOX,
    OUTBOX,
    grant("approvers", "SELECT"),
    grant("telegram_updates", "SELECT, INSERT"),
    grant("telegram_updates(handled_at, outcome)", "UPDATE"),
    grant("telegram_links", "SELECT"),
    grant("telegram_links(used_by, used_at)", "UPDATE"),
    grant("telegram_accounts", "SELECT, INSERT, UPDATE"),
    grant("telegram_prompts", "SELECT, INSERT"),
    grant("telegram_prompts(edited_at, final)", "UPDATE"),
    grant("telegram_state", "SELECT, INSERT, UPDATE"),
    grant("telegram_notices", "SELECT, INSERT, DELETE"),
];

/// Asks language models for the agents and keeps what it cost; the login is `llm_router`. Nothing of trading.
pub const LLM_ROUTER: &[TableGrant] = &[grant("llm_usage", "SELECT, INSERT, DELETE")];

/// Verifies and explains; the login is `audit_verify`. Reads rows of all users, writes nothing.
pub const AUDIT_VERIFY: &[TableGrant] = &[
    grant("users", "SELECT"),
    grant("policy_decisions", "SELECT"),
    grant("approval_requests", "SELECT"),
    grant("approval_entries", "SELECT"),
    grant("approval_resolutions", "SELECT"),
    grant("permits", "SELECT"),
    grant("orders", "SELECT"),
    grant("fills", "SELECT"),
    grant("kill_levels", "SELECT"),
    grant("audit_heads", "SELECT"),
    grant("trade_audit", "SELECT"),
    grant("governance_head", "SELECT"),
    grant("governance_audit", "SELECT"),
];
