//! Attacks on the audit chain by somebody who holds the administrator's login, whom no trigger holds, and on the file of signed
//! heads; each on a database and a file of its own. Each says what the verifier said, and what a naive one would have: one that
//! hashes the fields joined by `|`, has no signed heads, and takes a file it can't read for an empty one.
//!
//!     cargo test -p store --test postgres attacks:: -- --nocapture

use std::path::PathBuf;
use std::time::Duration;

use domain::ids::UserId;
use domain::time::UnixMs;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use store::Db;
use store::audit::{self, Anchors, Keys, Report};

use crate::audit::{ROWS, Scene, append};
use crate::samples::{T0, account};
use crate::support::{self, World};

/// A scene whose signed heads lie in a file, and what a naive verifier would have written beside the rows.
struct Attacked {
    scene: Scene,
    folder: tempfile::TempDir,
    naive: Naive,
}

/// What there is of one row.
struct Plain {
    user: UserId,
    seq: i64,
    text: String,
}

/// The hash that a naive chain would have kept with each row.
#[derive(Default)]
struct Naive(std::collections::BTreeMap<(UserId, i64), Vec<u8>>);

impl Naive {
    /// Hashes of the fields joined by `|`, each with the one before.
    fn of(rows: &[Plain]) -> Self {
        let mut naive = Self::default();
        for row in rows {
            let before = naive.0.get(&(row.user, row.seq - 1)).cloned().unwrap_or_default();
            let hash = Sha256::digest([before.as_slice(), b"|", row.text.as_bytes()].concat());
            naive.0.insert((row.user, row.seq), hash.to_vec());
        }
        naive
    }

    /// Every row that is there follows the one before it. No signed head is asked for: a file that does not read has none.
    fn says_valid(&self, rows: &[Plain]) -> bool {
        let found = Self::of(rows);
        found.0.iter().all(|(place, hash)| self.0.get(place) == Some(hash))
    }
}

/// Rows in their order, their fields joined as a naive program would.
async fn plain(world: &World) -> Vec<Plain> {
    let rows = sqlx::query(
        "SELECT user_id, seq, concat_ws('|', seq, kind, agent, body::text) AS text FROM trade_audit ORDER BY user_id, seq",
    );
    let rows = rows.fetch_all(world.admin.pool()).await.unwrap();
    rows.iter()
        .map(|row| Plain { user: UserId(row.get("user_id")), seq: row.get("seq"), text: row.get("text") })
        .collect()
}

/// What is wrong, in the verifier's words.
fn reason(report: &Report) -> String {
    let bad = report.chains.iter().filter_map(|chain| chain.first_bad.as_ref());
    let bad = bad.map(|bad| format!("row {}: {}", bad.seq, bad.reason));
    report.faults.iter().cloned().chain(bad).next().unwrap_or_default()
}

impl Attacked {
    async fn new() -> Self {
        Self::of(Scene::new().await).await
    }

    async fn of(scene: Scene) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let naive = Naive::of(&plain(&scene.world).await);
        let attacked = Self { scene, folder, naive };
        let lines = attacked.scene.anchors.heads.iter().map(|head| serde_json::to_string(head).unwrap() + "\n");
        std::fs::write(attacked.file(), lines.collect::<String>()).unwrap();
        let (report, naive) = attacked.verdicts().await;
        assert!(report.valid && naive, "an honest chain is valid to both: {report:?}");
        attacked
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("audit-anchors.jsonl")
    }

    /// What the verifier says of the tables and the file, and what a naive one would.
    async fn verdicts(&self) -> (Report, bool) {
        let anchors = Anchors::parse_bytes(&std::fs::read(self.file()).unwrap());
        let db = self.scene.world.login("audit_verify").await;
        let report = audit::verify(&db, &anchors, &self.scene.keys, T0.plus_ms(1_000)).await.unwrap();
        (report, self.naive.says_valid(&plain(&self.scene.world).await))
    }

    /// The verifier finds the attack, for that reason; a naive one finds nothing.
    async fn check(&self, name: &str, want: &str) {
        let (report, naive) = self.verdicts().await;
        let reason = reason(&report);
        assert!(!report.valid && reason.contains(want), "{name}: {report:?}");
        assert!(naive, "{name}: a naive verifier finds it too, so this shows nothing");
        println!("attack: {name}: INVALID: {reason}; a naive verifier: valid");
    }
}

