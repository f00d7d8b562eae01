//! Aligned corpora to filtered, bucketed batches.
//!
//! ```text
//! files --ParallelText--> lines --Corpus--> encoded pairs --Sampler--> windows of an epoch
//!       --BatchStream--> Batch --shards--> one Batch per worker --flatten--> FlatBatch
//! ```
//!
//! Three rules hold for the whole crate:
//!
//! - **Nothing is lost silently.** Input that cannot be read gives one [`DataError`] that names file and line. Pairs
//!   that filters drop are counted by reason ([`FilterReport`]). Small repairs, such as a removed carriage return, are
//!   counted too ([`ReadReport`]).
//! - **The order of the data depends only on the seed and the epoch** ([`Sampler`]), never on the timing of threads. So
//!   a [`BatchStream`] that starts at the [`Cursor`] of a checkpoint continues as if it had never stopped.
//! - **The crate knows no tensors and no tokenizer.** The caller passes closures to [`Corpus::build`] for encoding, and
//!   to [`Corpus::recut_with`] for cutting sentences anew. A [`FlatBatch`] has plain vectors.

mod augment;
mod batch;
mod bit_set;
mod clean;
mod config;
mod corpus;
mod corpus_files;
mod count;
mod cursor;
mod cuts;
mod deal;
mod duplicates;
mod epoch_order;
mod error;
mod evaluation_sets;
mod file_signature;
mod filter;
mod flat;
mod kept_parts;
mod language;
mod lexicon;
mod line_alignment;
mod line_sample;
mod lines;
mod pair_reader;
mod pair_source;
mod parallel;
mod permutation;
mod po;
mod pool;
mod prepared;
mod sampler;
mod shards;
mod shuffle;
mod stage;
mod stream;
mod survey;
mod tally;
mod text_record;
mod tmx;
pub mod toy;
mod window;
mod word_alignments;

pub use augment::{AugmentConfig, Augmentation, ToText, ToTokens};
pub use batch::{Batch, Example};
pub use bit_set::BitSet;
pub use clean::{CleanConfig, Cleaning, Rule, simplified};
pub use config::{DataConfig, MEAN};
pub use corpus::Corpus;
pub use corpus_files::CorpusFiles;
pub use cursor::Cursor;
pub use cuts::{Cuts, Recut, has_words_of};
pub use deal::deal;
pub use duplicates::{duplicates, remove_leftovers};
pub use error::{BoxError, DataError};
pub use evaluation_sets::EvaluationSets;
pub use file_signature::Format;
pub use filter::{FilterReport, Filters, Unclean};
pub use flat::FlatBatch;
pub use kept_parts::has_placeholders;
pub use language::Language;
pub use lexicon::Lexicon;
pub use line_alignment::{LineAlignment, Stretch};
pub use line_sample::LineSample;
pub use lines::{
    Compression, FileRecord, LineReader, ReadReport, TextFile, hexadecimal, is_blank, read_lines, read_lines_from,
};
pub use pair_reader::{PairOfLines, PairReader, Side, SideReader};
pub use pair_source::{Pair, PairSource, PartOfPairs};
pub use parallel::{ParallelText, name_of};
pub use pool::{WorkerLost, in_order};
pub use prepared::{Description, Earlier, Encoded, Encoder, Preparation, PreparedCorpora, PreparedCorpus, Recipe};
pub use sampler::{Sampler, fixed_batches};
pub use shuffle::keyed_hash;
pub use stage::{Stage, StageEnd};
pub use stream::BatchStream;
pub use survey::{HISTOGRAM, Overlap, Sides, Spelling, Survey, TokenSurvey, TokenTally};
pub use tally::Tally;
pub use text_record::{Reading, TextRecord};
pub use window::Window;
pub use word_alignments::{Link, WordAlignments, WordsOf, token_links};
