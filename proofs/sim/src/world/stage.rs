//! What happens in a world so that a deliberate fault matters there.

use super::*;

impl World {
    pub(super) fn stage(&mut self, need: Option<Need>) {
        let Some(need) = need else { return };
        let begins = self.hub.between(3_000, 40_000);
        let buy = |token, usd| Event::Person(Deed::Buy("operator", token, usd));
        match need {
            Need::LargeBuys => {
                for n in 0..4 {
                    self.at(begins + n * 40_000, buy("BTCUSDT", 4_500));
                    (1..8).for_each(|vote| self.at(begins + n * 40_000 + vote * 4_000, Event::Person(Deed::Vote)));
                }
            }
            Need::FallingMarket => {
                self.market.drift_bps = -30;
                for (token, usd) in [("BTCUSDT", 900), ("ETHUSDT", 450)] {
                    self.at(begins, Event::Person(Deed::Buy("bob", token, usd)));
                }
                (1..8).for_each(|n| self.at(begins + n * 45_000, Event::Person(Deed::Buy("bob", "ETHUSDT", 10))));
            }
            Need::Burst => self.at(begins, Event::Person(Deed::Burst("operator", 40))),
            Need::SilentFeed => {
                self.at(begins, Event::Break(Breakage::Feed));
                self.at(begins + 200_000, Event::Mend(Breakage::Feed));
                (0..8).for_each(|n| self.at(begins + 30_000 + n * 20_000, buy("BTCUSDT", 100)));
            }
            Need::WrongClock => {
                let breakage = Breakage::Clock(TREASURY, self.hub.pick(&[-3_000, 3_000, 7_000]));
                self.at(begins, Event::Break(breakage));
                self.at(begins + 60_000, Event::Mend(breakage));
                (1..6).for_each(|n| self.at(begins + n * 9_000, buy("ETHUSDT", 100)));
            }
            Need::SmallSteps => (0..4).for_each(|n| self.at(begins + n * 15_000, buy("BTCUSDT", 700))),
            Need::Ideas => (0..10).for_each(|n| self.at(begins + n * 9_000, Event::Person(Deed::Idea))),
            Need::Halt => {
                self.at(begins, Event::Person(Deed::Halt));
                (1..6).for_each(|n| self.at(begins + n * 3_000, buy("ETHUSDT", 100)));
            }
        }
    }
}
