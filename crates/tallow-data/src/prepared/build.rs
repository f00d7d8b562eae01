//! Preparing a corpus: from text to files.

use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::description::{Description, Recipe, VERSION, read_json, write_json};
use super::file::PreparedCorpus;
use super::record::{Form, Record};
use super::writer::Writer;
use super::{DESCRIPTION, OFFSETS, PAIRS, STATE, partial, with_extension};
use crate::bit_set::BitSet;
use crate::clean::{Cleaning, Rule};
use crate::corpus_files::CorpusFiles;
use crate::error::{BoxError, DataError, must_be_encoded};
use crate::filter::FilterReport;
use crate::lines::is_blank;
use crate::pair_reader::{PairOfLines, PairReader};
use crate::parallel::name_of;
use crate::pool::in_order;

/// Pairs that a thread encodes at a time.
const CHUNK: usize = 256;

/// The state of an unfinished preparation.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// The description of what is done.
    done: Description,
    /// The hashes of the text up to there.
    read: Vec<String>,
}

/// Pairs that were read together, and the hashes of the text up to their end.
type Block = (Vec<PairOfLines>, Vec<String>);

/// How a preparation divides its work.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Pairs between two reads of the text, and their bytes.
    block: usize,
    bytes: usize,
    /// After which time the state is saved for the first time. The time doubles up to that of the next field.
    first_save: Duration,
    save_every: Duration,
}

const PACE: Pace = Pace {
    block: 1 << 14,
    bytes: 1 << 24,
    first_save: Duration::from_millis(50),
    save_every: Duration::from_secs(5),
};

/// The tokens of a pair, without `</s>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Of the source.
    pub source: Vec<u32>,
    /// Of the target.
    pub target: Vec<u32>,
    /// Whether the tokenizer divides one of the lines into other words than white space does, so that its word
    /// alignments do not fit.
    pub has_other_words: bool,
}

/// A function that encodes some pairs.
pub type Encoder<'a, E> = dyn Fn(&[PairOfLines]) -> Result<Vec<Encoded>, E> + Sync + 'a;

/// A corpus that is to be prepared.
#[derive(Debug)]
pub struct Preparation<'a> {
    /// The text.
    pub files: &'a CorpusFiles,
    /// The path of the prepared files, without extension.
    pub base: &'a Path,
    /// What the files are made of. The text must have the hashes given here.
    pub recipe: Recipe,
    /// The id of `</s>` in both vocabularies.
    pub end_id: u32,
    /// The largest id that an encoder gives.
    pub largest_id: u32,
    /// The lines, from 0, that occurred earlier, if these are dropped: see [`crate::duplicates()`].
    pub duplicates: Option<&'a BitSet>,
    /// The rules that drop pairs, and the number of this corpus among those that the rules were prepared for.
    pub cleaning: Option<(&'a Cleaning, usize)>,
    /// Threads that encode.
    pub workers: usize,
}

