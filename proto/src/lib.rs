//! Generated wire types of the contract in `swarm/v1`. Nothing here checks anything: `bus::codec` is the only reader.

/// Package `swarm.v1`.
#[allow(missing_docs, clippy::all, reason = "generated code; the .proto files hold the words")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/swarm.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/swarm.v1.serde.rs"));
}

/// The compiled contract, as a `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
