//! Answers as text for people.

use std::fmt::Write;

use serde_json::Value;

use super::{AgentsCommand, AuditCommand, Command, DlqCommand, FilesCommand};

/// The text of an answer; a no is its code and what to do about it.
pub fn render(command: &Command, answer: &Value) -> String {
    if answer.get("ok").and_then(Value::as_bool) == Some(false)
        && !matches!(command, Command::Audit(AuditCommand::Verify))
    {
        return format!("{} {}\n", word(&answer["code"]), word(&answer["detail"]));
    }
    let mut out = String::new();
    match command {
        Command::Signal(_) => line(&mut out, &format!("accepted {}", word(&answer["id"]))),
        Command::Status => status(&mut out, answer),
        Command::Positions { .. } => positions(&mut out, answer),
        Command::Approvals => approvals(&mut out, answer),
        Command::Approve(_) | Command::Reject(_) | Command::Revoke(_) => {
            line(&mut out, &format!("{}: {}", word(&answer["status"]), word(&answer["summary"])));
        }
        Command::Modify(_) => {
            line(&mut out, &format!("{}: {}", word(&answer["status"]), word(&answer["summary"])));
            line(&mut out, &format!("asked again as {}: it needs a yes of its own", word(&answer["superseded_by"])));
        }
        Command::Telegram(_) => {
            let (code, minutes) = (word(&answer["code"]), &answer["valid_minutes"]);
            line(
                &mut out,
                &format!("send /start {code} to the swarm's bot in a private chat within {minutes} minutes"),
            );
        }
        Command::Web(_) => {
            line(&mut out, "shown this once; put it into your authenticator (as a QR code or by hand):");
            line(&mut out, &word(&answer["uri"]));
        }
        Command::Halt { .. } | Command::Resume { .. } => {
            line(
                &mut out,
                &format!("kill level {} (epoch {}): {}", answer["level"], answer["epoch"], word(&answer["reason"])),
            );
            if answer["detail"].is_string() {
                line(&mut out, &word(&answer["detail"]));
            }
        }
        Command::Drill(_) => {
            let ms = |name: &str| format!("{:>6} ms", word(&answer[name]));
            line(&mut out, &format!("press to latched        {}", ms("press_to_latched_ms")));
            line(&mut out, &format!("press to first cancel   {}", ms("press_to_first_cancel_ms")));
            line(&mut out, &format!("press to last cancel    {}", ms("press_to_last_cancel_ms")));
            line(
                &mut out,
                &format!(
                    "kill level {} by {}: {} orders, {} cancelled, {} filled before, {} left; resumed",
                    answer["level"],
                    word(&answer["by"]),
                    answer["orders"],
                    answer["cancelled"],
                    answer["filled"],
                    answer["left"],
                ),
            );
            let sliced = &answer["sliced"];
            line(
                &mut out,
                &format!(
                    "of a sliced order {} of {} parts were sent before the press, {} after it",
                    sliced["sent_before_press"], sliced["parts"], sliced["sent_after_press"]
                ),
            );
        }
        Command::Breaker(_) => line(&mut out, "sent to treasury"),
        Command::Agents { command: None } => agents(&mut out, &answer["result"]),
        Command::Agents { command: Some(AgentsCommand::Release { agent, .. }) } => {
            line(&mut out, &format!("{agent} is released and will be started; its restarts count from now"));
        }
        Command::Agents { command: Some(AgentsCommand::Restart { agent, .. }) } => {
            line(&mut out, &format!("{agent} drains and is started anew"));
        }
        Command::Dlq(command) => dlq(&mut out, command, answer),
        Command::Files(FilesCommand::Status) => files(&mut out, answer),
        Command::Files(FilesCommand::Approve { .. }) => {
            line(&mut out, &format!("{} may be {} from now on", word(&answer["file"]), word(&answer["to"])));
            if let [with, place] = rows(&answer["put_in_place"]) {
                line(&mut out, &format!("put it in place within 10 minutes: cp {} {}", word(with), word(place)));
            }
        }
        Command::Task(_) => {
            let _ = writeln!(out, "{} by {}", word(&answer["capability"]), word(&answer["agent"]));
            for (name, value) in answer["results"].as_object().into_iter().flatten() {
                let _ = writeln!(out, "  {name:<32} {}", word(value));
            }
        }
        Command::Audit(AuditCommand::Verify) => verify(&mut out, answer),
        Command::Audit(AuditCommand::Explain { .. }) => {
            line(&mut out, &serde_json::to_string_pretty(&answer["chain"]).unwrap_or_default());
        }
    }
    shown(&out)
}