impl Preparation<'_> {
    /// Prepares the corpus. A preparation of the same recipe that was killed goes on where it last saved its state.
    ///
    /// `encode` gets some pairs without blank ones, from several threads at the same time. `progress` gets the number
    /// of lines done.
    ///
    /// # Errors
    /// Every error of [`PairReader`], text that has other hashes than the recipe says, encoders that fail or return a
    /// different number of pairs, and files that cannot be written.
    pub fn run<E: Into<BoxError>>(
        &self,
        encode: &Encoder<'_, E>,
        progress: impl FnMut(u64),
    ) -> Result<PreparedCorpus, DataError> {
        self.run_at(PACE, encode, progress)
    }

    fn run_at<E: Into<BoxError>>(
        &self,
        pace: Pace,
        encode: &Encoder<'_, E>,
        mut progress: impl FnMut(u64),
    ) -> Result<PreparedCorpus, DataError> {
        let form = Form {
            is_narrow: self.largest_id.max(self.end_id) <= u32::from(u16::MAX),
            has_links: self.recipe.links,
        };
        let (begun, mut writer) = self.begin(form)?;
        let mut state = begun.done;
        let read_before = state.report.read;
        progress(read_before);
        let outcome = thread::scope(|scope| {
            // One block is read while another one is encoded.
            let (sender, blocks) = sync_channel(1);
            scope.spawn(move || {
                let start = (read_before, begun.read);
                let sent = self.read_blocks(pace, start, |block| sender.send(Ok(block)).is_ok());
                if let Err(error) = sent {
                    // If the receiver is gone, nobody needs the error.
                    let _ = sender.send(Err(error));
                }
            });
            let (mut last_saved, mut interval) = (Instant::now(), pace.first_save);
            for block in blocks {
                let (pairs, read) = block?;
                self.add(pairs, encode, &mut state, &mut writer)?;
                progress(state.report.read);
                if last_saved.elapsed() >= interval {
                    writer.sync()?;
                    let done = state.clone();
                    write_json(&with_extension(self.base, STATE), &State { done, read })?;
                    (last_saved, interval) = (Instant::now(), (2 * interval).min(pace.save_every));
                }
            }
            Ok::<_, DataError>(())
        });
        if let Err(DataError::Changed { .. }) = outcome {
            // What was written is of another text.
            let _ = fs::remove_file(with_extension(self.base, STATE));
        }
        outcome?;
        self.finish(state, writer)
    }

    /// The state and the files of a preparation that was killed, or new ones.
    fn begin(&self, form: Form) -> Result<(State, Writer), DataError> {
        let new = Description {
            version: VERSION,
            recipe: self.recipe.clone(),
            pairs: 0,
            source_tokens: 0,
            target_tokens: 0,
            token_bytes: if form.is_narrow { 2 } else { 4 },
            bytes: 0,
            report: FilterReport {
                corpus: name_of(&self.recipe.text),
                ..FilterReport::default()
            },
        };
        // A state that cannot be used is the same as none.
        let saved = read_json::<State>(&with_extension(self.base, STATE)).unwrap_or_default();
        let is_same = |State { done, .. }: &State| {
            let of = |description: &Description| {
                let Description {
                    version, token_bytes, ..
                } = *description;
                (version, token_bytes, description.recipe.clone())
            };
            done.is_sound() && of(done) == of(&new)
        };
        if let Some(saved) = saved.filter(is_same)
            && let Ok(writer) = Writer::open(self.base, form, saved.done.pairs, saved.done.bytes)
        {
            return Ok((saved, writer));
        }
        // What is there is not described any more.
        for path in [
            with_extension(self.base, DESCRIPTION),
            with_extension(self.base, STATE),
            partial(self.base, PAIRS),
            partial(self.base, OFFSETS),
        ] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(DataError::Write { path, error });
                }
                _ => {}
            }
        }
        let writer = Writer::open(self.base, form, 0, 0)?;
        let read = Vec::new();
        Ok((State { done: new, read }, writer))
    }

    /// Reads the text in blocks, from this line on, until `send` returns false. The text before that line must have the
    /// hashes that it had when it was encoded.
    fn read_blocks(
        &self,
        pace: Pace,
        (start, read_before): (u64, Vec<String>),
        mut send: impl FnMut(Block) -> bool,
    ) -> Result<(), DataError> {
        let mut reader = PairReader::open(self.files)?;
        // Skipped lines are read, too: the hash is that of the whole text.
        for _ in 0..start {
            if reader.next().transpose()?.is_none() {
                break;
            }
        }
        let changed = || DataError::Changed {
            name: name_of(&self.recipe.text),
        };
        if start > 0 && reader.hashes_so_far() != read_before {
            return Err(changed());
        }
        loop {
            let (mut block, mut bytes) = (Vec::new(), 0);
            while block.len() < pace.block && bytes < pace.bytes {
                let Some(pair) = reader.next().transpose()? else {
                    break;
                };
                bytes += pair.source.len() + pair.target.len();
                block.push(pair);
            }
            if block.is_empty() {
                break;
            }
            if !send((block, reader.hashes_so_far())) {
                return Ok(());
            }
        }
        let (_, text, alignments) = reader.finish();
        let hash = |file: &crate::FileRecord| file.sha256.clone();
        let is_same = text.iter().map(hash).eq(self.recipe.text.iter().map(hash))
            && (self.recipe.alignments.is_none()
                || alignments.as_ref().map(hash) == self.recipe.alignments.as_ref().map(hash));
        match is_same {
            true => Ok(()),
            false => Err(changed()),
        }
    }

    /// Encodes, filters and writes the next lines.
    fn add<E: Into<BoxError>>(
        &self,
        block: Vec<PairOfLines>,
        encode: &Encoder<'_, E>,
        state: &mut Description,
        writer: &mut Writer,
    ) -> Result<(), DataError> {
        let filters = &self.recipe.filters;
        let first = state.report.read;
        let mut candidates = Vec::with_capacity(block.len());
        for (line, pair) in (first..).zip(block) {
            if filters.drop_empty && (is_blank(&pair.source) || is_blank(&pair.target)) {
                state.report.empty.add(line + 1);
            } else if self.duplicates.is_some_and(|lines| lines.contains(line)) {
                state.report.duplicate.add(line + 1);
            } else {
                candidates.push((line, pair));
            }
            state.report.read = line + 1;
        }
        let (lines, pairs): (Vec<u64>, Vec<PairOfLines>) = candidates.into_iter().unzip();
        let chunks: Vec<(&[u64], &[PairOfLines])> = lines.chunks(CHUNK).zip(pairs.chunks(CHUNK)).collect();
        let encoded = in_order(self.workers, &chunks, |(lines, pairs)| {
            let place = || {
                let line = |line: Option<&u64>| line.map_or(0, |line| line + 1);
                (state.report.corpus.clone(), line(lines.first()), line(lines.last()))
            };
            let verdict = |(line, pair): (&u64, &PairOfLines)| {
                let (cleaning, number) = self.cleaning?;
                cleaning.verdict(number, *line, &pair.source, &pair.target)
            };
            let verdicts: Vec<Option<Rule>> = lines.iter().zip(*pairs).map(verdict).collect();
            let clean: Vec<PairOfLines>;
            let pairs = match verdicts.iter().all(Option::is_none) {
                true => *pairs,
                false => {
                    let kept = pairs.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
                    clean = kept.map(|(pair, _)| pair.clone()).collect();
                    &clean
                }
            };
            let encoded = must_be_encoded(encode(pairs), pairs.len(), place)?;
            let mut encoded = encoded.into_iter();
            let outcome = |verdict: Option<Rule>| match verdict {
                Some(rule) => Some(Err(rule)),
                None => encoded.next().map(Ok),
            };
            Ok::<_, DataError>(verdicts.into_iter().filter_map(outcome).collect::<Vec<_>>())
        })?;
        let numbered = lines.into_iter().zip(pairs);
        for ((line, pair), outcome) in numbered.zip(encoded.into_iter().flatten()) {
            let report = &mut state.report;
            let mut encoded = match outcome {
                Ok(encoded) => encoded,
                Err(rule) => {
                    report.add_unclean(rule, line + 1);
                    continue;
                }
            };
            if !filters.admit(encoded.source.len() + 1, encoded.target.len() + 1, line + 1, report) {
                continue;
            }
            encoded.source.push(self.end_id);
            encoded.target.push(self.end_id);
            let mut links = pair.links;
            if self.recipe.links && encoded.has_other_words {
                links.clear();
                report.unaligned.add(line + 1);
            }
            report.kept += 1;
            state.source_tokens += encoded.source.len() as u64;
            state.target_tokens += encoded.target.len() as u64;
            writer.push(&Record {
                line,
                source: encoded.source,
                target: encoded.target,
                links,
            })?;
        }
        (state.pairs, state.bytes) = (writer.count(), writer.bytes());
        Ok(())
    }

    fn finish(&self, state: Description, writer: Writer) -> Result<PreparedCorpus, DataError> {
        let path = with_extension(self.base, DESCRIPTION);
        // Files without a description are not used: nothing stands between these two.
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        removed.map_err(|error| DataError::Write {
            path: path.clone(),
            error,
        })?;
        writer.finish()?;
        write_json(&path, &state)?;
        // It describes files that have other names now.
        let _ = fs::remove_file(with_extension(self.base, STATE));
        PreparedCorpus::open(self.base)?.ok_or_else(|| DataError::Prepared {
            path,
            reason: "it was removed at once".into(),
        })
    }
}

#[cfg(test)]
mod tests;
