//! What may happen next in a world.

use venues::exchange::OrderRequest;

use crate::hub::TaskId;
use crate::people::Deed;

/// One thing that happens at its time. Processes are named by their place in [`crate::cast::NAMES`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A suspended piece of work goes on.
    Resume(TaskId),
    /// A process looks at its consumers.
    Pull(usize),
    /// A process hears what was said to everybody.
    Hear(usize),
    /// A process publishes what its outbox holds.
    Relay(usize),
    /// A timer of a process ticks.
    Timer(usize, &'static str, u64),
    /// Treasury looks at what is due.
    Sweep,
    /// The desk takes up its open orders.
    Turn,
    /// The market moves.
    Market,
    /// A candle closes.
    Candle,
    /// A person does something.
    Person(Deed),
    /// A process that died is there again.
    Start(usize),
    /// An order that was given up for lost arrives at the venue after all.
    LateOrder(OrderRequest),
    /// Something breaks.
    Break(Breakage),
    /// It is mended.
    Mend(Breakage),
}

/// What breaks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// The database does not answer.
    Store,
    /// The venue does not answer.
    Venue,
    /// The broker takes nothing.
    Broker,
    /// The streams of commands are full.
    FullStreams,
    /// The file copy of the kill level can't be read.
    KillFile,
    /// The clock of a process is off by so many ms.
    Clock(usize, i64),
    /// A process is killed.
    Kill(usize),
    /// The market feed falls silent.
    Feed,
}
