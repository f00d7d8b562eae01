//! Translation memories: TMX files, which translators' programs exchange (TMX 1.4b).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::file_signature::Format;
use crate::lines::{Content, FileRecord, hexadecimal};

/// The longest unit that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Elements of a segment that hold codes of another format and no text.
const CODES: [&str; 5] = ["bpt", "ept", "it", "ph", "ut"];

/// Yields the units of a TMX file that have both languages, as pairs. Codes of the original format are left out, and
/// white space in a row becomes a space.
pub(crate) struct TmxReader {
    xml: Reader<BufReader<Hashing>>,
    path: PathBuf,
    /// Source and target; if they are not given, they follow from the header and the first unit.
    languages: Option<[String; 2]>,
    header: Option<String>,
    /// Units that lack one of the languages.
    untranslated: u64,
    buffer: Vec<u8>,
    /// Whether the end of the document was read.
    is_complete: bool,
}

/// Hashes what is read.
struct Hashing {
    content: Content<BufReader<File>>,
    digest: Sha256,
    /// Bytes that may be read before the present unit must have ended.
    left: u64,
}

impl Read for Hashing {
    /// Fills the buffer as far as possible, so that the beginning of a file tells its form.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.content.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.digest.update(&buffer[..filled]);
        // A unit is in memory as a whole.
        let left = self.left.checked_sub(filled as u64);
        self.left = left.ok_or_else(|| io::Error::other("a unit is longer than any text"))?;
        Ok(filled)
    }
}

/// A segment and its language.
type Segment = (String, String);

