//! The flags that lead out of an error. The texts of the library name no flags, because programs use it, too.

use tallow::Error;
use tallow::config::ASSIGNMENT;

/// A sentence that follows the text of an error and names the flags that help.
pub(crate) fn way_out(error: &anyhow::Error) -> Option<&'static str> {
    let found = error.chain().find_map(|cause| cause.downcast_ref::<Error>())?;
    match found.root() {
        Error::RunExists { .. } => Some(
            ". Continue it with --resume, replace it with --overwrite, or give this one another name with --set name=...",
        ),
        Error::NoCheckpoint { .. } => {
            Some(". Begin another run with this model by `init`, or replace it with --overwrite")
        }
        Error::DamagedCheckpoints { .. } => Some("\nBegin anew with --overwrite"),
        Error::ForeignConfig { .. } => Some(". Give this run another place with --set output=..."),
        Error::NoRun { .. } => Some("; leave out --resume to begin"),
        Error::OutputExists { .. } => Some(". Replace it with --overwrite, or give another --output"),
        Error::UnfinishedJob { .. } => Some(". Go on with --resume, or begin anew with --overwrite"),
        Error::OtherJob { .. } => Some("; begin anew with --overwrite"),
        Error::NoJob { .. } => Some(". To translate anew, use --overwrite"),
        Error::NoDevice(_) => Some(". Or use --device cpu"),
        Error::Offline { .. } => Some("; without --offline and HF_HUB_OFFLINE it would be fetched"),
        _ => None,
    }
}

/// The faults of a config, those of assignments with the flag that made them.
pub(crate) fn with_flags<T>(composed: tallow::Result<T>) -> tallow::Result<T> {
    let named = |fault: String| match fault.strip_prefix(ASSIGNMENT) {
        Some(rest) => format!("--set {rest}"),
        None => fault,
    };
    composed.map_err(|error| match error {
        Error::Config { name, faults } => Error::Config {
            name,
            faults: faults.into_iter().map(named).collect(),
        },
        Error::Usage(text) => Error::Usage(text.replace(&format!("\n  {ASSIGNMENT}"), "\n  --set ")),
        error => error,
    })
}
