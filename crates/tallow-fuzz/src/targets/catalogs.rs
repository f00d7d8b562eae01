//! The forms of translators: TMX and PO.

use crate::message;
use std::fs::write;
use tallow_data::{CorpusFiles, ParallelText, Side, SideReader};
use tempfile::tempdir;

/// A translation memory or a PO file. It is refused by name, or its pairs are lines: as many sources as targets, none
/// of them empty or with a line break, and the same when one side is read alone.
///
/// # Panics
/// When a promise is broken.
pub fn catalogs(data: &[u8]) {
    let Some((&choice, contents)) = data.split_first() else {
        return;
    };
    let place = tempdir().expect("a place");
    let path = place.path().join("text");
    write(&path, contents).expect("an input");
    let files = match choice & 1 {
        0 => CorpusFiles {
            po: Some(path),
            ..CorpusFiles::default()
        },
        _ => CorpusFiles {
            tmx: Some(path),
            languages: (choice & 2 > 0).then(|| ["en".to_owned(), "de".to_owned()]),
            ..CorpusFiles::default()
        },
    };
    let text = match ParallelText::open(&files) {
        Ok(text) => text,
        Err(error) => return message::check(&error, &["text"], data),
    };
    assert_eq!(text.source.len(), text.target.len());
    assert_eq!(text.source.len() as u64, text.report.lines);
    for (side, lines) in [(Side::Source, &text.source), (Side::Target, &text.target)] {
        assert!(lines.iter().all(|line| !line.is_empty() && !line.contains('\n')));
        let alone = SideReader::open(&files, side).expect("a side of a corpus that was read");
        assert!(
            alone
                .map(|line| line.expect("a line that was read before"))
                .eq(lines.iter().cloned())
        );
    }
}