#[tokio::test]
async fn truncated_tail() {
    let attacked = Attacked::new().await;
    attacked.scene.attack("DELETE FROM trade_audit WHERE ANNA AND seq > 3").await;
    attacked.check("truncated tail", "rows 4 to 5 are gone: the anchor knows them").await;
    // And the head of the chain with it.
    let attacked = Attacked::new().await;
    attacked
        .scene
        .attack(
            "DELETE FROM trade_audit WHERE ANNA AND seq > 3;
             UPDATE audit_heads h SET seq = 3, hash = t.hash FROM trade_audit t
             WHERE t.user_id = h.user_id AND t.seq = 3 AND t.ANNA",
        )
        .await;
    attacked.check("truncated tail with its head moved back", "rows 4 to 5 are gone: the anchor knows them").await;
}

#[tokio::test]
async fn unparsable_anchor_file() {
    for (name, text) in [
        ("unparsable anchor file", b"these are no anchors\n".as_slice()),
        ("anchor file that is no text", b"\xff\xfe\x00\n".as_slice()),
    ] {
        let attacked = Attacked::new().await;
        std::fs::write(attacked.file(), text).unwrap();
        attacked.check(name, "anchor line 1 does not read").await;
    }
    let attacked = Attacked::new().await;
    std::fs::write(attacked.file(), "").unwrap();
    attacked.check("emptied anchor file", "no anchor names them").await;
    let unreadable = Anchors::unreadable("no permission");
    let db = attacked.scene.world.login("audit_verify").await;
    // However young the rows are.
    let report = audit::verify(&db, &unreadable, &attacked.scene.keys, UnixMs(0)).await.unwrap();
    assert!(!report.valid && reason(&report).contains("no permission"), "{report:?}");
}

#[tokio::test]
async fn emptied_table() {
    let attacked = Attacked::new().await;
    attacked.scene.attack("DELETE FROM trade_audit WHERE ANNA; DELETE FROM audit_heads WHERE ANNA").await;
    attacked.check("emptied table", "all rows are gone; the anchor knows 5").await;
    let attacked = Attacked::new().await;
    attacked.scene.attack("TRUNCATE trade_audit; TRUNCATE audit_heads; TRUNCATE governance_audit").await;
    let (report, _) = attacked.verdicts().await;
    assert_eq!(report.chains.iter().filter(|chain| chain.first_bad.is_some()).count(), 3, "{report:?}");
    attacked.check("all tables emptied", "all rows are gone").await;
    // And the signed heads too: there are users, so there was something.
    std::fs::write(attacked.file(), "").unwrap();
    let zero = "UPDATE governance_head SET seq = 0, hash = decode(repeat('00', 32), 'hex')";
    attacked.scene.attack(zero).await;
    attacked.check("all tables and the anchor file emptied", "users exist").await;
}

/// Text moves over the border between two fields, so that what stands between the borders is the same text.
#[tokio::test]
async fn field_shifted_across_a_separator() {
    let mut attacked = Attacked::new().await;
    let treasury = attacked.scene.world.login("treasury").await;
    let mut unit = treasury.begin().await.unwrap();
    let body = json!({ "n": 6 });
    audit::append(&mut unit, attacked.scene.anna, "refused|not filled", "treasury", &body, T0).await.unwrap();
    unit.commit().await.unwrap();
    attacked.naive = Naive::of(&plain(&attacked.scene.world).await);
    assert!(attacked.verdicts().await.0.valid);
    let shift = "UPDATE trade_audit SET kind = 'refused', agent = 'not filled|treasury' WHERE ANNA AND seq = 6";
    attacked.scene.attack(shift).await;
    attacked.check("field shifted across a separator", "row 6: fields do not match the row's hash").await;
}

/// The attacker writes the last rows anew by the program itself, so every hash fits, and there are as many as before.
#[tokio::test]
async fn same_length_suffix_rewrite() {
    for kept in [0, 3] {
        let mut attacked = Attacked::new().await;
        let cut = format!(
            "DELETE FROM trade_audit WHERE ANNA AND seq > {kept};
             DELETE FROM audit_heads WHERE ANNA AND {kept} = 0;
             UPDATE audit_heads h SET seq = {kept}, hash = t.hash FROM trade_audit t
             WHERE t.user_id = h.user_id AND t.seq = {kept} AND t.ANNA"
        );
        attacked.scene.attack(&cut).await;
        for n in kept + 1..=ROWS {
            append(&attacked.scene.world.admin, attacked.scene.anna, n * 10).await;
        }
        // Whoever recomputes the one chain recomputes the other.
        attacked.naive = Naive::of(&plain(&attacked.scene.world).await);
        let (report, _) = attacked.verdicts().await;
        let anna = report.chains.iter().find(|chain| chain.user == Some(attacked.scene.anna)).unwrap();
        assert_eq!((anna.rows, anna.anchored, anna.unanchored), (5, 5, 0));
        let name = if kept == 0 { "same-length rewrite of the whole chain" } else { "same-length suffix rewrite" };
        attacked.check(name, "hash differs from the signed anchor: rewritten").await;
    }
}

