//! Encoded, filtered pairs in memory.

use std::collections::HashSet;
use std::ops::Range;

use crate::augment::Augmentation;
use crate::batch::Batch;
use crate::clean::Cleaning;
use crate::config::weight_is_valid;
use crate::cuts::{Cuts, Recut, has_words_of, without_end};
use crate::error::{BoxError, DataError, must_be_encoded};
use crate::filter::{FilterReport, Filters};
use crate::lines::{FileRecord, is_blank};
use crate::pair_source::{Pair, PairSource, PartOfPairs};
use crate::parallel::ParallelText;
use crate::word_alignments::{Link, WordsOf};

/// How many pairs are passed to the encoders at a time.
const CHUNK: usize = 4096;

/// One or more parallel corpora, encoded. Every sequence ends with `</s>`, and all sequences are stored one after
/// another in a single vector.
#[derive(Debug)]
pub struct Corpus {
    tokens: Vec<u32>,
    /// Pair `i` has its source at `offsets[2i]..offsets[2i + 1]` and its target at `offsets[2i + 1]..offsets[2i + 2]`.
    offsets: Vec<usize>,
    ids: Vec<u64>,
    parts: Vec<Part>,
    alignments: Option<Alignments>,
    cuts: Cuts,
}

/// The word alignments of the pairs of a [`Corpus`].
#[derive(Debug)]
struct Alignments {
    links: Vec<Link>,
    /// The end of each pair's links.
    ends: Vec<usize>,
}

/// One of the corpora that make up a [`Corpus`].
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) weight: f64,
    /// The indices of its pairs.
    pub(crate) pairs: Range<usize>,
    /// The id of its first line.
    first_id: u64,
    files: Vec<FileRecord>,
    report: FilterReport,
}

impl Part {
    /// The report of the filters.
    pub(crate) fn report(&self) -> &FilterReport {
        &self.report
    }

    /// The line, from 1, of one of its pairs.
    pub(crate) fn line_of(&self, id: u64) -> u64 {
        id - self.first_id + 1
    }
}

impl Corpus {
    /// Encodes and filters parallel text. The encoders get up to 4096 lines at a time and return the tokens of each
    /// line without `</s>`. This function appends `end_id`, the id of `</s>` in both vocabularies. Blank lines and
    /// duplicates are dropped before they are encoded.
    ///
    /// A dropped pair leaves a gap in the ids and a count in [`Corpus::reports`].
    ///
    /// # Errors
    /// No text at all, a weight that is not positive, an encoder that fails or returns a different number of sequences
    /// than it got lines, and filters that leave no pair of any corpus.
    pub fn build<E: Into<BoxError>>(
        texts: &[ParallelText],
        end_id: u32,
        filters: &Filters,
        encode_source: impl FnMut(&[&str]) -> Result<Vec<Vec<u32>>, E>,
        encode_target: impl FnMut(&[&str]) -> Result<Vec<Vec<u32>>, E>,
    ) -> Result<Self, DataError> {
        Self::build_cleaned(texts, end_id, filters, None, encode_source, encode_target)
    }

