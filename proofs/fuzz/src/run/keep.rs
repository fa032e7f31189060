//! From what fuzzing found to what the repository keeps: the inputs that reach what seeds do not, the smallest first.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{TARGET_VARIABLE, write_all};
use crate::corpus;
use crate::targets::{TARGETS, Target};

/// Rewrites `corpus/<target>` of every target that was fuzzed.
pub(super) fn keep(work: &Path, most_bytes: usize) -> Result<i32, String> {
    let mut total = 0;
    for target in &TARGETS {
        let found = work.join(target.name).join("corpus");
        if !found.is_dir() {
            println!("{:14}not fuzzed in {}", target.name, work.display());
            continue;
        }
        let (files, bytes) = one(target, &work.join(target.name), most_bytes)?;
        println!("{:14}{files} files, {bytes} bytes", target.name);
        total += bytes;
    }
    println!("{total} bytes in all");
    Ok(0)
}

fn one(target: &Target, work: &Path, most_bytes: usize) -> Result<(usize, usize), String> {
    let told = |error: std::io::Error| format!("{}: {error}", work.display());
    let merged = work.join("merged");
    if merged.is_dir() {
        std::fs::remove_dir_all(&merged).map_err(told)?;
    }
    // Seeds are there first: only what reaches further joins them.
    write_all(&merged, &(target.seeds)())?;
    let kept = corpus::folder("corpus", target.name);
    let program = std::env::current_exe().map_err(told)?;
    let status = Command::new(program)
        .env(TARGET_VARIABLE, target.name)
        .args(["-merge=1".to_owned(), format!("-max_len={}", target.max_bytes)])
        .args([merged.as_path(), &work.join("corpus")])
        .args(Some(&kept).filter(|kept| kept.is_dir()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(told)?;
    if !status.success() {
        return Err(format!("{}: the merge failed ({status})", target.name));
    }
    let mut inputs = corpus::files(&merged).map_err(told)?;
    inputs.retain(|(path, _)| !path.contains("seed-"));
    inputs.sort_by_key(|(path, data)| (data.len(), path.clone()));
    if kept.is_dir() {
        std::fs::remove_dir_all(&kept).map_err(told)?;
    }
    std::fs::create_dir_all(&kept).map_err(told)?;
    let (mut files, mut bytes) = (0, 0);
    for (path, data) in inputs {
        if bytes + data.len() > most_bytes {
            break;
        }
        let name = Path::new(&path).file_name().ok_or("a file without a name")?;
        std::fs::write(kept.join(name), &data).map_err(told)?;
        files += 1;
        bytes += data.len();
    }
    Ok((files, bytes))
}
