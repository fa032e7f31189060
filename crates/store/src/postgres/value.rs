//! How domain values stand in columns. Amounts are `NUMERIC(38,18)`, times `timestamptz`, both without loss.

use domain::canonical::Sha256Digest;
use domain::market::{InstrumentId, Symbol, Venue};
use domain::money::{Price, Quantity, Usd};
use domain::time::UnixMs;
use rust_decimal::Decimal;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueFormat, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Row, Type};

use crate::StoreError;

/// Milliseconds from the Unix epoch to 2000-01-01, where Postgres counts from.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;
/// Type id of `timestamptz`, the same in every Postgres.
const TIMESTAMPTZ_OID: Oid = Oid(1184);
/// And of an array of them.
const TIMESTAMPTZ_ARRAY_OID: Oid = Oid(1185);

/// A `timestamptz`, which holds microseconds: milliseconds go in and out exactly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp(pub(crate) UnixMs);

impl Type<Postgres> for Stamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_OID)
    }

    fn compatible(kind: &PgTypeInfo) -> bool {
        kind.oid() == Some(TIMESTAMPTZ_OID)
    }
}

impl PgHasArrayType for Stamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY_OID)
    }
}

impl Encode<'_, Postgres> for Stamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.0.checked_sub(POSTGRES_EPOCH_MS).and_then(|ms| ms.checked_mul(1000));
        Encode::<Postgres>::encode_by_ref(&micros.ok_or("time out of range")?, buffer)
    }
}

impl Decode<'_, Postgres> for Stamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("times are read in binary form only".into());
        }
        let micros = <i64 as Decode<Postgres>>::decode(value)?;
        Ok(Self(UnixMs(micros.div_euclid(1000).saturating_add(POSTGRES_EPOCH_MS))))
    }
}

/// Reads typed values out of one row of one table, so that a fault names its place.
pub(crate) struct Reader<'a> {
    pub(crate) table: &'static str,
    pub(crate) row: &'a PgRow,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(table: &'static str, row: &'a PgRow) -> Self {
        Self { table, row }
    }

    pub(crate) const fn corrupt(&self, column: &'static str) -> StoreError {
        StoreError::Corrupt { table: self.table, column }
    }

    pub(crate) fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'a, Postgres> + Type<Postgres>,
    {
        Ok(self.row.try_get::<T, _>(column)?)
    }

    pub(crate) fn uuid(&self, column: &'static str) -> Result<uuid::Uuid, StoreError> {
        self.get(column)
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(crate) fn json(&self, column: &'static str) -> Result<serde_json::Value, StoreError> {
        self.get(column)
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<UnixMs, StoreError> {
        self.get::<Stamp>(column).map(|stamp| stamp.0)
    }

    pub(crate) fn maybe_time(&self, column: &'static str) -> Result<Option<UnixMs>, StoreError> {
        self.get::<Option<Stamp>>(column).map(|stamp| stamp.map(|s| s.0))
    }

    pub(crate) fn decimal(&self, column: &'static str) -> Result<Decimal, StoreError> {
        self.get::<Decimal>(column).map(|value| value.normalize())
    }

    pub(crate) fn usd(&self, column: &'static str) -> Result<Usd, StoreError> {
        Usd::new(self.decimal(column)?).map_err(|_| self.corrupt(column))
    }

    pub(crate) fn price(&self, column: &'static str) -> Result<Price, StoreError> {
        Price::new(self.decimal(column)?).map_err(|_| self.corrupt(column))
    }

    pub(crate) fn quantity(&self, column: &'static str) -> Result<Quantity, StoreError> {
        Quantity::new(self.decimal(column)?).map_err(|_| self.corrupt(column))
    }

    pub(crate) fn word<T>(&self, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(self.get::<&str>(column)?).ok_or_else(|| self.corrupt(column))
    }

    pub(crate) fn digest(&self, column: &'static str) -> Result<Sha256Digest, StoreError> {
        let bytes: [u8; 32] = self.get::<Vec<u8>>(column)?.try_into().map_err(|_| self.corrupt(column))?;
        Ok(Sha256Digest(bytes))
    }

    pub(crate) fn maybe_digest(&self, column: &'static str) -> Result<Option<Sha256Digest>, StoreError> {
        let found = self.get::<Option<Vec<u8>>>(column)?;
        found.map(|bytes| Ok(Sha256Digest(bytes.try_into().map_err(|_| self.corrupt(column))?))).transpose()
    }

    pub(crate) fn instrument(&self) -> Result<InstrumentId, StoreError> {
        Ok(InstrumentId { venue: self.word("venue", Venue::parse)?, symbol: self.word("symbol", Symbol::parse)? })
    }
}
