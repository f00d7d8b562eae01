//! Processes that `mpirun`, `srun` or the like has started together: ranks.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;
use tallow::{Member, cores_for_each};
use tallow_comm::Group;

/// The variables in which launchers tell each process its rank, and how many there are: Open MPI, MPICH and others with
/// its launcher, MVAPICH, Slurm with PMIx.
const VARIABLES: [(&str, &str); 4] = [
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_NTASKS"),
];

/// How long a rank leaves it to the ones before it to print an error. Usually it is ended meanwhile, because all ranks
/// have the same error, or one that follows from it.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_PATIENCE: Duration = Duration::from_secs(30);

/// The place of this process among those started with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Launched {
    pub(crate) rank: usize,
    pub(crate) size: usize,
}

impl Launched {
    /// `None` if this process was started alone.
    pub(crate) fn from_environment() -> Option<Self> {
        // The command line's task is to read the environment.
        #[allow(clippy::disallowed_methods)]
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        VARIABLES
            .iter()
            .find_map(|(rank, size)| {
                Some(Self {
                    rank: number(rank)?,
                    size: number(size)?,
                })
            })
            .filter(|launched| launched.size > 1)
    }

    /// Before an error is printed: leaves it to other ranks to print theirs first.
    pub(crate) fn hold_back(self) {
        std::thread::sleep(MOST_PATIENCE.min(PATIENCE * u32::try_from(self.rank).unwrap_or(u32::MAX)));
    }
}

/// The group that trains together, and this process's place in it. A process that was started alone is a group of its
/// own.
pub(crate) fn group() -> Result<(Group, Member)> {
    let Some(launched) = Launched::from_environment() else {
        return Ok((Group::alone(), Member::default()));
    };
    let group = connect(launched)?;
    if group.size() != launched.size {
        bail!(
            "{} processes were started together, but the MPI library of this program finds {}: start them with the `mpirun` of \
             that library, or with `srun --mpi=pmix` or `--mpi=pmi2`",
            launched.size,
            group.size()
        );
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "unknown",
        name => name,
    };
    let program = std::env::current_exe().context("this program cannot be found again")?;
    // A program that was replaced while it runs is found under its open file only.
    let open = Path::new("/proc/self/exe");
    let program = if open.exists() { open } else { &program };
    let member = Member::new(host, std::process::id(), program)?;
    Ok((group, member))
}

/// Refuses to share work with processes that have another program, or would do another job. `job` describes all that
/// matters. Returns the cores for each process.
pub(crate) fn must_agree(group: &Group, member: &Member, job: &Map<String, Value>) -> Result<usize> {
    let own = (member.clone(), job.clone());
    let verdict: Result<usize, String> = group.decide(&own, |claims| {
        for (rank, (other, other_job)) in claims.iter().enumerate() {
            let differences = differences((member, job), (other, other_job));
            if !differences.is_empty() {
                return Err(format!(
                    "the processes cannot work together: rank {rank} ({}) differs from rank 0 ({}) in\n  {}",
                    other.place,
                    member.place,
                    differences.join("\n  ")
                ));
            }
        }
        let members: Vec<Member> = claims.into_iter().map(|(member, _)| member).collect();
        Ok(cores_for_each(&members))
    })?;
    verdict.map_err(anyhow::Error::msg)
}

/// What another process has otherwise than the root.
fn differences(root: (&Member, &Map<String, Value>), other: (&Member, &Map<String, Value>)) -> Vec<String> {
    let value = |job: &Map<String, Value>, key: &str| job.get(key).map_or("nothing".to_owned(), Value::to_string);
    let keys = root
        .1
        .keys()
        .chain(other.1.keys().filter(|key| !root.1.contains_key(*key)));
    let of_job = keys
        .filter(|key| root.1.get(*key) != other.1.get(*key))
        .map(|key| format!("{key}: {} instead of {}", value(other.1, key), value(root.1, key)));
    let is_other_build = other.0.program != root.0.program;
    let of_program = is_other_build.then(|| "another build of the program".to_owned());
    of_program.into_iter().chain(of_job).collect()
}

#[cfg(feature = "mpi")]
fn connect(_: Launched) -> Result<Group> {
    Ok(Group::of_mpi()?)
}

#[cfg(not(feature = "mpi"))]
fn connect(launched: Launched) -> Result<Group> {
    bail!(
        "{} processes were started together, but this program was built without MPI. Build it with\n  cargo build --release -p \
         tallow-cli --features mpi\nwhich needs an MPI library with `mpicc`, and libclang (Debian: libopenmpi-dev, libclang-dev)",
        launched.size
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_known() {
        let found = |variables: &[(&str, &str)]| {
            Launched::from_variables(|name| {
                let variable = variables.iter().find(|(known, _)| *known == name);
                variable.map(|(_, value)| value.to_string())
            })
            .map(|launched| (launched.rank, launched.size))
        };
        assert_eq!(found(&[]), None);
        let open_mpi = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "4")];
        assert_eq!(found(&open_mpi), Some((1, 4)));
        assert_eq!(found(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]), Some((0, 2)));
        assert_eq!(found(&[("PMIX_RANK", "3"), ("SLURM_NTASKS", "8")]), Some((3, 8)));
        // One process needs no group, and an allocation alone starts no processes.
        assert_eq!(
            found(&[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")]),
            None
        );
        assert_eq!(found(&[("SLURM_NTASKS", "8")]), None);
    }
}
