//! Translations of software: PO files of GNU gettext.
//!
//! The crates for this form panic on lines without a closing quotation mark, and keep a whole file in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;

use crate::error::DataError;
use crate::lines::LineReader;

/// Yields the translated entries of a PO file as pairs.
///
/// Entries that are marked as fuzzy or obsolete, or have no translation, are left out. An entry with plural forms gives
/// two pairs: singular, and the plural with the last of its translations. Quotation marks and backslashes are written
/// plainly; other escapes, such as `\n`, stay as they are in the file, so that a pair is a line.
pub(crate) struct PoReader {
    lines: LineReader<BufReader<File>>,
    entry: Entry,
    ready: VecDeque<(String, String)>,
    /// Entries without a translation that counts.
    untranslated: u64,
    is_at_end: bool,
}

/// The entry that is being read.
#[derive(Default)]
struct Entry {
    is_fuzzy: bool,
    /// Whether it has a key.
    is_begun: bool,
    id: String,
    plural: Option<String>,
    /// By the number of the plural form.
    translations: Vec<String>,
    /// What a line with a string alone goes on with.
    part: Part,
    bytes: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Part {
    #[default]
    None,
    Context,
    Id,
    Plural,
    Translation(usize),
}

/// The longest entry that is read, in bytes.
const LONGEST: usize = 64 << 20;

/// More plural forms than any language has.
const MOST_FORMS: usize = 16;

impl PoReader {
    pub(crate) fn new(lines: LineReader<BufReader<File>>) -> Self {
        Self {
            lines,
            entry: Entry::default(),
            ready: VecDeque::new(),
            untranslated: 0,
            is_at_end: false,
        }
    }

    /// The next pair.
    ///
    /// # Errors
    /// Every error of reading lines, and a line that is none of a PO file.
    pub(crate) fn next_pair(&mut self) -> Result<Option<(String, String)>, DataError> {
        loop {
            if let Some(pair) = self.ready.pop_front() {
                return Ok(Some(pair));
            }
            if self.is_at_end {
                return Ok(None);
            }
            match self.lines.next().transpose()? {
                Some(line) => self.take(line.trim())?,
                None => {
                    self.end_entry();
                    self.is_at_end = true;
                }
            }
        }
    }

    /// The hash of everything read so far.
    pub(crate) fn hash_so_far(&self) -> String {
        self.lines.hash_so_far()
    }

    /// The entries without a translation that counts, and the lines.
    pub(crate) fn finish(self) -> (u64, LineReader<BufReader<File>>) {
        (self.untranslated, self.lines)
    }

    fn take(&mut self, line: &str) -> Result<(), DataError> {
        if line.is_empty() {
            self.end_entry();
        } else if let Some(flags) = line.strip_prefix("#,") {
            // The flags of an entry come before its keys.
            self.end_begun();
            self.entry.is_fuzzy |= flags.split(',').any(|flag| flag.trim() == "fuzzy");
        } else if line.starts_with("#~") {
            // An obsolete entry, with its flags.
            self.end_entry();
        } else if line.starts_with('#') {
            self.end_begun();
        } else if line.starts_with('"') {
            let text = self.string(line)?;
            self.entry
                .add(&text)
                .ok_or_else(|| self.fault("a string without a key, or an entry without an end"))?;
        } else {
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let part = part_of(key).ok_or_else(|| self.fault("no line of a PO file"))?;
            if matches!(part, Part::Context | Part::Id) && self.entry.part != Part::Context {
                self.end_begun();
            }
            let text = self.string(value.trim_start())?;
            self.entry.is_begun = true;
            self.entry.part = part;
            match part {
                Part::Plural => self.entry.plural = Some(String::new()),
                Part::Translation(form) if form >= self.entry.translations.len() => {
                    self.entry.translations.resize(form + 1, String::new());
                }
                _ => {}
            }
            self.entry
                .add(&text)
                .ok_or_else(|| self.fault("a string without a key, or an entry without an end"))?;
        }
        Ok(())
    }

    fn end_begun(&mut self) {
        if self.entry.is_begun {
            self.end_entry();
        }
    }

    fn end_entry(&mut self) {
        let entry = std::mem::take(&mut self.entry);
        // The entry of the empty text is the header.
        if !entry.is_begun || entry.id.is_empty() {
            return;
        }
        let mut pairs = entry.pairs();
        pairs.retain(|(source, target)| !source.is_empty() && !target.is_empty());
        if pairs.is_empty() || entry.is_fuzzy {
            self.untranslated += 1;
        } else {
            self.ready.extend(pairs);
        }
    }

