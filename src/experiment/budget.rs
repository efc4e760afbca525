//! Dollars a day, by UTC days, of work that no caller asked for: shadows and the judge have each its own. What is under
//! way when the budget ends is still paid, so a day may cost more by as many answers as run at once.

use super::event::now_ms;
use crate::money::Money;
use parking_lot::Mutex;

const DAY_MS: u64 = 86_400_000;

/// What may be spent a day, and what was.
pub struct Budget {
    most: Money,
    /// The day, counted from the Unix epoch, and what it cost so far. Held to read or add two numbers.
    spent: Mutex<(u64, Money)>,
}

impl Budget {
    /// Nothing is spent yet.
    pub fn new(most: Money) -> Self {
        Budget { most, spent: Mutex::new((0, Money::ZERO)) }
    }

    /// Whether there is something left now.
    pub fn is_left(&self) -> bool {
        self.left_at(now_ms())
    }

    fn left_at(&self, at_ms: u64) -> bool {
        let (day, spent) = *self.spent.lock();
        spent < self.most || day != at_ms / DAY_MS
    }

    /// Adds what an answer cost that came at such a time. Of an unknown price, all that is left of the day is taken: it
    /// is not zero, and a bound cannot be kept by guessing. Returns whether that was so.
    pub fn spend(&self, at_ms: u64, cost: Option<Money>) -> bool {
        let today = at_ms / DAY_MS;
        let mut spent = self.spent.lock();
        if today > spent.0 {
            *spent = (today, Money::ZERO);
        }
        if today == spent.0 {
            spent.1 += cost.unwrap_or(self.most);
        }
        cost.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_budget_and_the_next_one_its_own() {
        let budget = Budget::new(Money::from_dollars(1.0));
        let noon = 20_000 * DAY_MS + DAY_MS / 2;
        budget.spend(noon, Some(Money::from_dollars(0.6)));
        assert!(budget.left_at(noon));
        budget.spend(noon - DAY_MS, Some(Money::from_dollars(5.0)));
        assert!(budget.left_at(noon), "yesterday's is yesterday's");
        budget.spend(noon, Some(Money::from_dollars(0.5)));
        assert!(!budget.left_at(noon) && budget.left_at(noon + DAY_MS));
        assert!(budget.spend(noon + DAY_MS, None));
        assert!(!budget.left_at(noon + DAY_MS), "an unknown price is not zero");
        assert!(!Budget::new(Money::ZERO).left_at(0));
    }
}
