//! Claims that need more than one fault.

mod breaker;
mod deadline;
mod flight;
mod priority;
mod quota;

use std::future::Future;

use crate::Plan;

/// One claim.
#[derive(Debug, Clone)]
pub struct Line {
    /// What must hold.
    pub name: String,
    /// What was measured.
    pub figure: String,
    /// Whether it holds.
    pub good: bool,
}

impl Line {
    /// A claim with its figure.
    fn new(name: impl Into<String>, good: bool, figure: impl Into<String>) -> Self {
        Self { name: name.into(), figure: figure.into(), good }
    }
}

/// What a check gives: its claims, or what kept it from being made.
type Checked = Result<Vec<Line>, String>;

/// Makes every check; each claim is told as soon as it is there. A check that can't be made does not hold.
pub async fn all(plan: &Plan, mut tell: impl FnMut(&Line)) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut take = |name: &str, checked: Checked| {
        let found = checked.unwrap_or_else(|error| vec![Line::new(name, false, error)]);
        found.iter().for_each(&mut tell);
        lines.extend(found);
    };
    made(plan, "breaker", breaker::run(plan), &mut take).await;
    made(plan, "priority", priority::run(plan), &mut take).await;
    made(plan, "deadline", deadline::run(), &mut take).await;
    made(plan, "single-flight", flight::run(), &mut take).await;
    made(plan, "quota", quota::run(plan), &mut take).await;
    lines
}

async fn made(plan: &Plan, name: &str, check: impl Future<Output = Checked>, take: &mut impl FnMut(&str, Checked)) {
    if plan.wants(name) {
        take(name, check.await);
    }
}