impl TmxReader {
    /// Opens a file, plain or compressed. `languages` are codes such as `en` or `pt-BR`; a code without a region stands
    /// for all of its regions.
    pub(crate) fn open(path: &Path, languages: Option<[String; 2]>) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|error| DataError::Open {
            path: path.to_owned(),
            error,
        })?;
        let content = Content::new(BufReader::with_capacity(1 << 16, file), path)?;
        let digest = Sha256::new();
        let mut bytes = BufReader::with_capacity(
            1 << 16,
            Hashing {
                content,
                digest,
                left: LONGEST,
            },
        );
        let beginning = bytes.fill_buf().map_err(|error| DataError::Open {
            path: path.to_owned(),
            error,
        })?;
        if let Some(format) = Format::of(beginning) {
            return Err(DataError::Foreign {
                path: path.to_owned(),
                format,
            });
        }
        Ok(Self {
            xml: Reader::from_reader(bytes),
            path: path.to_owned(),
            languages,
            header: None,
            untranslated: 0,
            buffer: Vec::new(),
            is_complete: false,
        })
    }

    /// The next pair.
    ///
    /// # Errors
    /// A file that cannot be read, or is no well-formed XML.
    pub(crate) fn next_pair(&mut self) -> Result<Option<(String, String)>, DataError> {
        while let Some(segments) = self.next_unit()? {
            match self.choose(segments) {
                Some(pair) => return Ok(Some(pair)),
                None => self.untranslated += 1,
            }
        }
        Ok(None)
    }

    /// The place up to which the document was read.
    pub(crate) fn position(&self) -> u64 {
        self.xml.buffer_position()
    }

    /// Source and target language, if they are known.
    pub(crate) fn languages(&self) -> Option<[String; 2]> {
        self.languages.clone()
    }

    /// Units that lacked one of the languages, and the file with its hash.
    pub(crate) fn finish(self) -> (u64, FileRecord) {
        let hashing = self.xml.into_inner().into_inner();
        let sha256 = hexadecimal(&hashing.digest.finalize());
        let path = self.path;
        (self.untranslated, FileRecord { path, sha256 })
    }

    /// The segments of the next unit.
    fn next_unit(&mut self) -> Result<Option<Vec<Segment>>, DataError> {
        let (mut segments, mut language) = (Vec::new(), String::new());
        let (mut text, mut codes, mut is_in_segment) = (String::new(), 0_usize, false);
        self.xml.get_mut().get_mut().left = LONGEST;
        loop {
            self.buffer.clear();
            let mut buffer = std::mem::take(&mut self.buffer);
            let event = self.xml.read_event_into(&mut buffer);
            let is_code = |name: &str| CODES.contains(&name);
            let mut is_end_of_unit = false;
            let outcome: Result<bool, String> = match event {
                Err(error) => Err(error.to_string()),
                Ok(Event::Start(element) | Event::Empty(element)) if element.name().as_ref() == "header" => {
                    self.header = attribute(&element, &["srclang"]).filter(|language| language != "*all*");
                    Ok(true)
                }
                Ok(Event::Start(element)) => {
                    match element.name().as_ref() {
                        "tu" => segments.clear(),
                        "tuv" => language = attribute(&element, &["xml:lang", "lang"]).unwrap_or_default(),
                        "seg" => {
                            text.clear();
                            (codes, is_in_segment) = (0, true);
                        }
                        name if is_in_segment && is_code(name) => codes += 1,
                        _ => {}
                    }
                    Ok(true)
                }
                Ok(Event::End(element)) => {
                    match element.name().as_ref() {
                        "tu" => is_end_of_unit = true,
                        "tmx" => self.is_complete = true,
                        "seg" => {
                            is_in_segment = false;
                            segments.push((std::mem::take(&mut language), one_line(&text)));
                        }
                        name if is_in_segment && is_code(name) => codes = codes.saturating_sub(1),
                        _ => {}
                    }
                    Ok(true)
                }
                Ok(Event::Text(found)) if is_in_segment && codes == 0 => {
                    text.push_str(&found.xml10_content());
                    Ok(true)
                }
                Ok(Event::CData(found)) if is_in_segment && codes == 0 => {
                    text.push_str(&found.xml10_content());
                    Ok(true)
                }
                Ok(Event::GeneralRef(found)) if is_in_segment && codes == 0 => match character(&found) {
                    Some(c) => {
                        text.push(c);
                        Ok(true)
                    }
                    None => Err("an entity that XML does not define".into()),
                },
                Ok(Event::Eof) if !self.is_complete => Err("the file ends before its last element does".into()),
                Ok(Event::Eof) => Ok(false),
                Ok(_) => Ok(true),
            };
            self.buffer = buffer;
            let goes_on = outcome.map_err(|reason| self.fault(reason))?;
            if is_end_of_unit {
                return Ok(Some(segments));
            }
            if !goes_on {
                return Ok(None);
            }
        }
    }

    /// The segments of the two languages. The first unit that has two segments decides which these are, if nobody has.
    fn choose(&mut self, segments: Vec<Segment>) -> Option<(String, String)> {
        if self.languages.is_none() {
            let source = self
                .header
                .clone()
                .or_else(|| segments.first().map(|(language, _)| language.clone()))?;
            // Other units may have other regions of these languages.
            let source = primary(&source).to_owned();
            let is_target = |(language, _): &&Segment| !is_of(&source, language) && !language.is_empty();
            let target = primary(&segments.iter().find(is_target)?.0).to_owned();
            self.languages = Some([source, target]);
        }
        let [source, target] = self.languages.as_ref()?;
        let find = |wanted: &str| {
            let exact = segments
                .iter()
                .find(|(language, _)| language.eq_ignore_ascii_case(wanted));
            let found = exact.or_else(|| segments.iter().find(|(language, _)| is_of(wanted, language)));
            found.map(|(_, text)| text.clone()).filter(|text| !text.is_empty())
        };
        Some((find(source)?, find(target)?))
    }

    fn fault(&self, reason: String) -> DataError {
        DataError::Xml {
            path: self.path.clone(),
            byte: self.xml.buffer_position(),
            reason,
        }
    }
}

/// A language without its region.
fn primary(language: &str) -> &str {
    language.split(['-', '_']).next().unwrap_or(language)
}

/// Whether a language is the wanted one, or one of its regions.
fn is_of(wanted: &str, language: &str) -> bool {
    let Some((beginning, rest)) = language.split_at_checked(wanted.len()) else {
        return false;
    };
    beginning.eq_ignore_ascii_case(wanted) && (rest.is_empty() || rest.starts_with(['-', '_']))
}

fn attribute(element: &BytesStart<'_>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let attribute = element.try_get_attribute(name).ok()??;
        attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .ok()
            .map(|value| value.trim().to_owned())
    })
}