/// The second writer waits for the first, whether that one commits or not.
#[tokio::test]
async fn two_concurrent_writers() {
    let attacked = Attacked::new().await;
    let (scene, anna) = (&attacked.scene, attacked.scene.anna);
    let treasury = scene.world.login("treasury").await;
    for commits in [true, false] {
        let mut first = treasury.begin().await.unwrap();
        audit::append(&mut first, anna, "first", "treasury", &json!({}), T0).await.unwrap();
        let db = treasury.clone();
        let second = tokio::spawn(async move {
            let mut unit = db.begin().await.unwrap();
            let head = audit::append(&mut unit, anna, "second", "treasury", &json!({}), T0).await.unwrap();
            unit.commit().await.unwrap();
            head.seq
        });
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        until("the second writer to wait", async || {
            let waiting: i64 = sqlx::query_scalar(waits).fetch_one(scene.world.admin.pool()).await.unwrap();
            waiting > 0
        })
        .await;
        if commits {
            first.commit().await.unwrap()
        } else {
            first.rollback().await.unwrap()
        }
        let (report, _) = attacked.verdicts_after(second.await.unwrap()).await;
        assert!(report.valid, "{report:?}");
    }
    println!("attack: two concurrent writers: valid: 5 + 3 rows without a gap, the second writer waited for the first");
}

