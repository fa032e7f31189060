//! How each prompt looks and should look. Only in memory: after a restart a prompt is drawn anew from the record.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

use crate::request::{Face, Menu};

/// A countdown is edited no more often.
pub const COUNTDOWN_EVERY: Duration = Duration::from_secs(15);
/// How long the fill of a permitted order is waited for before its prompt is final.
const FILL_WITHIN: Duration = Duration::from_secs(20);

/// Chat and message.
pub type Place = (i64, i64);

/// Why a prompt is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Something happened, or somebody waits for it.
    Now,
    /// Only its countdown moved, or it is not known how it looks: whenever there is nothing better to do.
    Whenever,
}

/// One prompt.
#[derive(Debug, Clone, Default)]
struct View {
    menu: Menu,
    note: Option<String>,
    shown: Option<Face>,
    tier: Option<u8>,
    drawn_at: Option<Instant>,
    /// A person waits for it to change.
    is_due: bool,
    permitted_at: Option<Instant>,
}

/// All prompts.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<Place, View>>);

impl Board {
    fn views(&self) -> MutexGuard<'_, BTreeMap<Place, View>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows other buttons.
    pub fn turn_to(&self, place: Place, menu: Menu) {
        let mut views = self.views();
        let view = views.entry(place).or_default();
        view.menu = menu;
        view.note = None;
        view.is_due = true;
    }

    /// Says something to the person under the prompt, and goes back to the first buttons.
    pub fn note(&self, place: Place, note: Option<String>) {
        let mut views = self.views();
        let view = views.entry(place).or_default();
        view.menu = Menu::First;
        view.note = note;
        view.is_due = true;
    }

    /// What the prompt shows besides the request.
    #[must_use]
    pub fn state(&self, place: Place) -> (Menu, Option<String>) {
        let views = self.views();
        views.get(&place).map_or((Menu::First, None), |view| (view.menu, view.note.clone()))
    }

    /// Whether, and how urgently, the prompt is to be drawn as `face`: something happened, somebody waits for it, or only its
    /// countdown moved and the last time was long enough ago. Unknown after a restart is drawn.
    #[must_use]
    pub fn due(&self, place: Place, face: &Face, now: Instant) -> Option<Due> {
        let views = self.views();
        let is_awaited = views.get(&place).is_some_and(|view| view.is_due);
        let Some(View { shown: Some(shown), drawn_at: Some(drawn_at), .. }) = views.get(&place) else {
            // What is over must lose its buttons at once.
            return Some(if is_awaited || face.buttons.is_empty() { Due::Now } else { Due::Whenever });
        };
        let is_old = now.duration_since(*drawn_at) >= COUNTDOWN_EVERY;
        let happened = shown.steady != face.steady || shown.buttons != face.buttons;
        match shown != face {
            true if is_awaited || happened => Some(Due::Now),
            true if is_old => Some(Due::Whenever),
            _ => None,
        }
    }

    /// The tier of the request, as it was drawn last.
    #[must_use]
    pub fn tier(&self, place: Place) -> Option<u8> {
        self.views().get(&place).and_then(|view| view.tier)
    }

    /// The prompt was drawn.
    pub fn drawn(&self, place: Place, tier: u8, face: Face, now: Instant) {
        let mut views = self.views();
        let view = views.entry(place).or_default();
        view.tier = Some(tier);
        view.shown = Some(face);
        view.drawn_at = Some(now);
        view.is_due = false;
    }

    /// Whether the fill of an order that was permitted is still worth waiting for.
    #[must_use]
    pub fn waits_for_fill(&self, place: Place, now: Instant) -> bool {
        let mut views = self.views();
        let since = *views.entry(place).or_default().permitted_at.get_or_insert(now);
        now.duration_since(since) < FILL_WITHIN
    }

    /// The prompt is final.
    pub fn forget(&self, place: Place) {
        self.views().remove(&place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::telegram_button::Press;

    fn face(text: &str, label: &str) -> Face {
        let steady = text.replace(|c: char| c.is_ascii_digit(), "");
        Face { text: text.to_owned(), steady, buttons: vec![vec![(label.to_owned(), Press::Approve)]] }
    }

    #[test]
    fn a_countdown_moves_every_fifteen_seconds_and_everything_else_at_once() {
        let (board, place, start) = (Board::default(), (1, 2), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(board.due(place, &face("15 min", "a"), start), Some(Due::Whenever), "unknown after a restart");
        board.drawn(place, 1, face("15 min", "a"), start);
        for (looks, seconds, due) in [
            (face("15 min", "a"), 99, None),
            (face("14 min", "a"), 14, None),
            (face("14 min", "a"), 15, Some(Due::Whenever)),
            (face("14 min", "b"), 1, Some(Due::Now)),
            (face("14 min, one said yes", "a"), 1, Some(Due::Now)),
        ] {
            assert_eq!(board.due(place, &looks, after(seconds)), due, "{looks:?} after {seconds} s");
        }
        board.turn_to(place, Menu::Modify);
        assert_eq!(board.due(place, &face("14 min", "a"), after(1)), Some(Due::Now), "a person waits");
        assert_eq!(board.state(place), (Menu::Modify, None));
        board.note(place, Some("too late".to_owned()));
        assert_eq!(board.state(place), (Menu::First, Some("too late".to_owned())));
    }

    #[test]
    fn after_a_restart_what_is_over_or_pressed_is_drawn_at_once() {
        let (board, place, start) = (Board::default(), (1, 2), Instant::now());
        let over = Face { buttons: Vec::new(), ..face("over", "a") };
        assert_eq!(board.due(place, &over, start), Some(Due::Now));
        board.turn_to(place, Menu::Modify);
        assert_eq!(board.due(place, &face("15 min", "a"), start), Some(Due::Now));
    }

    #[test]
    fn a_fill_is_waited_for_and_not_for_ever() {
        let (board, start) = (Board::default(), Instant::now());
        assert!(board.waits_for_fill((1, 2), start));
        assert!(board.waits_for_fill((1, 2), start + Duration::from_secs(19)));
        assert!(!board.waits_for_fill((1, 2), start + Duration::from_secs(20)));
    }
}
