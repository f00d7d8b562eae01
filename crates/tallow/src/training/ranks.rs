//! Training by several processes: they agree before they begin, and the root tells the others what to train.

use super::{NamedText, ReadyTraining, Training, validation_sets};
use crate::config::{Composed, Config};
use crate::error::{WithContext, bail};
use crate::hub::Hub;
use crate::preparation::{Pipes, Prepared, prepare};
use crate::run_record::{PairCounts, RunRecord};
use crate::{Error, Result, cores, initial};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tallow_comm::Group;
use tallow_data::{PairSource, ParallelText, ReadReport};
use tallow_model::InferenceCompute;
use tallow_ops::Compute;
use tallow_text::Tokenizers;
use tallow_train::{Fingerprint, ModelCard, RunDirectory, Silent, Trainer, TrainerParts};
use tempfile::TempDir;

/// What tells one process of a group from the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The host and process, in words.
    pub place: String,
    /// The host alone: processes with the same one share its cores.
    pub host: String,
    /// A hash of the program. Programs that differ may train differently.
    pub program: String,
    /// The cores that this process may use, as the system names them: processes with the same ones share them.
    pub allowed: String,
    /// Their number.
    pub cores: usize,
}

impl Member {
    /// A process of a program in a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn new(host: &str, process: u32, program: &Path) -> Result<Self> {
        let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        Ok(Self {
            place: format!("host {host}, process {process}"),
            host: host.to_owned(),
            program: Sha256::digest(&bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            allowed: allowed_cores(),
            cores: cores(),
        })
    }
}

/// The cores that this process may use, in the words of the system; empty if it does not tell.
fn allowed_cores() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default().trim().to_owned()
}

/// The cores for each of some processes, the same number for all. Processes of a host that may use the same cores share
/// them.
pub fn cores_for_each(members: &[Member]) -> usize {
    let mut sharing: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for member in members {
        *sharing.entry((&member.host, &member.allowed)).or_default() += 1;
    }
    let of = |member: &Member| member.cores / sharing[&(member.host.as_str(), member.allowed.as_str())];
    members.iter().map(of).min().unwrap_or(1).max(1)
}

/// What the processes must have in common.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    member: Member,
    version: String,
    instructions: String,
    config: Vec<(String, String)>,
}

/// What all processes have agreed on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Agreement {
    /// Cores for each process.
    pub(super) cores: usize,
}

/// Finds out whether all processes of a group have the same program, config and instruction set.
///
/// # Errors
/// When they differ: on every rank, with the same text.
pub(super) fn agree(group: &Group, member: &Member, composed: &Composed) -> Result<Agreement> {
    let own = Claim {
        member: member.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instructions: instructions(&composed.config),
        config: composed.config.flat()?,
    };
    if group.is_alone() {
        return Ok(Agreement { cores: cores() });
    }
    let verdict: Result<Agreement, String> = group.decide(&own, |claims| judge(&claims))?;
    verdict.map_err(Error::Other)
}

fn judge(claims: &[Claim]) -> Result<Agreement, String> {
    let Some((first, others)) = claims.split_first() else {
        return Err("there are no processes".to_owned());
    };
    for (rank, other) in others.iter().enumerate() {
        let differences = differences(first, other);
        if !differences.is_empty() {
            return Err(format!(
                "the processes cannot train together: rank {} ({}) differs from rank 0 ({}) in\n  {}",
                rank + 1,
                other.member.place,
                first.member.place,
                differences.join("\n  ")
            ));
        }
    }
    let members: Vec<Member> = claims.iter().map(|claim| claim.member.clone()).collect();
    Ok(Agreement {
        cores: cores_for_each(&members),
    })
}

/// The instructions with which this process would train and validate: those of vectors, and units for products.
fn instructions(config: &Config) -> String {
    let mut all = vec![tallow_ops::instruction_set()];
    all.extend(Compute::from(config.train.compute).unit_name());
    all.extend(InferenceCompute::from(config.decode.compute).unit_name());
    all.join(" + ")
}

