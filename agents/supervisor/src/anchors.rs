//! Signed heads of the audit chains, written where the database can't reach: an append-only file and a NATS stream. A
//! tail cut off the tables is then missing against the newest anchor.
//!
//! Nothing is signed over a history that changed. Before a head is signed, the row that the newest anchor of its chain
//! names must still be there with the same hash; after a start the newest anchors come from the file, which may not be
//! behind the stream. A look reads the heads that moved and compares a part of all others, in turn, so it costs the same
//! with any number of users. When one of these fails, signing stops for good, the kill level goes to 1 and an alert goes out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use domain::canonical::Sha256Digest;
use domain::ids::UserId;
use domain::message::{Alert, Message, Payload, Severity};
use domain::subject::{Route, Stream, Subject};
use domain::time::UnixMs;
use ed25519_dalek::SigningKey;
use runtime::{HandleError, Work};
use store::Unit;
use store::audit::{Anchors, AuditHead, Chain, Keys, MovedHeads, SignedHead};

use crate::services::nobody;
use crate::{Shared, halt};

/// How often heads are anchored.
const EVERY: Duration = Duration::from_secs(2);
/// Users whose heads are compared at each look although none of them says that it moved: who changes a table behind the
/// program's back does not say so. The round over all users goes on where the look before ended.
const ROUND: i64 = 500;

/// Why nothing is signed any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Tampered {
    /// A line of the anchor file reads as no head, or is not signed by a key of ours.
    #[error("line {line} of the anchor file is no head that was signed here: {reason}")]
    Anchor {
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The row that an anchor names is gone.
    #[error("audit chain {chain}: row {seq} is gone, its anchor is not")]
    Gone {
        /// Whose chain.
        chain: Chain,
        /// The anchored row.
        seq: i64,
    },
    /// The row that an anchor names has another hash.
    #[error("audit chain {chain}: row {seq} is not the one that was anchored")]
    Rewritten {
        /// Whose chain.
        chain: Chain,
        /// The anchored row.
        seq: i64,
    },
    /// The stream holds a newer anchor than the file.
    #[error("audit chain {chain}: the anchor file ends at row {file}, the stream knows row {stream}")]
    FileBehind {
        /// Whose chain.
        chain: Chain,
        /// Newest row in the file.
        file: i64,
        /// Newest row on the stream.
        stream: i64,
    },
}

/// Knows what was signed, and signs what follows from it.
#[derive(Debug)]
pub struct Notary {
    file: PathBuf,
    key: SigningKey,
    keys: Keys,
    signed: BTreeMap<Chain, AuditHead>,
    /// Where the next look begins: [`store::audit::MovedHeads::until`], and the last user of the round.
    looked: Looked,
    round: i64,
    /// Chains whose newest anchor on the stream was compared with the file's since the start.
    compared: BTreeSet<Chain>,
}

/// How far the looks at the heads are; from the beginning at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Looked {
    until: i64,
    round: Option<UserId>,
}

/// What one look found to be signed; nothing of it is anchored yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Heads that moved, signed.
    pub signed: Vec<SignedHead>,
    looked: Looked,
}

