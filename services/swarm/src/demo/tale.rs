//! What the demo says while it plays.

use crate::stage::Story;

/// The teller; silent when only the result is wanted.
pub(super) struct Tale {
    loud: bool,
}

impl Tale {
    pub(super) const fn new(loud: bool) -> Self {
        Self { loud }
    }

    /// One line.
    pub(super) fn line(&self, text: &str) {
        if self.loud {
            println!("{text}");
        }
    }

    /// The headline of a scene.
    pub(super) fn scene(&self, number: usize, claim: &str) {
        self.line(&format!("\n{number}. {claim}"));
    }

    /// Something that happened.
    pub(super) fn told(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// The audit chain of one signal, a line each row.
    pub(super) fn chain(&self, story: &Story) {
        self.line(&format!("   audit chain of order {}:", story.order_id()));
        for event in &story.events {
            self.line(&format!("     {event}"));
        }
    }
}
