//! What a process may touch of its machine. It gives up everything else at the start of its life, before any message can
//! talk it into something, and the kernel refuses it from then on (Landlock): file modes refuse nothing to processes that
//! all run as one user.
//!
//! What is not here stays open: TCP, reading what system libraries need, changing modes and times of files. Children
//! inherit what their parent may do and can only give up more, so the supervisor keeps what the processes need that it
//! starts. Only a process of its own is restricted ([`crate::main`]); agents that tests run inside theirs are not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, make_bitflags, path_beneath_rules,
};

/// The newest rights of the kernel that the rules below were tried with. An older kernel enforces what it knows.
const TRIED: ABI = ABI::V6;

/// What libraries read: shared objects, resolver, certificates, time zones, and what a kernel says of itself.
const SYSTEM: [&str; 15] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc",
    "/run/systemd/resolve",
    "/proc/self",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/stat",
    "/proc/cpuinfo",
    "/proc/sys",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/dev/urandom",
    "/dev/null",
];

/// What a program is loaded by, and a script.
const LOADERS: [&str; 4] = ["/usr", "/bin", "/lib", "/lib64"];

/// What a process may do on its machine; everything else is refused. Paths that are not there when it is entered stay
/// refused when they come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    read: BTreeSet<PathBuf>,
    execute: BTreeSet<PathBuf>,
    write: BTreeSet<PathBuf>,
    signals_anybody: bool,
}

impl Reach {
    /// What every process needs: it reads the system, its configuration, the data folder (the kill level lies there), its
    /// own program and the files that its environment names, which are its own keys; it writes in the run folder and
    /// beside its log. It starts nothing, and signals nobody it did not start.
    #[must_use]
    pub fn usual(vars: &BTreeMap<String, String>) -> Self {
        let folder = |name: &str| vars.get(name).map(PathBuf::from);
        let mut reach = Self::default();
        reach.read.extend(SYSTEM.iter().map(PathBuf::from));
        reach.read.extend(std::env::current_exe().ok());
        reach.read.extend(["SWARM_CONFIG_DIR", "SWARM_DATA_DIR", "SSL_CERT_DIR"].into_iter().filter_map(folder));
        reach.read.extend(vars.values().map(PathBuf::from).filter(|path| path.is_absolute() && path.is_file()));
        reach.write.extend(folder("SWARM_RUN_DIR"));
        reach.write.extend(log_folder());
        reach
    }

    /// And writes in a folder of its own within the data folder, which is made when it is not there.
    #[must_use]
    pub fn keeping(mut self, vars: &BTreeMap<String, String>, name: &str) -> Self {
        self.write.extend(vars.get("SWARM_DATA_DIR").map(|folder| Path::new(folder).join(name)));
        self
    }

    /// And reads these, as they are when it begins.
    #[must_use]
    pub fn reading(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.read.extend(files);
        self
    }

    /// And starts a process: so it may do whatever that one may with its environment `vars` before it restricts itself. What
    /// another program than this one would read and start before that, nobody knows: then it is all of the machine, to be
    /// read and not to be changed.
    #[must_use]
    pub fn starting(mut self, program: &Path, vars: &BTreeMap<String, String>, log: &Path) -> Self {
        let started = Self::usual(vars);
        self.read.extend(started.read);
        self.read.insert(PathBuf::from("/proc"));
        self.write.extend(started.write);
        self.write.extend(log.parent().map(Path::to_owned));
        self.execute.extend(LOADERS.iter().map(PathBuf::from));
        let own = std::env::current_exe().and_then(std::fs::canonicalize).ok();
        match std::fs::canonicalize(program) {
            Ok(program) if Some(&program) == own.as_ref() => self.execute.insert(program),
            _ => self.execute.insert(PathBuf::from("/")),
        };
        self
    }

    /// And writes below these folders.
    #[must_use]
    pub fn writing(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        self.write.extend(folders);
        self
    }

    /// And signals any process of its user: one that an earlier process started is in no sandbox of this one.
    #[must_use]
    pub const fn signalling_anybody(mut self) -> Self {
        self.signals_anybody = true;
        self
    }

    fn restrict(&self) -> Result<RestrictionStatus, RulesetError> {
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let write = read | make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | MakeDir | RemoveFile});
        let ruleset = Ruleset::default().handle_access(AccessFs::from_all(TRIED))?;
        let scopes = if self.signals_anybody { Scope::AbstractUnixSocket.into() } else { Scope::from_all(TRIED) };
        let beneath = |paths: &BTreeSet<PathBuf>, access: BitFlags<AccessFs>| {
            path_beneath_rules(paths.iter().cloned().collect::<Vec<_>>(), access)
        };
        ruleset
            .scope(scopes)?
            .create()?
            .add_rules(beneath(&self.read, read))?
            .add_rules(beneath(&self.execute, read | AccessFs::Execute))?
            .add_rules(beneath(&self.write, write))?
            // Where output goes that nobody wants.
            .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))?
            .restrict_self()
    }
}

