//! Wall clocks of agents that are wrong: a shim that the loader puts before the C library, built here from its source,
//! and a file for each agent that says by how much. The product knows nothing of it.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Trouble;

const SOURCE: &str = include_str!("skew.c");

/// Builds the shim in `folder`; `Err`: why this machine can't.
///
/// # Errors
/// In words, for the list of what is not struck.
pub fn build(folder: &Path) -> Result<PathBuf, String> {
    let (source, shim) = (folder.join("skew.c"), folder.join("libskew.so"));
    std::fs::write(&source, SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-fPIC", "-shared", "-o"]).arg(&shim).arg(&source);
    match compiler.output() {
        Ok(done) if done.status.success() => Ok(shim),
        Ok(done) => Err(format!("cc: {}", String::from_utf8_lossy(&done.stderr).trim())),
        Err(error) => Err(format!("no C compiler `cc`: {error}")),
    }
}

/// Makes an agent's clock right.
///
/// # Errors
/// [`Trouble::File`].
pub fn reset(file: &Path) -> Result<(), Trouble> {
    std::fs::write(file, 0_i64.to_ne_bytes()).map_err(|error| Trouble::file(file, error))
}

/// Sets it off by `ms`. The shim maps the file, so a running process has it at once; one write of eight bytes.
///
/// # Errors
/// [`Trouble::File`].
pub fn set(file: &Path, ms: i64) -> Result<(), Trouble> {
    let opened = std::fs::OpenOptions::new().write(true).open(file).map_err(|error| Trouble::file(file, error))?;
    opened.write_all_at(&ms.to_ne_bytes(), 0).map_err(|error| Trouble::file(file, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(shim: &Path, file: &Path) -> i64 {
        let told = Command::new("date").arg("+%s").env("LD_PRELOAD", shim).env("SKEW_FILE", file).output().unwrap();
        String::from_utf8(told.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_program_under_the_shim_has_the_time_it_is_told() {
        let folder = std::env::temp_dir().join(format!("chaos-skew-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (shim, file) = (build(&folder).unwrap(), folder.join("clock"));
        reset(&file).unwrap();
        let right = seconds(&shim, &file);
        for ms in [3_600_000, -3_600_000] {
            set(&file, ms).unwrap();
            let off = seconds(&shim, &file) - right - ms / 1_000;
            assert!((0..600).contains(&off), "{ms}: {off} s");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
