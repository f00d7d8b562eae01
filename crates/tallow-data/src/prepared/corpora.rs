//! Several prepared corpora as one source of pairs.

use super::file::PreparedCorpus;
use crate::cuts::Cuts;
use crate::error::DataError;
use crate::filter::FilterReport;
use crate::lines::FileRecord;
use crate::pair_source::{Pair, PairSource, PartOfPairs};

/// The prepared corpora of a run.
#[derive(Debug)]
pub struct PreparedCorpora {
    corpora: Vec<PreparedCorpus>,
    parts: Vec<PartOfPairs>,
    /// The id of the first line of each corpus.
    first_ids: Vec<u64>,
    cuts: Cuts,
}

impl PreparedCorpora {
    /// Corpora with their weights.
    ///
    /// # Errors
    /// Corpora that have no pair at all.
    pub fn new(corpora: Vec<(PreparedCorpus, f64)>) -> Result<Self, DataError> {
        let (mut parts, mut first_ids, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let (mut end, mut lines) = (0, 0);
        for (corpus, weight) in corpora {
            let count = usize::try_from(corpus.description().pairs).unwrap_or(usize::MAX);
            parts.push(PartOfPairs {
                pairs: end..end + count,
                weight,
            });
            first_ids.push(lines);
            end += count;
            lines += corpus.description().report.read;
            all.push(corpus);
        }
        if end == 0 {
            let reports: Vec<String> = all
                .iter()
                .map(|corpus| corpus.description().report.to_string())
                .collect();
            return Err(match all.is_empty() {
                true => DataError::NoCorpus,
                false => DataError::AllDropped {
                    read: lines,
                    report: reports.join("; "),
                },
            });
        }
        Ok(Self {
            corpora: all,
            parts,
            first_ids,
            cuts: Cuts::default(),
        })
    }

    /// The same pairs, cut in this way.
    #[must_use]
    pub fn with_cuts(self, cuts: Cuts) -> Self {
        Self { cuts, ..self }
    }

    /// The corpora.
    pub fn corpora(&self) -> &[PreparedCorpus] {
        &self.corpora
    }

    /// The reports of the filters, one for each corpus.
    pub fn reports(&self) -> impl ExactSizeIterator<Item = &FilterReport> {
        self.corpora.iter().map(|corpus| &corpus.description().report)
    }

    /// The files of all corpora with their hashes, for the record of a run: a resumed run can tell that they changed.
    pub fn files(&self) -> impl Iterator<Item = &FileRecord> {
        self.corpora.iter().flat_map(|corpus| {
            let recipe = &corpus.description().recipe;
            recipe.text.iter().chain(&recipe.alignments)
        })
    }

    /// The numbers of source and target tokens, each with `</s>`.
    pub fn tokens(&self) -> (u64, u64) {
        let each = self.corpora.iter().map(PreparedCorpus::description);
        each.fold((0, 0), |(source, target), of| {
            (source + of.source_tokens, target + of.target_tokens)
        })
    }
}

impl PairSource for PreparedCorpora {
    fn parts(&self) -> Vec<PartOfPairs> {
        self.parts.clone()
    }

    fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    fn read(&self, indices: &[usize], visit: &mut dyn FnMut(Pair<'_>)) -> Result<(), DataError> {
        let mut rest = indices;
        while let Some(&first) = rest.first() {
            let number = self.parts.partition_point(|part| part.pairs.end <= first);
            let pairs = &self.parts[number].pairs;
            let count = rest.iter().take_while(|index| pairs.contains(index)).count();
            let (of_corpus, others) = rest.split_at(count);
            let numbers = of_corpus.iter().map(|index| (index - pairs.start) as u64);
            self.corpora[number].read(count as u64, numbers, |record| {
                visit(Pair {
                    id: self.first_ids[number] + record.line,
                    source: &record.source,
                    target: &record.target,
                    links: &record.links,
                });
            })?;
            rest = others;
        }
        Ok(())
    }
}
