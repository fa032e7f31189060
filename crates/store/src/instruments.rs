//! The venues' rules for their instruments.

use domain::market::{Instrument, InstrumentId};

use crate::fits::exact;
use crate::{StoreError, Unit};

/// Writes the rules of one instrument, replacing what was known.
///
/// # Errors
/// [`StoreError`].
pub async fn upsert(unit: &mut Unit, instrument: &Instrument) -> Result<(), StoreError> {
    let rules = instrument;
    [rules.tick, rules.step, rules.min_quantity, rules.max_quantity, rules.min_notional]
        .into_iter()
        .try_for_each(exact)?;
    unit.records().upsert_instrument(instrument).await
}

/// The rules of one instrument.
///
/// # Errors
/// [`StoreError`].
pub async fn get(unit: &mut Unit, id: &InstrumentId) -> Result<Option<Instrument>, StoreError> {
    unit.records().instrument(id).await
}

/// All instruments, by venue and symbol.
///
/// # Errors
/// [`StoreError`].
pub async fn all(unit: &mut Unit) -> Result<Vec<Instrument>, StoreError> {
    unit.records().instruments().await
}