impl Notary {
    /// Reads what an earlier process signed. `old_keys` are public keys that anchors may carry besides our own. What a
    /// crash or a full disk left of a last line is cut off: it was never published.
    ///
    /// # Errors
    /// What the file system says; the inner error when the file is not ours any more.
    pub fn open(
        file: PathBuf,
        key: SigningKey,
        old_keys: &[ed25519_dalek::VerifyingKey],
    ) -> std::io::Result<Result<Self, Tampered>> {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            tracing::warn!(file = %file.display(), bytes = text.len() - whole, "an unfinished anchor is cut off");
            std::fs::OpenOptions::new().write(true).open(&file)?.set_len(u64::try_from(whole).unwrap_or(0))?;
        }
        let keys = Keys::new(old_keys.iter().copied().chain([key.verifying_key()]));
        let anchors = Anchors::parse(&text[..whole]);
        if let Some(bad) = anchors.unparsable.first() {
            return Ok(Err(Tampered::Anchor { line: bad.line, reason: bad.reason.clone() }));
        }
        let mut signed: BTreeMap<Chain, AuditHead> = BTreeMap::new();
        for (at, head) in anchors.heads.iter().enumerate() {
            if !head.is_signed(&keys) {
                return Ok(Err(Tampered::Anchor { line: at + 1, reason: "no valid signature".to_owned() }));
            }
            if signed.get(&head.chain).is_none_or(|known| known.seq < head.seq) {
                signed.insert(head.chain, AuditHead { seq: head.seq, hash: head.hash });
            }
        }
        Ok(Ok(Self { file, key, keys, signed, looked: Looked::default(), round: ROUND, compared: BTreeSet::new() }))
    }

    /// The same with a round of so many users a look.
    #[must_use]
    pub fn with_round(self, users: i64) -> Self {
        Self { round: users, ..self }
    }

    /// Signs the heads that moved since the newest anchors, after checking the rows those name. Nothing is written. The
    /// work is that of what moved and of one part of the round, however many users there are; after a start it is all.
    ///
    /// # Errors
    /// Store failures; the inner error when a history changed: then nothing may be signed.
    pub async fn sign(&self, unit: &mut Unit, now: UnixMs) -> Result<Result<Look, Tampered>, HandleError> {
        let MovedHeads { heads: moved, until } = store::audit::moved_heads(unit, self.looked.until).await?;
        let page = store::audit::heads_after(unit, self.looked.round, self.round).await?;
        let is_whole = i64::try_from(page.len()).is_ok_and(|heads| heads < self.round);
        let round = page.last().filter(|_| !is_whole).and_then(|named| user_of(named.chain));
        let heads: BTreeMap<Chain, AuditHead> =
            moved.into_iter().chain(page).map(|named| (named.chain, named.head)).collect();
        let is_first = self.looked == Looked::default();
        let in_round = self.signed.range((
            self.looked.round.map_or(Bound::Unbounded, |user| Bound::Excluded(Chain::User(user))),
            round.filter(|_| !is_first).map_or(Bound::Unbounded, |user| Bound::Included(Chain::User(user))),
        ));
        let moved = heads.keys().filter_map(|chain| self.signed.get_key_value(chain));
        let governance = self.signed.get_key_value(&Chain::Governance);
        let checked: BTreeMap<&Chain, &AuditHead> = in_round.chain(moved).chain(governance).collect();
        if let Some(tampered) = changed(unit, &checked, &heads).await? {
            return Ok(Err(tampered));
        }
        let moved = heads.into_iter().filter(|(chain, head)| self.signed.get(chain) != Some(head));
        let signed: Result<Vec<_>, _> =
            moved.map(|(chain, head)| store::audit::sign_head(chain, head, head.seq, now, &self.key)).collect();
        let looked = Looked { until, round };
        signed.map(|signed| Ok(Look { signed, looked })).map_err(|error| HandleError::Fatal(error.to_string()))
    }

    /// Compares the newest anchor on the stream with the file's, once per chain and start.
    ///
    /// # Errors
    /// The stream does not answer; the inner error when the file lost anchors.
    async fn compare(
        &mut self,
        context: &jetstream::Context,
        chains: &[Chain],
    ) -> Result<Result<(), Tampered>, HandleError> {
        let retry = |text: String| HandleError::Retry(format!("anchors on the stream: {text}"));
        let new: Vec<&Chain> = chains.iter().filter(|chain| !self.compared.contains(chain)).collect();
        if new.is_empty() {
            return Ok(Ok(()));
        }
        let stream = context.get_stream(Stream::AuditAnchors.name()).await.map_err(|error| retry(error.to_string()))?;
        for chain in new {
            match stream.get_last_raw_message_by_subject(&subject(*chain)).await {
                Ok(message) => {
                    let known = self.signed.get(chain).map_or(0, |head| head.seq);
                    // What reads as no head was not sent by us, and is no proof of anything.
                    if let Ok(head) = serde_json::from_slice::<SignedHead>(&message.payload)
                        && head.is_signed(&self.keys)
                        && head.seq > known
                    {
                        return Ok(Err(Tampered::FileBehind { chain: *chain, file: known, stream: head.seq }));
                    }
                }
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(retry(error.to_string())),
            }
            self.compared.insert(*chain);
        }
        Ok(Ok(()))
    }

    /// Appends what a look found to the file: whole lines or nothing. The next look begins where this one ended.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self, look: &Look) -> std::io::Result<()> {
        if look.signed.is_empty() {
            self.looked = look.looked;
            return Ok(());
        }
        let mut text = Vec::new();
        for head in &look.signed {
            serde_json::to_writer(&mut text, head)?;
            text.push(b'\n');
        }
        let mut out = std::fs::OpenOptions::new().create(true).append(true).open(&self.file)?;
        let before = out.metadata()?.len();
        if let Err(error) = out.write_all(&text).and_then(|()| out.sync_data()) {
            // Half a line would make the next one unreadable.
            out.set_len(before)?;
            return Err(error);
        }
        for head in &look.signed {
            self.signed.insert(head.chain, AuditHead { seq: head.seq, hash: head.hash });
        }
        self.looked = look.looked;
        Ok(())
    }

    /// One turn: what moved is signed, written and published.
    async fn anchor(&mut self, work: &Work) -> Result<Result<(), Tampered>, HandleError> {
        let mut unit = work.begin(nobody()).await?;
        let now = unit.now().await?;
        let look = self.sign(&mut unit, now).await?;
        unit.rollback().await?;
        let look = match look {
            Ok(look) => look,
            Err(tampered) => return Ok(Err(tampered)),
        };
        let chains: Vec<Chain> = look.signed.iter().map(|head| head.chain).collect();
        let context = jetstream::new(work.bus.client().clone());
        if let Err(tampered) = self.compare(&context, &chains).await? {
            return Ok(Err(tampered));
        }
        self.write(&look).map_err(|error| HandleError::Retry(format!("{}: {error}", self.file.display())))?;
        for head in &look.signed {
            publish(work, head, now).await?;
        }
        Ok(Ok(()))
    }
}

