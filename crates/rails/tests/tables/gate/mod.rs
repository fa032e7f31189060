//! Every rail at its limit, just under it and just over it.

mod approval;
mod latches;
mod market;
mod order;
mod sums;