/// Where the log lies that a process was given as its stderr; it is set aside there when it is full.
fn log_folder() -> Option<PathBuf> {
    let log = std::fs::read_link("/proc/self/fd/2").ok().filter(|path| path.is_file())?;
    log.parent().map(Path::to_owned)
}

/// Gives up everything that is not within `reach`, for the calling thread and all that it starts from now on: call it
/// before there are other threads. Says what this machine does not enforce of it; nothing when it enforces all.
#[must_use]
pub fn enter(reach: &Reach) -> Vec<String> {
    for folder in reach.write.iter().filter(|folder| !folder.exists()) {
        if let Err(error) = std::fs::create_dir_all(folder) {
            tracing::warn!(folder = %folder.display(), %error, "a folder of this process can't be made");
        }
    }
    match reach.restrict() {
        Ok(status) => not_enforced(match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => effective_abi,
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => ABI::Unsupported,
        }),
        Err(error) => vec![format!("the sandbox: {error}; this process may touch what its user may")],
    }
}

/// Threads that run in this process.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// What a kernel with the rights of `abi` does not refuse.
fn not_enforced(abi: ABI) -> Vec<String> {
    let needs = |newer: ABI, kernel: &str, what: &str| {
        (abi < newer).then(|| format!("the sandbox: {what} (needs Linux {kernel} with Landlock)"))
    };
    let nothing = needs(ABI::V1, "5.13", "nothing is refused: this process may touch what its user may");
    if nothing.is_some() {
        return nothing.into_iter().collect();
    }
    let less = [
        needs(ABI::V3, "6.2", "emptying a file is not refused"),
        needs(ABI::V5, "6.10", "commands to devices are not refused"),
        needs(ABI::V6, "6.12", "signals to other processes are not refused"),
    ];
    less.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_is_told_by_what_it_does_not_refuse() {
        assert_eq!(not_enforced(ABI::V6), Vec::<String>::new());
        assert_eq!(not_enforced(ABI::V9), Vec::<String>::new());
        for (abi, words) in [
            (ABI::Unsupported, &["nothing is refused"][..]),
            (ABI::V2, &["emptying", "commands to devices", "signals"]),
            (ABI::V4, &["commands to devices", "signals"]),
            (ABI::V5, &["signals"]),
        ] {
            let told = not_enforced(abi);
            assert_eq!(told.len(), words.len(), "{told:?}");
            assert!(told.iter().zip(words).all(|(told, word)| told.contains(word)), "{told:?}");
        }
    }

    #[test]
    fn a_process_reads_the_files_its_environment_names_and_not_their_folder() {
        let folder = std::env::temp_dir().join(format!("swarm-reach-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (own, other) = (folder.join("a.nk"), folder.join("b.nk"));
        for file in [&own, &other] {
            std::fs::write(file, "seed").unwrap();
        }
        let text = |path: &Path| path.display().to_string();
        let vars = BTreeMap::from([
            ("SWARM_NKEY_FILE".to_owned(), text(&own)),
            ("HOME".to_owned(), text(&folder)),
            ("SWARM_DATA_DIR".to_owned(), "/data".to_owned()),
            ("SWARM_RUN_DIR".to_owned(), "/run-of-swarm".to_owned()),
        ]);
        let reach = Reach::usual(&vars).keeping(&vars, "paper");
        assert!(reach.read.contains(&own) && !reach.read.contains(&other) && !reach.read.contains(&folder));
        assert!(reach.read.contains(Path::new("/data")) && !reach.write.contains(Path::new("/data")));
        assert!(reach.write.contains(Path::new("/data/paper")) && reach.write.contains(Path::new("/run-of-swarm")));
        assert!(reach.execute.is_empty() && !reach.signals_anybody);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn who_starts_others_may_run_this_program_and_all_only_for_a_wrapper() {
        let vars = BTreeMap::new();
        let own = std::env::current_exe().unwrap();
        let log = Path::new("/logs/a.log");
        let plain = Reach::usual(&vars).starting(&own, &vars, log);
        assert!(plain.execute.contains(&own.canonicalize().unwrap()) && !plain.execute.contains(Path::new("/")));
        assert!(plain.write.contains(Path::new("/logs")));
        let wrapped = Reach::usual(&vars).starting(Path::new("/bin/sh"), &vars, log);
        assert!(wrapped.execute.contains(Path::new("/")) && !wrapped.write.contains(Path::new("/")));
    }
}
