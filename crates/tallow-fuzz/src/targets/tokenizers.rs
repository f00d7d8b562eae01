//! Tokenizers.

use crate::message;
use crate::specimen::{marian_files, named, tokenizers as valid, write_files};
use std::fs::create_dir;
use std::path::Path;
use tallow_text::{TextError, Tokenizer, Tokenizers};
use tempfile::tempdir;

/// The file that an input replaces, chosen by its first byte; `*.spm` stands for both models.
pub(crate) const FILES: [&str; 9] = [
    "tokenizer.json",
    "source.spm",
    "vocab.json",
    "tokenizer_config.json",
    "target_vocab.json",
    "target.spm",
    "*.spm",
    "tokenizer.source.json",
    "tokenizer.target.json",
];

/// Texts of every kind to encode.
const LINES: [&str; 6] = [
    "",
    "one red cat",
    "  the  old  dog ",
    "Äpfel und 日本語 \u{1f600}\u{301}",
    "</s> <unk><pad> <0x41> \u{2581}\u{2581}x",
    "\0\t\r>>de<< zzz",
];

/// The number of bytes of an input that are also encoded as text.
const ENCODED: usize = 200;

/// One file of a tokenizer; the others are valid. A tokenizer that opens can encode and decode, and is the same after
/// it is saved and opened again.
///
/// # Panics
/// When a promise is broken.
pub fn tokenizers(data: &[u8]) {
    let Some((&choice, contents)) = data.split_first() else {
        return;
    };
    let place = tempdir().expect("a place");
    let name = FILES[usize::from(choice) % FILES.len()];
    write_tokenizer(place.path(), name, contents);
    let directory = place.path().display().to_string();
    let opened = match Tokenizers::open(place.path()) {
        Ok(opened) => opened,
        Err(error) => return message::check(&error, &[&directory], data),
    };
    let text = String::from_utf8_lossy(&contents[..contents.len().min(ENCODED)]);
    for tokenizer in [&opened.source, &opened.target] {
        check_ids(tokenizer);
        LINES
            .into_iter()
            .chain([text.as_ref()])
            .for_each(|line| check_line(tokenizer, line));
    }
    let _ = (opened.is_shared_vocabulary(), opened.missing_pieces());
    check_copy(&opened, place.path(), &text, data);
}

/// Writes a tokenizer in which one file is replaced.
fn write_tokenizer(directory: &Path, name: &str, contents: &[u8]) {
    if name.starts_with("tokenizer") && name != "tokenizer_config.json" {
        let json = valid().source.to_json().unwrap_or_default().as_bytes();
        let others = ["tokenizer.source.json", "tokenizer.target.json"];
        let others = others
            .into_iter()
            .filter(|other| *other != name && name != "tokenizer.json");
        write_files(directory, others.map(|other| (other, json)).chain([(name, contents)]));
        return;
    }
    write_files(directory, named(marian_files(name != "target_vocab.json")));
    match name {
        "*.spm" => write_files(directory, [("source.spm", contents), ("target.spm", contents)]),
        _ => write_files(directory, [(name, contents)]),
    }
}

fn check_ids(tokenizer: &Tokenizer) {
    let size = tokenizer.vocabulary_size();
    for id in [tokenizer.eos_id(), tokenizer.unk_id(), tokenizer.pad_id()] {
        assert!((id as usize) < size);
        assert!(tokenizer.piece(id).is_some());
    }
    assert_eq!(tokenizer.pad_id() as usize + 1, size, "<pad> is the last piece");
    assert_eq!(tokenizer.piece(size as u32), None);
    // Every piece can be decoded alone, because a translation may consist of any piece.
    for id in (0..size as u32).filter(|id| tokenizer.piece(*id).is_some()).take(64) {
        if let Err(error) = tokenizer.decode(&[id]) {
            message::check(&error, &[], &[]);
        }
    }
    assert!(matches!(
        tokenizer.decode(&[size as u32]),
        Err(TextError::UnknownId { .. })
    ));
}

/// Checks that a line is encoded as ids of the vocabulary, without end and padding.
pub(crate) fn check_line(tokenizer: &Tokenizer, line: &str) {
    let ids = match tokenizer.encode(line) {
        Ok(ids) => ids,
        Err(error) => return message::check(&error, &[], line.as_bytes()),
    };
    assert!(!line.is_empty() || ids.is_empty(), "{ids:?} of an empty line");
    let size = tokenizer.vocabulary_size();
    assert!(ids.iter().all(|id| (*id as usize) < size), "{ids:?} of {size}");
    assert!(!ids.contains(&tokenizer.pad_id()));
    assert!(!ids.contains(&tokenizer.eos_id()) || tokenizer.eos_id() == tokenizer.unk_id());
    assert_eq!(tokenizer.encode(line).expect("the same ids"), ids);
    assert_eq!(tokenizer.pieces(line).map(|pieces| pieces.len()).ok(), Some(ids.len()));
    if let Err(error) = tokenizer.decode(&ids) {
        message::check(&error, &[], line.as_bytes());
    }
}

/// Checks that the saved tokenizers equal the opened ones.
fn check_copy(opened: &Tokenizers, place: &Path, text: &str, data: &[u8]) {
    let [copy, marian] = ["copy", "marian"].map(|name| place.join(name));
    create_dir(&copy).expect("a place");
    create_dir(&marian).expect("a place");
    opened.save_all(&copy).expect("a copy");
    let again = Tokenizers::open(&copy).unwrap_or_else(|error| panic!("a copy cannot be opened: {error}"));
    for (one, other) in [(&opened.source, &again.source), (&opened.target, &again.target)] {
        assert!(one == other && one.sha256() == other.sha256());
        assert_eq!(one.encode(text).ok(), other.encode(text).ok());
    }
    match opened.why_not_marian_tokenizer() {
        Some(error) => message::check(&error, &[], data),
        None => {
            opened
                .save_marian_tokenizer(&marian)
                .expect("the files of MarianTokenizer");
            if let Err(error) = Tokenizers::open_marian_tokenizer(&marian) {
                panic!("what was exported cannot be opened: {error}");
            }
        }
    }
    if let Err(error) = opened.save_yaml(&marian) {
        message::check(&error, &[&place.display().to_string()], data);
    }
}