/// Text that a terminal may show: words of strangers reach it (reasons, what agents say, stored rows), and must not move
/// the cursor, change colours or turn the direction of writing.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .filter(
            |c| !matches!(*c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}'),
        )
        .collect()
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// A value without JSON's quotes; `-` for nothing.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn status(out: &mut String, answer: &Value) {
    line(
        out,
        &format!("kill level {}  pending approvals {}", word(&answer["kill"]["level"]), answer["pending_approvals"]),
    );
    if answer["dead_letters"]["open"].as_i64().is_some_and(|open| open > 0) {
        let letters = &answer["dead_letters"];
        line(
            out,
            &format!("dead letters {}  oldest {} s: `swarm dlq list`", letters["open"], word(&letters["oldest_s"])),
        );
    }
    if answer["kill"]["level"] != 0 {
        line(out, &format!("level raised by {}: {}", word(&answer["kill"]["by"]), word(&answer["kill"]["reason"])));
    }
    for row in rows(&answer["market"]) {
        line(
            out,
            &format!("market {:<18} {:>14}  {} ms old", word(&row["instrument"]), word(&row["mark"]), row["age_ms"]),
        );
    }
    agents(out, &answer["agents"]);
    for row in rows(&answer["accounts"]).iter().filter(|row| row["user"] != "operator") {
        let _ = writeln!(
            out,
            "{}: equity ${}  today ${}  open positions {}  trades this hour {}{}",
            word(&row["user"]),
            word(&row["equity_usd"]),
            word(&row["day_profit_usd"]),
            word(&row["open_positions"]),
            word(&row["trades_last_hour"]),
            if row["breaker_latched"] == true { "  breaker LATCHED" } else { "" },
        );
    }
    positions(out, &answer["operator"]);
}

/// One line a process; what is not well about it on lines of its own.
fn files(out: &mut String, answer: &Value) {
    if answer["is_declared"] != true {
        line(out, "not looked at yet; ask again in some seconds");
    }
    for row in rows(&answer["files"]) {
        let state = match (&row["as_declared"], &row["found"]) {
            (Value::Bool(true), _) => "as declared".to_owned(),
            (_, Value::Null) => "NOT THERE".to_owned(),
            (_, found) => format!("CHANGED: declared {}, found {}", word(&row["declared"]), word(found)),
        };
        let _ = writeln!(out, "{:<24} {:<12} {state}", word(&row["file"]), word(&row["class"]));
    }
    if answer["approvers_as_declared"] == false {
        line(out, "approvers                untouchable  CHANGED: put them back, or start the swarm again");
    }
}

fn agents(out: &mut String, answer: &Value) {
    let _ = writeln!(
        out,
        "{:<20} {:<12} {:>8} {:>7} {:<21} {:>8}  restarts in 60 s / 15 min / 24 h",
        "process", "is", "pid", "memory", "", "up"
    );
    for row in rows(answer) {
        let windows = ["60s", "15min", "24h"].map(|window| word(&row["restarts_in"][window]));
        let kinds = row["restarts_by_kind"].as_object().into_iter().flatten();
        let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{count} {kind}")).collect();
        let _ = writeln!(
            out,
            "{:<20} {:<12} {:>8} {:>4} MB {:<21} {:>8}  {}{}",
            word(&row["agent"]),
            word(&row["verdict"]),
            word(&row["pid"]),
            row["rss_bytes"].as_u64().unwrap_or(0) >> 20,
            profile(row),
            row["up_ms"].as_u64().map_or_else(|| "-".to_owned(), lasted),
            windows.join(" / "),
            if kinds.is_empty() { String::new() } else { format!("  ({})", kinds.join(", ")) },
        );
        let mut more = Vec::new();
        if let Some(reason) = row["quarantined"].as_str() {
            let name = word(&row["agent"]);
            more.push(format!("in quarantine: {reason}; `swarm agents release {name} --reason ..` lets it run again"));
        }
        if !row["last_end"].is_null() {
            more.push(format!("last end: {}", word(&row["last_end"])));
        }
        let of = |value: &Value| rows(value).iter().map(word).collect::<Vec<_>>();
        for (what, words) in
            [("drifts", of(&row["drift"]["of"])), ("waits for", of(&row["unready"])), ("lacks", of(&row["lacks"]))]
        {
            if !words.is_empty() {
                more.push(format!("{what}: {}", words.join("; ")));
            }
        }
        more.iter().for_each(|text| line(out, &format!("    {text}")));
    }
}