/// The character of a reference such as `&amp;` or `&#10;`.
fn character(reference: &quick_xml::events::BytesRef<'_>) -> Option<char> {
    if let Ok(Some(c)) = reference.resolve_char_ref() {
        return Some(c);
    }
    match &**reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Vec<(String, String)>;

    fn read(text: &[u8], languages: Option<[&str; 2]>) -> Result<(Pairs, u64, FileRecord), DataError> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.tmx");
        std::fs::write(&path, text).unwrap();
        let mut reader = TmxReader::open(&path, languages.map(|codes| codes.map(str::to_owned)))?;
        let mut pairs = Vec::new();
        while let Some(pair) = reader.next_pair()? {
            pairs.push(pair);
        }
        let (untranslated, record) = reader.finish();
        Ok((pairs, untranslated, record))
    }

    fn document(header: &str, body: &str) -> Vec<u8> {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE tmx SYSTEM \"tmx14.dtd\">\n<tmx version=\"1.4\">\
             <header srclang=\"{header}\" datatype=\"plaintext\"/><body>{body}</body></tmx>"
        )
        .into_bytes()
    }

    const BODY: &str = "
        <tu tuid=\"1\"><note>a remark</note>
          <tuv xml:lang=\"de-AT\"><seg>Gr&#252;&#xDF; Gott &amp; <hi>guten</hi>
             Tag</seg></tuv>
          <tuv xml:lang=\"EN-US\"><prop type=\"x\">y</prop><seg>Hello <bpt i=\"1\">&lt;b&gt;</bpt>there<ept i=\"1\">&lt;/b&gt;</ept><ph/></seg></tuv>
        </tu>
        <tu><tuv xml:lang=\"en\"><seg>alone</seg></tuv></tu>
        <tu><tuv xml:lang=\"en\"><seg>empty</seg></tuv><tuv xml:lang=\"de\"><seg> </seg></tuv></tu>
        <tu><tuv lang=\"en\"><seg><![CDATA[a < b]]></seg></tuv><tuv lang=\"de\"><seg>a kleiner b</seg></tuv>
            <tuv lang=\"fr\"><seg>a petit b</seg></tuv></tu>";

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn units_are_pairs() {
        let expected = pairs(&[("Hello there", "Grüß Gott & guten Tag"), ("a < b", "a kleiner b")]);
        let text = document("en", BODY);
        let (found, untranslated, record) = read(&text, None).unwrap();
        assert_eq!((found, untranslated), (expected.clone(), 2));
        assert_eq!(record.sha256, hexadecimal(&Sha256::digest(&text)));
        assert_eq!(read(&document("*all*", BODY), Some(["en", "de"])).unwrap().0, expected);
        // Without a source language, the first unit tells both.
        let reversed = |(source, target): (String, String)| (target, source);
        let found = read(&document("*all*", BODY), None).unwrap().0;
        assert_eq!(found, expected.iter().cloned().map(reversed).collect::<Pairs>());
        let (french, untranslated, _) = read(&text, Some(["fr", "EN"])).unwrap();
        assert_eq!((french, untranslated), (pairs(&[("a petit b", "a < b")]), 3));
        assert_eq!(read(&document("en", ""), None).unwrap().0, Pairs::new());
    }

    #[test]
    fn compressed_files_are_read() {
        let text = document("en", BODY);
        let plain = read(&text, None).unwrap();
        let packed = read(&zstd::encode_all(&text[..], 1).unwrap(), None).unwrap();
        assert_eq!(
            (packed.0, packed.1, packed.2.sha256),
            (plain.0, plain.1, plain.2.sha256)
        );
    }

    #[test]
    fn faults_name_the_place() {
        let cut = document("en", BODY);
        for (text, reason) in [
            (
                document("en", "<tu><tuv xml:lang=\"en\"><seg>a</tuv></tu>"),
                "x.tmx: byte ",
            ),
            (
                document("en", "<tu><tuv xml:lang=\"en\"><seg>&unknown;</seg></tuv></tu>"),
                "an entity that XML",
            ),
            (b"\xff\xfe<\0".to_vec(), "UTF-16"),
            (cut[..cut.len() / 2].to_vec(), "x.tmx: byte "),
        ] {
            let error = read(&text, None).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("x.tmx"), "{error}");
        }
    }
}