const fn user_of(chain: Chain) -> Option<UserId> {
    match chain {
        Chain::User(user) => Some(user),
        Chain::Governance => None,
    }
}

/// What is wrong with the first chain whose newest anchor (in `anchored`) does not go with its rows and its head of now.
async fn changed(
    unit: &mut Unit,
    anchored: &BTreeMap<&Chain, &AuditHead>,
    heads: &BTreeMap<Chain, AuditHead>,
) -> Result<Option<Tampered>, HandleError> {
    let moved = anchored.iter().filter(|(chain, old)| heads.get(chain) != Some(old));
    let rows: Vec<(Chain, AuditHead)> = moved.map(|(chain, old)| (**chain, **old)).collect();
    let asked: Vec<(Chain, i64)> = rows.iter().map(|(chain, old)| (*chain, old.seq)).collect();
    let hashes = store::audit::hashes_at(unit, &asked).await?;
    let judged = rows.into_iter().zip(hashes);
    Ok(judged.filter_map(|((chain, old), hash)| judge(chain, old, hash, heads.get(&chain).copied())).next())
}

/// What is wrong with a chain whose newest anchor is `old`, when that row has the hash `hash` now and the head is `head`.
fn judge(chain: Chain, old: AuditHead, hash: Option<Sha256Digest>, head: Option<AuditHead>) -> Option<Tampered> {
    let seq = old.seq;
    match hash {
        None => Some(Tampered::Gone { chain, seq }),
        Some(hash) if hash != old.hash => Some(Tampered::Rewritten { chain, seq }),
        // Rows are there, yet the head that names the newest of them went back or away.
        Some(_) if head.is_none_or(|head| head.seq <= seq) => Some(Tampered::Rewritten { chain, seq }),
        Some(_) => None,
    }
}