    /// As [`Corpus::build`], without the pairs that rules drop. The rules were prepared for these texts.
    ///
    /// # Errors
    /// As for [`Corpus::build`].
    pub fn build_cleaned<E: Into<BoxError>>(
        texts: &[ParallelText],
        end_id: u32,
        filters: &Filters,
        cleaning: Option<&Cleaning>,
        mut encode_source: impl FnMut(&[&str]) -> Result<Vec<Vec<u32>>, E>,
        mut encode_target: impl FnMut(&[&str]) -> Result<Vec<Vec<u32>>, E>,
    ) -> Result<Self, DataError> {
        if texts.is_empty() {
            return Err(DataError::NoCorpus);
        }
        let mut corpus = Self {
            tokens: Vec::new(),
            offsets: vec![0],
            ids: Vec::new(),
            parts: Vec::new(),
            alignments: None,
            cuts: Cuts::default(),
        };
        // Compares the texts themselves, not hashes of them: a hash collision would drop a valid pair.
        let mut seen = HashSet::new();
        let mut first_id = 0;
        for (number, text) in texts.iter().enumerate() {
            let name = text.name();
            if !weight_is_valid(text.weight) {
                return Err(DataError::Weight {
                    name,
                    weight: text.weight,
                });
            }
            let mut report = FilterReport {
                corpus: name,
                read: text.source.len() as u64,
                ..FilterReport::default()
            };
            let mut candidates = Vec::with_capacity(text.source.len());
            for (index, (source, target)) in text.source.iter().zip(&text.target).enumerate() {
                let line = index as u64 + 1;
                if filters.drop_empty && (is_blank(source) || is_blank(target)) {
                    report.empty.add(line);
                } else if filters.drop_duplicates && !seen.insert((source.as_str(), target.as_str())) {
                    report.duplicate.add(line);
                } else if let Some(rule) =
                    cleaning.and_then(|cleaning| cleaning.verdict(number, index as u64, source, target))
                {
                    report.add_unclean(rule, line);
                } else {
                    candidates.push(index);
                }
            }
            let first_pair = corpus.len();
            for chunk in candidates.chunks(CHUNK) {
                let source = encode_chunk(text, 0, &text.source, chunk, &mut encode_source)?;
                let target = encode_chunk(text, 1, &text.target, chunk, &mut encode_target)?;
                for ((&index, source), target) in chunk.iter().zip(&source).zip(&target) {
                    if filters.admit(source.len() + 1, target.len() + 1, index as u64 + 1, &mut report) {
                        corpus.push(first_id + index as u64, source, target, end_id);
                    }
                }
            }
            let pairs = first_pair..corpus.len();
            report.kept = pairs.len() as u64;
            // Blank lines were found before lines that encode to nothing.
            report.empty.lines.sort_unstable();
            let next_id = first_id + report.read;
            corpus.parts.push(Part {
                weight: text.weight,
                pairs,
                first_id,
                files: text
                    .files
                    .iter()
                    .chain(text.alignments.as_ref().map(|found| &found.file))
                    .cloned()
                    .collect(),
                report,
            });
            first_id = next_id;
        }
        if corpus.is_empty() {
            let reports: Vec<String> = corpus.reports().map(FilterReport::to_string).collect();
            return Err(DataError::AllDropped {
                read: first_id,
                report: reports.join("; "),
            });
        }
        Ok(corpus)
    }

    /// Lets every epoch of training cut the sentences anew: see [`Cuts::anew`]. Everything else than a
    /// [`crate::Sampler`], such as [`Corpus::pair`], still returns the pairs as they were encoded.
    #[must_use]
    pub fn recut_with(mut self, source: Recut, target: Recut, longest: usize) -> Self {
        self.cuts = std::mem::take(&mut self.cuts).anew(source, target, longest);
        self
    }

    /// Lets every epoch of training change some of the pairs: see [`Cuts::augmented`].
    #[must_use]
    pub fn augment_with(mut self, augmentation: Augmentation, longest: usize) -> Self {
        self.cuts = std::mem::take(&mut self.cuts).augmented(augmentation, longest);
        self
    }

    /// Gives the pairs the word alignments of `texts`, from which this corpus was built, if any of them has some. The
    /// functions return the words of tokens of either side. A pair gets no links if they find another number of words
    /// in it than white space separates; it is counted in [`FilterReport::unaligned`].
    #[must_use]
    pub fn align_with(mut self, texts: &[ParallelText], words_of_source: WordsOf, words_of_target: WordsOf) -> Self {
        if texts.iter().all(|text| text.alignments.is_none()) {
            return self;
        }
        let (mut links, mut ends) = (Vec::new(), vec![0; self.len()]);
        for (number, text) in texts.iter().enumerate().take(self.parts.len()) {
            for index in self.parts[number].pairs.clone() {
                if let Some(alignments) = &text.alignments {
                    let pair = self.pair(index);
                    let line = (pair.id - self.parts[number].first_id) as usize;
                    let is_same = has_words_of(&words_of_source, without_end(pair.source), &text.source[line])
                        && has_words_of(&words_of_target, without_end(pair.target), &text.target[line]);
                    if is_same {
                        links.extend(alignments.line(line));
                    } else {
                        self.parts[number].report.unaligned.add(line as u64 + 1);
                    }
                }
                ends[index] = links.len();
            }
        }
        self.alignments = Some(Alignments { links, ends });
        self.cuts = std::mem::take(&mut self.cuts).with_words(words_of_source, words_of_target);
        self
    }

    fn links(&self, index: usize) -> &[Link] {
        self.alignments.as_ref().map_or(&[], |alignments| {
            let start = index.checked_sub(1).map_or(0, |before| alignments.ends[before]);
            &alignments.links[start..alignments.ends[index]]
        })
    }

