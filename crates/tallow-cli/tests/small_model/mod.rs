//! A small model with its tokenizer, for tests of translation.

use std::path::Path;

/// Writes the model to the folder `model`.
pub(crate) fn model(at: &Path) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let tokenizer = tests.join("../../tallow-text/tests/fixtures/marian/languages");
    std::fs::create_dir(at.join("model")).unwrap();
    for (folder, names) in [
        (
            tests.join("fixtures/opus/model"),
            &["config.json", "generation_config.json", "model.safetensors"][..],
        ),
        (
            tokenizer,
            &["source.spm", "target.spm", "vocab.json", "tokenizer_config.json"],
        ),
    ] {
        for name in names {
            std::fs::copy(folder.join(name), at.join("model").join(name)).unwrap();
        }
    }
}