    /// The text of a string in quotation marks.
    fn string(&self, quoted: &str) -> Result<String, DataError> {
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let inner = inner.ok_or_else(|| self.fault("a text must stand between quotation marks"))?;
        let mut text = String::with_capacity(inner.len());
        let mut rest = inner.chars();
        while let Some(c) = rest.next() {
            match c {
                '"' => return Err(self.fault("a quotation mark inside of a text needs a backslash before it")),
                '\\' => match rest.next() {
                    Some(escaped @ ('"' | '\\')) => text.push(escaped),
                    Some(other) => text.extend(['\\', other]),
                    None => return Err(self.fault("a text ends in a lone backslash")),
                },
                c => text.push(c),
            }
        }
        Ok(text)
    }

    fn fault(&self, reason: &'static str) -> DataError {
        DataError::Catalog {
            path: self.lines.name().to_owned(),
            line: self.lines.report().lines,
            reason: reason.into(),
        }
    }
}

fn part_of(key: &str) -> Option<Part> {
    Some(match key {
        "msgctxt" => Part::Context,
        "msgid" => Part::Id,
        "msgid_plural" => Part::Plural,
        "msgstr" => Part::Translation(0),
        _ => {
            let form = key.strip_prefix("msgstr[")?.strip_suffix(']')?.parse().ok()?;
            Part::Translation(Some(form).filter(|form| *form < MOST_FORMS)?)
        }
    })
}

impl Entry {
    /// Goes on with the present part; `None` if there is none, or the entry is longer than any.
    fn add(&mut self, text: &str) -> Option<()> {
        // No message comes near this length.
        self.bytes = self.bytes.checked_add(text.len()).filter(|bytes| *bytes <= LONGEST)?;
        match self.part {
            Part::None => return None,
            Part::Context => {}
            Part::Id => self.id.push_str(text),
            Part::Plural => self.plural.as_mut()?.push_str(text),
            Part::Translation(form) => self.translations.get_mut(form)?.push_str(text),
        }
        Some(())
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let translation = |form: Option<&String>| form.cloned().unwrap_or_default();
        let mut pairs = vec![(self.id.clone(), translation(self.translations.first()))];
        // A language with one form has the same translation for both.
        if let Some(plural) = &self.plural {
            pairs.push((plural.clone(), translation(self.translations.last())));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::open_lines;

    fn read(text: &str) -> Result<(Vec<(String, String)>, u64), DataError> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.po");
        std::fs::write(&path, text).unwrap();
        let mut reader = PoReader::new(open_lines(&path)?);
        let mut pairs = Vec::new();
        while let Some(pair) = reader.next_pair()? {
            pairs.push(pair);
        }
        Ok((pairs, reader.finish().0))
    }

    #[test]
    fn entries_are_pairs() {
        let text = r#"
# A header.
msgid ""
msgstr ""
"Language: de\n"

#: file.c:3
#, c-format
msgctxt "menu"
msgid "Open \"%s\"\n"
msgstr "%s "
"öffnen\n"
msgid "no blank line before"
msgstr "keine Leerzeile davor"
#, fuzzy, c-format
msgid "guessed"
msgstr "geraten"

msgid "untranslated"
msgstr ""

#, c-format
msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d wenige"
msgstr[2] "%d Dateien"

#~ msgid "obsolete"
#~ msgstr "veraltet"
msgid "C:\\\\temp\tx"
msgstr "C:\\\\temp\tx""#;
        let (pairs, untranslated) = read(text).unwrap();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("Open \"%s\"\\n", "%s öffnen\\n"),
                ("no blank line before", "keine Leerzeile davor"),
                ("%d file", "%d Datei"),
                ("%d files", "%d Dateien"),
                (r"C:\\temp\tx", r"C:\\temp\tx"),
            ]
        );
        assert_eq!(untranslated, 2);
        assert_eq!(read("").unwrap(), (vec![], 0));
    }

    #[test]
    fn faults_name_the_line() {
        for (text, line, reason) in [
            ("msgid \"a\"\nmsgstr \"b\nmsgid \"c\"\n", 2, "between quotation marks"),
            ("msgid\n", 1, "between quotation marks"),
            ("msgid \"\n", 1, "between quotation marks"),
            ("\"x\"\n", 1, "without a key"),
            ("hello\n", 1, "no line of a PO file"),
            ("msgstr[99] \"x\"\n", 1, "no line of a PO file"),
            ("msgid \"a\"\n\nmsgid \"a \" b\"\n", 3, "needs a backslash"),
            ("msgid \"a\\\"\n", 1, "lone backslash"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("x.po: line {line}: ")) && error.contains(reason),
                "{error}"
            );
        }
    }
}