fn differences(first: &Claim, other: &Claim) -> Vec<String> {
    let mut differences = Vec::new();
    if first.version != other.version {
        differences.push(format!(
            "the version of Tallow: {} instead of {}",
            other.version, first.version
        ));
    } else if first.member.program != other.member.program {
        differences.push("the program: another build of the same version".to_owned());
    }
    if first.instructions != other.instructions {
        differences.push(format!(
            "the instructions of the processor: {} instead of {}; choose, for all ranks, instructions that all of them have",
            other.instructions, first.instructions
        ));
    }
    let value = |claim: &Claim, key: &str| {
        let found = claim.config.iter().find(|(known, _)| known == key);
        found.map_or("(unset)".to_owned(), |(_, value)| value.clone())
    };
    let mut keys: Vec<&str> = first
        .config
        .iter()
        .chain(&other.config)
        .map(|(key, _)| key.as_str())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (now, expected) = (value(other, key), value(first, key));
        if now != expected {
            differences.push(format!("the config: {key}: {now} instead of {expected}"));
        }
    }
    differences
}

/// What the root tells the others about the run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Brief {
    /// The config as TOML, with everything that the run's checkpoint and model decide.
    pub(super) config: String,
    pub(super) fingerprint: Fingerprint,
    /// The files of the tokenizers.
    tokenizers: Vec<(String, Vec<u8>)>,
    valid: Vec<(Option<String>, Vec<String>, Vec<String>)>,
}

impl Brief {
    pub(super) fn new(
        config: &Config,
        fingerprint: &Fingerprint,
        tokenizers: &Tokenizers,
        valid: &[NamedText],
    ) -> Result<Self> {
        let folder = temporary(config)?;
        tokenizers.save(folder.path())?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder.path())? {
            let entry = entry?;
            files.push((
                entry.file_name().to_string_lossy().into_owned(),
                std::fs::read(entry.path())?,
            ));
        }
        Ok(Self {
            config: config.to_toml()?,
            fingerprint: fingerprint.clone(),
            tokenizers: files,
            valid: valid
                .iter()
                .map(|(name, text)| (name.clone(), text.source.clone(), text.target.clone()))
                .collect(),
        })
    }

    pub(super) fn send(&self, group: &Group) -> Result<()> {
        let message = serde_json::to_vec(self)?;
        group.broadcast(|| message)?;
        Ok(())
    }

    pub(super) fn receive(group: &Group) -> Result<Self> {
        Ok(serde_json::from_slice(&group.broadcast(Vec::new)?)?)
    }

    pub(super) fn tokenizers(&self, config: &Config) -> Result<Tokenizers> {
        let folder = temporary(config)?;
        for (name, bytes) in &self.tokenizers {
            std::fs::write(folder.path().join(name), bytes)?;
        }
        Ok(Tokenizers::open(folder.path())?)
    }

    pub(super) fn valid(&mut self) -> Vec<NamedText> {
        let text = |(name, source, target)| {
            let text = ParallelText {
                source,
                target,
                weight: 1.0,
                alignments: None,
                report: ReadReport::default(),
                files: Vec::new(),
            };
            (name, text)
        };
        std::mem::take(&mut self.valid).into_iter().map(text).collect()
    }
}

/// A temporary folder beside the prepared text.
fn temporary(config: &Config) -> Result<TempDir> {
    let place = config.prepared_folder();
    std::fs::create_dir_all(&place)
        .and_then(|()| tempfile::tempdir_in(&place))
        .with_context(|| format!("cannot make a folder in {}", place.display()))
}

/// Lets all ranks know whether all have the same training text, which each has prepared or found prepared.
///
/// # Errors
/// When they differ: on every rank, with the same text.
pub(super) fn agree_on_text(group: &Group, member: &Member, hashes: &[String], pairs: usize) -> Result<()> {
    let own = (member.clone(), hashes.to_vec(), pairs);
    let verdict: Option<String> = group.decide(&own, |claims| {
        let others = claims.into_iter().enumerate();
        others
            .filter(|(_, (_, other_hashes, other_pairs))| other_hashes != hashes || *other_pairs != pairs)
            .map(|(rank, (other, other_hashes, other_pairs))| {
                let what = match other_hashes == hashes {
                    true => format!("{other_pairs} pairs of the training text instead of {pairs}"),
                    false => "another training text".to_owned(),
                };
                format!(
                    "the processes cannot train together: rank {rank} ({}) has {what}; give all of them the same files",
                    other.place
                )
            })
            .next()
    })?;
    match verdict {
        Some(difference) => bail!("{difference}"),
        None => Ok(()),
    }
}