impl Attacked {
    /// The verdicts when Anna's chain has `rows` rows.
    async fn verdicts_after(&self, rows: i64) -> (Report, bool) {
        let (report, naive) = self.verdicts().await;
        let anna = report.chains.iter().find(|chain| chain.user == Some(self.scene.anna)).unwrap();
        assert_eq!(anna.rows, rows, "{report:?}");
        (report, naive)
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn many_concurrent_writers_some_of_whom_roll_back() {
    let world = World::new().await;
    let treasury = world.login("treasury").await;
    let anna = account(&treasury, "anna").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..24 {
        let db = treasury.clone();
        tasks.spawn(async move {
            let mut unit = db.begin().await.unwrap();
            audit::append(&mut unit, anna, "test", "treasury", &json!({"n": n}), T0).await.unwrap();
            if n % 3 == 0 { unit.rollback().await.unwrap() } else { unit.commit().await.unwrap() }
        });
    }
    tasks.join_all().await;
    let db = world.login("audit_verify").await;
    let report = audit::verify(&db, &Anchors::default(), &Keys::default(), UnixMs(0)).await.unwrap();
    assert!(report.valid, "{report:?}");
    assert_eq!(report.chains.iter().find(|chain| chain.user == Some(anna)).unwrap().rows, 16);
    println!("attack: 24 concurrent writers, 8 of whom roll back: valid: 16 rows without a gap");
}

/// Two rows follow the same row, each with a hash that fits. The key of the table forbids it, so that goes first. With as
/// many rows as the verifier reads at once the fork lies between two pages.
#[tokio::test]
async fn forged_fork() {
    for (name, rows) in [("forged fork", 5), ("forged fork between two pages", 1_000)] {
        let mut attacked = Attacked::new().await;
        let treasury = attacked.scene.world.login("treasury").await;
        let mut unit = treasury.begin().await.unwrap();
        for n in ROWS + 1..=rows {
            let body = json!({ "n": n });
            audit::append(&mut unit, attacked.scene.anna, "test", "treasury", &body, T0).await.unwrap();
        }
        unit.commit().await.unwrap();
        assert!(attacked.verdicts().await.0.valid);
        // A fork with the triggers on: a row that does not follow the head.
        let twice = format!(
            "INSERT INTO trade_audit SELECT user_id, seq, at, kind, 'x', body, prev_hash, hash FROM trade_audit
             WHERE user_id = '{}' AND seq = {rows}",
            attacked.scene.anna
        );
        let refused = sqlx::raw_sql(AssertSqlSafe(twice)).execute(attacked.scene.world.admin.pool()).await;
        assert!(refused.unwrap_err().to_string().contains("does not follow the head"));
        let back = format!(
            "CREATE TABLE kept AS SELECT * FROM trade_audit WHERE ANNA AND seq = {rows};
             CREATE TABLE kept_head AS SELECT * FROM audit_heads WHERE ANNA;
             DELETE FROM trade_audit WHERE ANNA AND seq = {rows};
             UPDATE audit_heads h SET seq = t.seq, hash = t.hash FROM trade_audit t
             WHERE t.user_id = h.user_id AND t.seq = {rows} - 1 AND t.ANNA"
        );
        attacked.scene.attack(&back).await;
        append(&attacked.scene.world.admin, attacked.scene.anna, 77).await;
        attacked
            .scene
            .attack(
                "ALTER TABLE trade_audit DROP CONSTRAINT trade_audit_pkey; INSERT INTO trade_audit SELECT * FROM kept;
                 UPDATE audit_heads h SET seq = k.seq, hash = k.hash FROM kept_head k WHERE k.user_id = h.user_id",
            )
            .await;
        attacked.naive = Naive::of(&plain(&attacked.scene.world).await);
        let (report, _) = attacked.verdicts().await;
        let anna = report.chains.iter().find(|chain| chain.user == Some(attacked.scene.anna)).unwrap();
        assert_eq!(anna.rows, rows + 1, "{report:?}");
        let reason = reason(&report);
        let found = reason.contains("is missing; the next one is") || reason.contains("rewritten");
        assert!(!report.valid && found, "{report:?}");
        println!("attack: {name}: INVALID: {reason}");
    }
}

/// A server process is killed after the row and before the commit: neither row nor head are there, and the next writer goes on
/// behind what was committed. The server throws out everybody when one of its processes is killed, so it is one of its own.
#[tokio::test]
async fn crash_mid_append() {
    let server = tokio::task::spawn_blocking(support::start).await.unwrap();
    let mut attacked = Attacked::of(Scene::of(World::new_on(server.port).await).await).await;
    let scene = &attacked.scene;
    let mut victim = PgConnection::connect(&scene.world.url("treasury", "t")).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut victim).await.unwrap();
    let row = format!(
        "BEGIN; SELECT set_config('app.tenant', '{anna}', true); SELECT 1 FROM audit_heads WHERE user_id = '{anna}' FOR UPDATE;
         INSERT INTO trade_audit SELECT user_id, seq + 1, now(), 'half', 'treasury', '{{}}', hash, hash
         FROM audit_heads WHERE user_id = '{anna}'",
        anna = scene.anna
    );
    // The row is there, its head is not yet moved.
    sqlx::raw_sql(AssertSqlSafe(row)).execute(&mut victim).await.unwrap();
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    until("the process to be gone", async || !process.exists()).await;
    until("the server to be back", async || Db::connect(&attacked.scene.world.admin_url, "back").await.is_ok()).await;
    attacked.scene.world.admin = Db::connect(&attacked.scene.world.admin_url, "tests").await.unwrap();
    let scene = &attacked.scene;
    assert!(attacked.verdicts_after(ROWS).await.0.valid);
    let treasury = scene.world.login("treasury").await;
    append(&treasury, scene.anna, ROWS + 1).await;
    assert!(attacked.verdicts_after(ROWS + 1).await.0.valid);
    let told = format!("valid: {ROWS} rows, and the next one is row {}", ROWS + 1);
    println!("attack: crash mid-append, server process killed between row and head: {told}");
    // A row without its head, which only somebody without triggers can commit.
    let orphan = format!(
        "INSERT INTO trade_audit SELECT user_id, seq + 1, now(), 'half', 'treasury', '{{}}', hash, hash
         FROM audit_heads WHERE user_id = '{}'",
        scene.anna
    );
    scene.attack(&orphan).await;
    let (report, _) = attacked.verdicts().await;
    assert!(!report.valid, "{report:?}");
    println!("attack: row without its head: INVALID: {}", reason(&report));
}

/// Half a line of the anchor file is not believed, and not taken for none: the notary that opens the file cuts it off.
#[tokio::test]
async fn half_a_line_in_the_anchor_file() {
    let attacked = Attacked::new().await;
    let honest = std::fs::read_to_string(attacked.file()).unwrap();
    let half = &honest[..honest.len() - 40];
    std::fs::write(attacked.file(), half).unwrap();
    attacked.check("half a line in the anchor file", "does not read").await;
    let lines = honest.lines().count();
    assert_eq!(Anchors::parse(half).heads.len(), lines - 1, "the other lines count");
}