/// `thick $0.0123 today`; `thick -` when nobody can say what its questions to models cost.
fn profile(row: &Value) -> String {
    let cost = row["cost_usd_today"].as_str().map_or_else(|| "-".to_owned(), |cost| format!("${cost} today"));
    format!("{} {cost}", word(&row["profile"]["name"]))
}

/// `3h07m`, `12m`, `9s`.
fn lasted(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

fn positions(out: &mut String, answer: &Value) {
    let _ = writeln!(
        out,
        "{}: equity ${}  cash ${}  today ${}  fees ${}  fills {}  permits this hour {}",
        word(&answer["user"]),
        word(&answer["equity_usd"]),
        word(&answer["cash_usd"]),
        word(&answer["day"]["profit_usd"]),
        word(&answer["fees_usd"]),
        word(&answer["fills"]),
        word(&answer["risk_permits_last_hour"]),
    );
    for row in rows(&answer["positions"]) {
        let _ = writeln!(
            out,
            "  {:<18} {:>14}  cost ${}  value ${}  unrealised ${}",
            word(&row["instrument"]),
            word(&row["quantity"]),
            word(&row["cost_usd"]),
            word(&row["value_usd"]),
            word(&row["unrealised_usd"]),
        );
    }
    if !answer["breaker"]["latched_at"].is_null() {
        line(out, "  breaker LATCHED: no new risk until `swarm breaker reset --reason ..`");
    }
    for row in rows(&answer["recent_decisions"]) {
        let numbers = row["numbers"].as_object().cloned().unwrap_or_default();
        let numbers: Vec<String> = numbers.iter().map(|(k, v)| format!("{k}={}", word(v))).collect();
        let code = if row["code"].is_null() { String::new() } else { word(&row["code"]) };
        let _ = writeln!(out, "  {} {:<12} {} {}", word(&row["at"]), word(&row["outcome"]), code, numbers.join(" "));
    }
}

fn approvals(out: &mut String, answer: &Value) {
    let waiting = rows(&answer["approvals"]);
    if waiting.is_empty() {
        line(out, "nothing waits for a human");
    }
    for row in waiting {
        let _ = writeln!(
            out,
            "{}  tier {}  {}  until {}",
            word(&row["approval_id"]),
            row["tier"],
            word(&row["summary"]),
            word(&row["expires_at"]),
        );
        for field in rows(&row["rendering"]) {
            let _ = writeln!(out, "  {:<18} {}", word(&field[0]), word(&field[1]));
        }
        let said: Vec<String> = rows(&row["entries"])
            .iter()
            .map(|entry| format!("{} {}", word(&entry["person_id"]), word(&entry["decision"])))
            .collect();
        let said = if said.is_empty() { "nobody yet".to_owned() } else { said.join(", ") };
        let _ = writeln!(out, "  {:<18} {} of {} people; {said}", "Said", rows(&row["entries"]).len(), row["needed"]);
        if row["prose"].as_str().is_some_and(|prose| !prose.is_empty()) {
            let _ = writeln!(out, "  {}", word(&row["prose_heading"]));
            for quoted in word(&row["prose"]).lines() {
                let _ = writeln!(out, "  {quoted}");
            }
        }
    }
}

fn dlq(out: &mut String, command: &DlqCommand, answer: &Value) {
    match command {
        DlqCommand::List { .. } => {
            if rows(&answer["letters"]).is_empty() {
                line(out, "no dead letters");
            }
            for row in rows(&answer["letters"]) {
                letter(out, row);
            }
            let (open, shown) = (answer["open"].as_i64().unwrap_or(0), rows(&answer["letters"]).len());
            if usize::try_from(open).is_ok_and(|open| open > shown) {
                line(out, &format!("{open} are open; these are the oldest"));
            }
        }
        DlqCommand::Show { .. } => {
            letter(out, answer);
            line(out, &format!("  given up by {}: {}", word(&answer["consumer"]), word(&answer["detail"])));
            line(out, &serde_json::to_string_pretty(&answer["headers"]).unwrap_or_default());
            match answer["unreadable"].as_str() {
                Some(why) => line(out, &format!("{} bytes that can't be read: {why}", answer["bytes"])),
                None => line(out, &serde_json::to_string_pretty(&answer["message"]).unwrap_or_default()),
            }
        }
        DlqCommand::Redrive { .. } => {
            let place = format!("{}:{}", word(&answer["stream"]), answer["seq"]);
            let before = if answer["duplicate"] == true { " (it was there already)" } else { "" };
            line(out, &format!("{} is back in its stream as {place}{before}", word(&answer["letter"])));
        }
        DlqCommand::Drop { .. } => {
            for row in rows(&answer["letters"]) {
                line(out, &format!("{} stays dead", word(&row["letter"])));
            }
        }
    }
}

fn letter(out: &mut String, row: &Value) {
    let until = row["valid_until"].as_str().map_or_else(String::new, |end| format!("  until {end}"));
    let can = if row["may_be_redriven"] == true { "may be redriven".to_owned() } else { word(&row["why_not"]) };
    let _ = writeln!(
        out,
        "{:<24} {}  {} s old  {}  {}  user {}{until}  {}: {can}",
        word(&row["letter"]),
        word(&row["died_at"]),
        row["age_s"],
        word(&row["subject"]),
        word(&row["code"]),
        word(&row["user_id"]),
        word(&row["state"]),
    );
}

fn verify(out: &mut String, answer: &Value) {
    for row in rows(&answer["chains"]) {
        let bad = &row["first_bad"];
        let verdict = if bad.is_null() {
            "ok".to_owned()
        } else {
            format!("BAD at row {}: {}", bad["seq"], word(&bad["reason"]))
        };
        let _ = writeln!(
            out,
            "{}  rows {}  anchored {}  not yet anchored {}  {verdict}",
            word(&row["chain"]),
            row["rows"],
            row["anchored"],
            row["not_yet_anchored"],
        );
    }
    for fault in rows(&answer["faults"]) {
        line(out, &word(fault));
    }
    line(out, &word(&answer["verdict"]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_everything_tells_of_dead_letters_only_when_there_are_some() {
        let told = |open: i64| {
            let answer = serde_json::json!({ "dead_letters": { "open": open, "oldest_s": 70 } });
            render(&Command::Status, &answer).contains("dead letters 3  oldest 70 s: `swarm dlq list`")
        };
        assert!(told(3) && !told(0));
    }

    #[test]
    fn beside_a_profile_stands_what_it_cost_today_or_that_nobody_knows() {
        let row = |cost: Value| serde_json::json!({ "profile": { "name": "thick" }, "cost_usd_today": cost });
        assert_eq!(profile(&row("0.0123".into())), "thick $0.0123 today");
        assert_eq!(profile(&row(Value::Null)), "thick -");
    }

    #[test]
    fn no_answer_can_drive_the_terminal() {
        let reason = "fine\u{1b}[2J\u{9b}31m\u{202e}enif\r";
        let answer = serde_json::json!({ "level": 1, "epoch": 2, "reason": reason });
        let command = Command::Halt { level: 1, reason: String::new() };
        assert_eq!(render(&command, &answer), "kill level 1 (epoch 2): fine[2J31menif\n");
        let chain = serde_json::json!({ "chain": { "says": reason } });
        let command = Command::Audit(AuditCommand::Explain { id: String::new() });
        assert!(!render(&command, &chain).chars().any(|c| c != '\n' && c.is_control()));
    }
}
