//! The connection to the Hugging Face Hub according to the environment.

use std::io::{IsTerminal, stderr};
use tallow::Hub;

/// The connection of this process; without the network if `offline`.
#[allow(clippy::disallowed_methods)] // The command line may read the environment; FORMAT.md lists the variables.
pub(crate) fn hub(offline: bool) -> Hub {
    let home = std::env::home_dir().unwrap_or_default();
    Hub::from_variables(|name| std::env::var(name).ok(), &home)
        .offline_if(offline)
        .with_progress(stderr().is_terminal())
}
