//! What tests of a whole swarm begin with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

/// The program that is built beside the tests.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(Path::parent).unwrap().join("swarm");
    assert!(program.is_file(), "{} is not built: cargo build --workspace --bins", program.display());
    program
}

/// The shipped configuration in a folder within `folder`, without strategies: what trades came from the test.
///
/// # Panics
/// When it can't be copied, or has no strategy that trades.
#[must_use]
pub fn config_without_strategies(folder: &Path) -> PathBuf {
    let config = folder.join("config");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::create_dir_all(&config).unwrap();
    for file in std::fs::read_dir(root.join("config")).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, config.join(file.file_name().unwrap())).unwrap();
    }
    let strategies = config.join("strategies.toml");
    let text = std::fs::read_to_string(&strategies).unwrap();
    assert!(text.contains("enabled = true"), "{}", strategies.display());
    std::fs::write(&strategies, text.replace("enabled = true", "enabled = false")).unwrap();
    config
}
