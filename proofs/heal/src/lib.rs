//! Does to fifty processes at once what breaks a process, under the real supervisor and under a runner that only starts again
//! what ended, and says when each noticed, when the work went on, and what each called healthy meanwhile.
//!
//! Architecture invariant: the processes run the product's own loop (`runtime::main`); what is proved is looked at from outside,
//! by what a person would ask (`swarm.agents`) and by the turns that the processes themselves note.

pub mod child;
pub mod fault;
pub mod plain;
pub mod report;
pub mod rounds;
pub mod stage;

/// A path, file or server that did not do what it must.
pub type Trouble = String;
