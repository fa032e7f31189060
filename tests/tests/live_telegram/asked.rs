//! A person is asked, presses, and the order fills; exits and halts come from the chat; the token is where it must be and
//! nowhere else.

use domain::time::Clock;
use runtime::clock::SystemClock;
use testkit::telegram::{Fault, Telegram};
use tokio::time::Instant;

use crate::swarm::{BOUND, OPERATOR, Swarm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_in_telegram_presses_and_the_order_fills() {
    let telegram = Telegram::start(SystemClock.now()).await;
    telegram.person(OPERATOR, "Olga");
    let swarm = Swarm::start(&telegram);
    swarm.link(&telegram).await;

    let sent_at = Instant::now();
    let signal = swarm.run(&["signal", "BUY", "BTCUSDT", "--notional-usd", "1500"]);
    assert_eq!(signal["accepted"], true, "{signal}");
    let prompt = telegram.wait_for(OPERATOR, BOUND, "a prompt", |sent| sent.button("✅ Approve").is_some()).await;
    let asked_after = sent_at.elapsed();
    assert!(prompt.text.contains("BUY") && prompt.text.contains("BTCUSDT"), "{}", prompt.text);
    swarm.prompt_is_recorded().await;
    let pressed_at = Instant::now();
    telegram.press(OPERATOR, &prompt, "✅ Approve");
    let done = telegram.wait_for(OPERATOR, BOUND, "the fill", |sent| sent.text.contains("Filled: ")).await;
    println!(
        "figure: asked {} ms after the signal, filled and shown {} ms after the press",
        asked_after.as_millis(),
        pressed_at.elapsed().as_millis()
    );
    assert_eq!((done.id, done.buttons.len()), (prompt.id, 0), "{}", done.describe());
    assert!(done.text.contains("operator: approve (telegram"), "{}", done.text);
    let held = swarm.run(&["positions"]);
    assert_eq!(held["positions"].as_array().unwrap().len(), 1, "{held}");

    decided_at_the_terminal_while_telegram_is_away(&telegram, &swarm).await;

    // Status with a picture, an exit, and a halt.
    telegram.say(OPERATOR, "/status");
    telegram.wait_for(OPERATOR, BOUND, "the curve", |sent| sent.photo.is_some() && sent.text.contains("Running")).await;
    telegram.say(OPERATOR, "/limits");
    telegram.wait_for(OPERATOR, BOUND, "the limits", |sent| sent.text.contains("Limits") && sent.text.len() > 80).await;
    telegram.say(OPERATOR, "/close BTCUSDT");
    telegram.wait_for(OPERATOR, BOUND, "the answer", |sent| sent.text.contains("Sale of all BTCUSDT")).await;
    testkit::wait_until(BOUND, "the exit, and nothing but it", || async {
        swarm.run(&["positions"])["positions"].as_array().is_some_and(|held| held.len() == 1)
    })
    .await;
    telegram.say(OPERATOR, "/halt that is enough");
    telegram.wait_for(OPERATOR, BOUND, "the level", |sent| sent.text.contains("Kill level 1. No new risk")).await;
    let status = swarm.run(&["status"]);
    assert_eq!(status["kill"]["level"], 1, "{status}");
    assert_eq!(status["kill"]["reason"], "that is enough");
    assert_eq!(telegram.violations(), Vec::<String>::new());

    the_token_is_in_one_process_and_in_no_log(&swarm);
}

/// No call of ours is answered; the question is there all the same, and its end is told when Telegram is back.
async fn decided_at_the_terminal_while_telegram_is_away(telegram: &Telegram, swarm: &Swarm) {
    telegram.outage(Some(Fault::Hang));
    let signal = swarm.run(&["signal", "BUY", "ETHUSDT", "--notional-usd", "1500"]);
    assert_eq!(signal["accepted"], true, "{signal}");
    testkit::wait_until(BOUND, "the question", || async {
        swarm.run(&["approvals"])["approvals"].as_array().is_some_and(|waiting| waiting.len() == 1)
    })
    .await;
    let decided_at = Instant::now();
    assert_eq!(swarm.run(&["approve", "last"])["status"], "allowed");
    testkit::wait_until(BOUND, "the fill", || async {
        swarm.run(&["positions"])["positions"].as_array().is_some_and(|held| held.len() == 2)
    })
    .await;
    println!("figure: with Telegram away, filled {} ms after `swarm approve`", decided_at.elapsed().as_millis());
    telegram.outage(None);
    telegram.wait_for(OPERATOR, BOUND, "that it filled", |sent| sent.text.contains("ETHUSDT")).await;
}

fn the_token_is_in_one_process_and_in_no_log(swarm: &Swarm) {
    let processes = swarm.processes();
    let mut holders = Vec::new();
    for (name, pid) in &processes {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environ).contains("test_double_secret") {
            holders.push(name.clone());
        }
    }
    assert!(processes.len() >= 12, "{processes:?}");
    assert_eq!(holders, vec!["telegram_jarvis pid"], "of {processes:?}");
    let logs = std::fs::read_dir(swarm.folder.join("data/log")).unwrap();
    let files = logs.map(|entry| entry.unwrap().path()).chain([swarm.folder.join("up.log")]);
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("test_double_secret"), "{}", file.display());
    }
}