    fn push(&mut self, id: u64, source: &[u32], target: &[u32], end_id: u32) {
        for side in [source, target] {
            self.tokens.extend_from_slice(side);
            self.tokens.push(end_id);
            self.offsets.push(self.tokens.len());
        }
        self.ids.push(id);
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no pairs; never true of the result of [`Corpus::build`].
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The pair at an index below [`Corpus::len`].
    ///
    /// # Panics
    /// If the index is not below [`Corpus::len`], as for a slice.
    pub fn pair(&self, index: usize) -> Pair<'_> {
        let [start, middle, end] = [
            self.offsets[2 * index],
            self.offsets[2 * index + 1],
            self.offsets[2 * index + 2],
        ];
        Pair {
            id: self.ids[index],
            source: &self.tokens[start..middle],
            target: &self.tokens[middle..end],
            links: self.links(index),
        }
    }

    /// The batch of the pairs with these numbers, in their usual cuts.
    ///
    /// # Panics
    /// As [`Corpus::pair`].
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let example = |&index: &usize| self.cuts.usual(self.pair(index));
        Batch {
            examples: indices.iter().map(example).collect(),
        }
    }

    /// All pairs in the order of the files.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = Pair<'_>> {
        (0..self.len()).map(|index| self.pair(index))
    }

    /// The numbers of source and target tokens of a pair, each with `</s>`.
    ///
    /// # Panics
    /// As [`Corpus::pair`].
    pub fn lengths(&self, index: usize) -> (usize, usize) {
        let pair = self.pair(index);
        (pair.source.len(), pair.target.len())
    }

    /// The reports of the filters, one for each corpus.
    pub fn reports(&self) -> impl ExactSizeIterator<Item = &FilterReport> {
        self.parts.iter().map(|part| &part.report)
    }

    /// The files of all corpora with their hashes, for the record of a run: a resumed run can tell that they changed.
    pub fn files(&self) -> impl Iterator<Item = &FileRecord> {
        self.parts.iter().flat_map(|part| &part.files)
    }

    /// The corpus, as messages name it, and the line number, from 1, of the pair with this id.
    pub fn origin(&self, id: u64) -> Option<(&str, u64)> {
        let part = self
            .parts
            .iter()
            .find(|part| (part.first_id..part.first_id + part.report.read).contains(&id))?;
        Some((&part.report.corpus, part.line_of(id)))
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl PairSource for Corpus {
    fn parts(&self) -> Vec<PartOfPairs> {
        let part = |part: &Part| PartOfPairs {
            pairs: part.pairs.clone(),
            weight: part.weight,
        };
        self.parts.iter().map(part).collect()
    }

    fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    fn read(&self, indices: &[usize], visit: &mut dyn FnMut(Pair<'_>)) -> Result<(), DataError> {
        indices.iter().for_each(|index| visit(self.pair(*index)));
        Ok(())
    }
}

impl Filters {
    /// Whether a pair of these lengths (with `</s>`) stays; counts it otherwise.
    pub(crate) fn admit(&self, source: usize, target: usize, line: u64, report: &mut FilterReport) -> bool {
        let (shorter, longer) = (source.min(target), source.max(target));
        if self.drop_empty && shorter < 2 {
            report.empty.add(line);
        } else if self.max_length.is_some_and(|most| longer > most) {
            report.too_long.add(line);
        } else if self
            .max_length_ratio
            .is_some_and(|most| longer as f64 > most * shorter as f64)
        {
            report.ratio.add(line);
        } else {
            return true;
        }
        false
    }
}

/// Encodes the lines of `chunk`, which are lines of side 0 (source) or 1 (target) of `text`.
fn encode_chunk<E: Into<BoxError>>(
    text: &ParallelText,
    side: usize,
    lines: &[String],
    chunk: &[usize],
    encode: &mut impl FnMut(&[&str]) -> Result<Vec<Vec<u32>>, E>,
) -> Result<Vec<Vec<u32>>, DataError> {
    let lines: Vec<&str> = chunk.iter().map(|&index| lines[index].as_str()).collect();
    let place = || {
        // A TSV has one file for both sides.
        let file = text
            .files
            .get(side)
            .or(text.files.first())
            .map(|file| file.path.display().to_string());
        let line = |index: Option<&usize>| index.map_or(0, |&index| index as u64 + 1);
        (file.unwrap_or_default(), line(chunk.first()), line(chunk.last()))
    };
    must_be_encoded(encode(&lines), lines.len(), place)
}
