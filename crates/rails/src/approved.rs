//! The type that only the gate can make.

/// Something the rails said yes to. The field is private, there is no public constructor and no `Deserialize`, so a
/// value of this type proves that [`crate::check::check`] returned it. Outside of this crate neither line compiles:
///
/// ```compile_fail,E0423
/// // The tuple constructor is private.
/// let forged = rails::approved::Approved(5_u8);
/// ```
///
/// ```compile_fail,E0624
/// // So is the function the gate uses.
/// let forged = rails::approved::Approved::new(5_u8);
/// ```
///
/// ```compile_fail,E0277
/// // And it can't be read from anywhere.
/// let forged: rails::approved::Approved<u8> = serde_json::from_str("5").unwrap();
/// ```
///
/// What may be done with one, which shows that the path above is right:
///
/// ```
/// fn read(approved: &rails::approved::Approved<u8>) -> u8 {
///     *approved.get()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved<T>(T);

impl<T> Approved<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// What was approved.
    pub const fn get(&self) -> &T {
        &self.0
    }

    /// What was approved, by value.
    pub fn into_inner(self) -> T {
        self.0
    }
}
