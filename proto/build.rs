//! Compiles the contract without `protoc`: `protox` parses, `tonic-prost-build` writes the types, `pbjson-build` their
//! proto3 JSON form (strict: it refuses fields it does not know).

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 3] = ["swarm/v1/agent_message.proto", "swarm/v1/trading.proto", "swarm/v1/facts.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=swarm");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();
    let bytes = descriptors.encode_to_vec();

    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .emit_rerun_if_changed(false)
        .btree_map(".")
        .out_dir(&out)
        .compile_fds(descriptors)?;
    pbjson_build::Builder::new().register_descriptors(&bytes)?.btree_map(["."]).out_dir(&out).build(&[".swarm.v1"])?;
    std::fs::write(out.join("descriptors.bin"), bytes)?;
    Ok(())
}