impl Training {
    /// Takes part in the run that the root has prepared.
    pub(super) fn join(self, group: Group, begin: Instant) -> Result<ReadyTraining> {
        let mut brief = Brief::receive(&group)?;
        let config: Config = toml::from_str(&brief.config)?;
        let tokenizers = brief.tokenizers(&config)?;
        let prepared = prepare(&config, Some(tokenizers), &Hub::none(), Pipes::Kept, &Silent)?;
        let Prepared { tokenizers, corpora } = prepared;
        let hashes: Vec<String> = corpora.files().map(|file| file.sha256.clone()).collect();
        agree_on_text(&group, &self.member, &hashes, corpora.pair_count())?;
        let valid = validation_sets(brief.valid(), &config, &tokenizers)?;
        let architecture = initial::architecture(&config, &tokenizers)?;
        // The root's weights will replace these.
        let (params, logits_bias) = initial::weights(&config, None, &architecture, &self.device)?;
        let run = RunDirectory::new(config.run_directory());
        let workers = brief.fingerprint.workers / group.size();
        let record = RunRecord::new(&brief.fingerprint, &[], PairCounts::default(), None);
        let trainer = Trainer::join(TrainerParts {
            card: ModelCard::default(),
            architecture,
            params,
            logits_bias,
            tokenizers,
            corpus: Arc::new(corpora),
            valid,
            train: config.train.clone(),
            data: config.data.clone(),
            decode: config.decode.clone(),
            fingerprint: brief.fingerprint,
            run: run.clone(),
            device: self.device.clone(),
            group,
        })?;
        Ok(ReadyTraining {
            trainer,
            config,
            run,
            device: self.device,
            workers,
            record,
            test: Vec::new(),
            begin,
            is_root: false,
            _lock: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(host: &str, allowed: &str, cores: usize) -> Claim {
        Claim {
            member: Member {
                place: format!("host {host}, process 1"),
                host: host.to_owned(),
                program: "a".to_owned(),
                allowed: allowed.to_owned(),
                cores,
            },
            version: "1".to_owned(),
            instructions: "AVX2".to_owned(),
            config: vec![("seed".to_owned(), "1".to_owned())],
        }
    }

    #[test]
    fn differences_are_named() {
        assert!(judge(&[claim("a", "0-1", 2), claim("b", "0-1", 2)]).is_ok());
        let mut other = claim("b", "0-1", 2);
        other.member.program = "b".to_owned();
        other.instructions = "AVX-512".to_owned();
        other.config = vec![("seed".to_owned(), "2".to_owned()), ("name".to_owned(), "x".to_owned())];
        let said = judge(&[claim("a", "0-1", 2), claim("a", "0-1", 2), other]).unwrap_err();
        for part in [
            "rank 2 (host b, process 1) differs from rank 0 (host a, process 1)",
            "another build",
            "AVX-512 instead of AVX2",
            "seed: 2 instead of 1",
            "name: x instead of (unset)",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn processes_share_the_cores_that_they_may_use() {
        let cores = |claims: &[Claim]| judge(claims).unwrap().cores;
        assert_eq!(cores(&[claim("a", "0-7", 8), claim("b", "0-7", 8)]), 8);
        assert_eq!(cores(&[claim("a", "0-7", 8), claim("a", "0-7", 8)]), 4);
        // Bound to half of the cores each, and to one.
        assert_eq!(cores(&[claim("a", "0-3", 4), claim("a", "4-7", 4)]), 4);
        assert_eq!(cores(&[claim("a", "0", 1), claim("b", "0-7", 8)]), 1);
        // More processes than cores.
        assert_eq!(cores(&[claim("a", "0", 1), claim("a", "0", 1)]), 1);
    }
}