/// Signs and anchors heads that moved, until shutdown and once more at the end.
///
/// # Errors
/// [`HandleError::Fatal`]; a history that changed is none: the supervisor stays, the kill level goes up.
pub async fn run(
    file: PathBuf,
    key: SigningKey,
    old_keys: Vec<ed25519_dalek::VerifyingKey>,
    shared: Arc<Shared>,
    work: Work,
) -> Result<(), HandleError> {
    let opened = Notary::open(file.clone(), key, &old_keys)
        .map_err(|error| HandleError::Retry(format!("{}: {error}", file.display())))?;
    let mut notary = match opened {
        Ok(notary) => notary,
        Err(tampered) => return stop(&tampered, &shared, &work).await,
    };
    let mut ticks = runtime::grid(EVERY);
    loop {
        let last = tokio::select! {
            () = work.shutdown.cancelled() => true,
            _ = ticks.tick() => false,
        };
        match notary.anchor(&work).await {
            Ok(Ok(())) => {}
            Ok(Err(tampered)) => return stop(&tampered, &shared, &work).await,
            Err(HandleError::Fatal(text)) => return Err(HandleError::Fatal(text)),
            Err(error) => tracing::warn!(%error, "heads will be anchored later"),
        }
        if last {
            return Ok(());
        }
    }
}

/// No signature from here on; no new risk; and somebody must look. Done once per start, so that a person may go on
/// after looking.
async fn stop(tampered: &Tampered, shared: &Shared, work: &Work) -> Result<(), HandleError> {
    tracing::error!(%tampered, "the audit log was changed: no head is signed any more");
    metrics::counter!("swarm_audit_tampered_total").increment(1);
    // In force from here on, whether or not the database can be written.
    halt::raise(shared, work, &halt::own_wish(1, tampered.to_string())).await;
    while let Err(error) = alert(tampered, work).await {
        tracing::error!(%error, "the alert about the audit log goes out later");
        tokio::select! {
            () = work.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    work.shutdown.cancelled().await;
    Ok(())
}

async fn alert(tampered: &Tampered, work: &Work) -> Result<(), HandleError> {
    let mut unit = work.begin(nobody()).await?;
    let now = unit.now().await?;
    let text = format!("{tampered}; run `swarm audit verify`, and keep the database and the anchor file as they are");
    let alert = Alert { name: "audit_tampered".to_owned(), severity: Severity::Critical, text };
    let key = format!("audit_tampered:{}", now.0);
    let out = vec![Message::fact(Subject::fact(Route::Alert), nobody(), key, Payload::Alert(alert))];
    work.commit(unit, &work.root_header(nobody()), out).await
}

fn subject(chain: Chain) -> String {
    format!("audit.anchor.{chain}")
}

async fn publish(work: &Work, head: &SignedHead, now: UnixMs) -> Result<(), HandleError> {
    let payload = serde_json::to_vec(head).map_err(|error| HandleError::Fatal(error.to_string()))?;
    let id = domain::ids::derive("swarm.anchor.v1", &[&payload]);
    let encoded = bus::Encoded {
        subject: subject(head.chain),
        id,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        payload,
    };
    let clock = work.clock.clone();
    work.bus
        .publish_encoded(&encoded, Some(now.plus_ms(5_000)), &move || clock.now())
        .await
        .map(|_| ())
        .map_err(|error| HandleError::Retry(error.to_string()))
}

/// Public keys of earlier anchors: one of 64 hex digits a line.
///
/// # Errors
/// What does not read.
pub fn read_keys(file: &Path) -> Result<Vec<ed25519_dalek::VerifyingKey>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| rails::signature::parse_public_key(line).map_err(|error| format!("{}: {error}", file.display())))
        .collect()
}
