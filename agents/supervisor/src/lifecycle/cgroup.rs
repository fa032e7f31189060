//! Limits that the kernel keeps (cgroup v2, Documentation/admin-guide/cgroup-v2.rst), where this process may write there. Elsewhere
//! memory is looked at every second, and nothing bounds the time on a core.

use std::io;
use std::path::{Path, PathBuf};

use super::settings::Profile;

/// Length of a period of `cpu.max`, us.
const PERIOD_US: u64 = 100_000;

/// A folder of cgroup v2 below which each process gets one of its own.
#[derive(Debug, Clone)]
pub struct Cgroups {
    root: PathBuf,
}

impl Cgroups {
    /// Finds our own cgroup and readies it; `Err` says in words why the kernel keeps no limits here.
    ///
    /// # Errors
    /// Why not.
    pub fn find() -> Result<Self, String> {
        Self::at(&own_folder()?)
    }

    /// Readies a folder: controllers on, and the processes in it moved down, because only leaves may hold any.
    ///
    /// # Errors
    /// Why not.
    pub fn at(own: &Path) -> Result<Self, String> {
        let fault = |what: &str, error: io::Error| format!("{}: {error}", own.join(what).display());
        let controllers = std::fs::read_to_string(own.join("cgroup.controllers"))
            .map_err(|error| fault("cgroup.controllers", error))?;
        for needed in ["memory", "cpu"] {
            if !controllers.split_whitespace().any(|name| name == needed) {
                return Err(format!("{} has no controller {needed}", own.display()));
            }
        }
        let leaf = own.join("supervisor");
        make(&leaf).map_err(|error| fault("supervisor", error))?;
        let members =
            std::fs::read_to_string(own.join("cgroup.procs")).map_err(|error| fault("cgroup.procs", error))?;
        for pid in members.lines() {
            write(&leaf, "cgroup.procs", pid).map_err(|error| fault("supervisor/cgroup.procs", error))?;
        }
        write(own, "cgroup.subtree_control", "+memory +cpu").map_err(|error| fault("cgroup.subtree_control", error))?;
        Ok(Self { root: own.to_owned() })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Puts a process under its limits.
    ///
    /// # Errors
    /// What the file system says.
    pub fn confine(&self, name: &str, pid: u32, profile: &Profile) -> io::Result<()> {
        let folder = self.folder(name);
        make(&folder)?;
        write(&folder, "memory.high", &profile.memory_bytes.to_string())?;
        write(&folder, "memory.max", &profile.memory_limit_bytes().to_string())?;
        write(&folder, "cpu.max", &format!("{} {PERIOD_US}", profile.cpu_percent.saturating_mul(PERIOD_US) / 100))?;
        write(&folder, "cgroup.procs", &pid.to_string())
    }

    /// How often the kernel ended a process of this name because it was above its limit.
    #[must_use]
    pub fn kills(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.folder(name).join("memory.events")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

/// The folder of our own cgroup v2.
///
/// # Errors
/// Why there is none.
pub fn own_folder() -> Result<PathBuf, String> {
    let text = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mount = mount_point(&text("/proc/self/mounts")?).ok_or("no cgroup v2 is mounted")?;
    let groups = text("/proc/self/cgroup")?;
    let own = own_path(&groups).ok_or("this process is in no cgroup v2")?;
    Ok(mount.join(own.trim_start_matches('/')))
}

fn make(folder: &Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write(folder: &Path, file: &str, text: &str) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).open(folder.join(file)).and_then(|mut file| {
        use std::io::Write;
        file.write_all(text.as_bytes())
    })
}

/// Where cgroup v2 is mounted, of /proc/self/mounts.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    })
}

/// Our cgroup v2, of /proc/self/cgroup: the line of hierarchy 0.
fn own_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: Profile =
        Profile { name: "thin", memory_bytes: 100, cpu_percent: 50, prompt_tokens: 1, answer_tokens: 1, recall: 0 };

    /// A folder with the files that the kernel makes in one.
    fn kernel_made(folder: &Path, controllers: &str) {
        std::fs::create_dir_all(folder).unwrap();
        for (file, text) in
            [("cgroup.controllers", controllers), ("cgroup.procs", "7\n8\n"), ("cgroup.subtree_control", "")]
        {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }

    fn leaf_made(folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for file in ["cgroup.procs", "memory.high", "memory.max", "cpu.max"] {
            std::fs::write(folder.join(file), "").unwrap();
        }
    }

    #[test]
    fn a_process_gets_its_limits_before_it_is_put_under_them() {
        let own = tempfile::tempdir().unwrap();
        kernel_made(own.path(), "cpuset cpu io memory pids\n");
        leaf_made(&own.path().join("supervisor"));
        leaf_made(&own.path().join("treasury"));
        let cgroups = Cgroups::at(own.path()).unwrap();
        let text = |file: &str| std::fs::read_to_string(own.path().join(file)).unwrap();
        assert_eq!(text("cgroup.subtree_control"), "+memory +cpu");
        cgroups.confine("treasury", 42, &PROFILE).unwrap();
        let files = ["memory.high", "memory.max", "cpu.max", "cgroup.procs"];
        assert_eq!(files.map(|file| text(&format!("treasury/{file}"))), ["100", "150", "50000 100000", "42"]);
        assert_eq!(cgroups.kills("treasury"), 0);
        std::fs::write(own.path().join("treasury/memory.events"), "high 3\noom 1\noom_kill 2\n").unwrap();
        assert_eq!(cgroups.kills("treasury"), 2);
        assert!(cgroups.confine("monitor", 43, &PROFILE).is_err(), "the kernel did not make its files");
    }

    #[test]
    fn without_the_controllers_it_says_so() {
        let own = tempfile::tempdir().unwrap();
        kernel_made(own.path(), "cpu pids\n");
        assert!(Cgroups::at(own.path()).unwrap_err().ends_with("has no controller memory"));
        assert!(Cgroups::at(&own.path().join("nowhere")).unwrap_err().contains("cgroup.controllers"));
    }

    #[test]
    fn our_place_is_read_from_proc() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_point(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(own_path("9:cpu:/a\n0::/user.slice/swarm\n"), Some("/user.slice/swarm"));
        assert_eq!((mount_point(""), own_path("9:cpu:/a")), (None, None));
    }
}
