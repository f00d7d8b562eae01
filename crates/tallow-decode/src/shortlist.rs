//! Vocabulary shortlists: the target pieces that a sentence may be translated with.
//!
//! A shortlist is a safetensors file with three tensors of U32: `frequent`, the pieces that every sentence may use;
//! `candidates`, the translations of all source pieces, one after another; `ends`, for each source piece, where its
//! translations end. Its metadata has the version and the hashes of the tokenizers.

use crate::DecodeError;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tallow_data::Lexicon;
use tallow_text::Tokenizers;

/// The version of the file.
const FORMAT: &str = "1";

/// Which pieces a shortlist has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShortlistSize {
    /// The number of frequent target pieces that every sentence may use.
    pub frequent: usize,
    /// The greatest number of translations of a source piece.
    pub translations: usize,
    /// The least probability of a translation.
    pub least_probability: f32,
}

impl Default for ShortlistSize {
    fn default() -> Self {
        Self {
            frequent: 100,
            translations: 100,
            least_probability: 0.001,
        }
    }
}

/// The target pieces that a sentence may be translated with: the most frequent ones, the most probable translations of
/// its pieces, and, if both sides have one vocabulary, its own pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortlist {
    /// Ascending.
    frequent: Vec<u32>,
    /// The translations of each source piece.
    candidates: Vec<Vec<u32>>,
    /// The hashes of the tokenizers.
    tokenizers: [String; 2],
    /// Whether the pieces of the source are pieces of the target.
    is_shared: bool,
}

impl Shortlist {
    /// Makes a shortlist of learned probabilities.
    pub fn new(lexicon: &Lexicon, tokenizers: &Tokenizers, size: ShortlistSize) -> Self {
        let target = &tokenizers.target;
        let mut frequent = lexicon.frequent(size.frequent);
        frequent.extend([target.eos_id(), target.unk_id()]);
        sort(&mut frequent);
        let translations = |source: u32| {
            let found = lexicon.translations(source, size.translations, size.least_probability);
            found.into_iter().map(|(piece, _)| piece).collect()
        };
        Self {
            frequent,
            candidates: (0..tokenizers.source.vocabulary_size() as u32)
                .map(translations)
                .collect(),
            tokenizers: [&tokenizers.source, target].map(|tokenizer| tokenizer.sha256()),
            is_shared: tokenizers.is_shared_vocabulary(),
        }
    }

    /// The pieces that a sentence may be translated with, ascending.
    pub fn of_sentence(&self, source: &[u32]) -> Vec<u32> {
        let mut pieces = self.frequent.clone();
        for piece in source {
            pieces.extend(self.candidates.get(*piece as usize).into_iter().flatten());
            if self.is_shared {
                pieces.push(*piece);
            }
        }
        sort(&mut pieces);
        pieces
    }

    /// The mean number of translations of a source piece that has any.
    pub fn mean_translations(&self) -> f64 {
        let known = self.candidates.iter().filter(|pieces| !pieces.is_empty());
        let (count, sum) = known.fold((0usize, 0usize), |(count, sum), pieces| (count + 1, sum + pieces.len()));
        sum as f64 / count.max(1) as f64
    }

    /// Writes the file: first aside, then renamed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DecodeError> {
        let bytes = |ids: &mut dyn Iterator<Item = u32>| ids.flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
        let mut end = 0;
        let ends = bytes(&mut self.candidates.iter().map(|pieces| {
            end += pieces.len() as u32;
            end
        }));
        let tensors = [
            ("frequent", bytes(&mut self.frequent.iter().copied())),
            ("candidates", bytes(&mut self.candidates.iter().flatten().copied())),
            ("ends", ends),
        ];
        let views: Result<Vec<_>, _> = tensors
            .iter()
            .map(|(name, bytes)| Ok((*name, TensorView::new(Dtype::U32, vec![bytes.len() / 4], bytes)?)))
            .collect();
        let [source, target] = self.tokenizers.clone();
        let metadata = HashMap::from([
            ("shortlist".to_owned(), FORMAT.to_owned()),
            ("source_sha256".to_owned(), source),
            ("target_sha256".to_owned(), target),
            ("shared".to_owned(), self.is_shared.to_string()),
        ]);
        let written = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
        let written = written
            .map_err(|error| std::io::Error::other(error.to_string()))
            .and_then(|contents| {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".partial");
                std::fs::write(&aside, contents)?;
                std::fs::rename(aside, path)
            });
        written.map_err(|source| DecodeError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// Opens a file for the tokenizers of a model.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was made for other tokenizers.
    pub fn open(path: &Path, tokenizers: &Tokenizers) -> Result<Self, DecodeError> {
        let bytes = std::fs::read(path).map_err(|source| DecodeError::File {
            path: path.to_owned(),
            source,
        })?;
        let fault = |reason: String| DecodeError::Shortlist {
            path: PathBuf::from(path),
            reason,
        };
        let found = Self::parse(&bytes).map_err(fault)?;
        let own = [&tokenizers.source, &tokenizers.target].map(|tokenizer| tokenizer.sha256());
        if found.tokenizers != own {
            return Err(fault(
                "it was made for another vocabulary; make one for this model".into(),
            ));
        }
        let pieces = tokenizers.target.vocabulary_size() as u32;
        let ids = found.frequent.iter().chain(found.candidates.iter().flatten());
        if found.candidates.len() != tokenizers.source.vocabulary_size() || ids.into_iter().any(|id| *id >= pieces) {
            return Err(fault("it is damaged; make it again".into()));
        }
        Ok(found)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let damaged = |_| "it is no shortlist, or damaged".to_owned();
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let word = |key: &str| metadata.get(key).cloned().unwrap_or_default();
        match word("shortlist").as_str() {
            FORMAT => {}
            "" => return Err("it is no shortlist".into()),
            other => return Err(format!("it has version {other}, not {FORMAT}")),
        }
        let ids = |name: &str| -> Result<Vec<u32>, String> {
            let tensor = tensors.tensor(name).map_err(damaged)?;
            if tensor.dtype() != Dtype::U32 {
                return Err(format!("{name} has numbers of another type"));
            }
            let (words, _) = tensor.data().as_chunks();
            Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
        };
        let (candidates, mut begin) = (ids("candidates")?, 0);
        let mut of_pieces = Vec::new();
        for end in ids("ends")? {
            let range = begin..end as usize;
            of_pieces.push(candidates.get(range).ok_or("it is damaged")?.to_vec());
            begin = end as usize;
        }
        Ok(Self {
            frequent: ids("frequent")?,
            candidates: of_pieces,
            tokenizers: ["source_sha256", "target_sha256"].map(word),
            is_shared: word("shared") == "true",
        })
    }
}

fn sort(pieces: &mut Vec<u32>) {
    pieces.sort_unstable();
    pieces.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallow_text::{Kind, TextConfig};

    fn tokenizers() -> Tokenizers {
        let config = TextConfig {
            kind: Kind::Word,
            vocabulary: 40,
            byte_fallback: false,
            ..TextConfig::default()
        };
        Tokenizers::learn(
            &config,
            ["the house the book a book"],
            ["das Haus das Buch ein Buch"],
            1,
        )
        .unwrap()
    }

    fn shortlist(tokenizers: &Tokenizers) -> Shortlist {
        let pairs = [
            ("the house", "das Haus"),
            ("the book", "das Buch"),
            ("a book", "ein Buch"),
            ("the", "das"),
        ];
        let encode = |(source, target): &(&str, &str)| {
            (
                tokenizers.source.encode(source).unwrap(),
                tokenizers.target.encode(target).unwrap(),
            )
        };
        let pairs: Vec<(Vec<u32>, Vec<u32>)> = pairs.iter().map(encode).collect();
        let size = ShortlistSize {
            frequent: 1,
            translations: 1,
            ..ShortlistSize::default()
        };
        Shortlist::new(&Lexicon::learn(&pairs), tokenizers, size)
    }

    #[test]
    fn candidates_of_a_sentence() {
        let tokenizers = tokenizers();
        let source = tokenizers.source.encode("a house").unwrap();
        let found = shortlist(&tokenizers).of_sentence(&source);
        let mut expected = tokenizers.target.encode("ein Haus").unwrap();
        // The most frequent word, the pieces of the source, and two special ones.
        expected.extend(tokenizers.target.encode("das").unwrap());
        expected.extend(source);
        expected.extend([tokenizers.target.eos_id(), tokenizers.target.unk_id()]);
        sort(&mut expected);
        assert_eq!(found, expected);
    }

    #[test]
    fn files() {
        let tokenizers = tokenizers();
        let written = shortlist(&tokenizers);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shortlist");
        written.save(&path).unwrap();
        assert_eq!(Shortlist::open(&path, &tokenizers).unwrap(), written);
        let config = TextConfig {
            kind: Kind::Word,
            vocabulary: 40,
            byte_fallback: false,
            ..TextConfig::default()
        };
        let others = Tokenizers::learn(&config, ["x y"], ["x z"], 1).unwrap();
        let error = Shortlist::open(&path, &others).unwrap_err().to_string();
        assert!(error.contains("made for another vocabulary"), "{error}");
        let bytes = std::fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() - 3], &bytes[..5], b"", b"no shortlist"] {
            std::fs::write(&path, damaged).unwrap();
            let error = Shortlist::open(&path, &tokenizers).unwrap_err();
            assert!(matches!(error, DecodeError::Shortlist { .. }), "{error}");
        }
        let mut beyond = written.clone();
        beyond.candidates[0] = vec![1000];
        beyond.save(&path).unwrap();
        let error = Shortlist::open(&path, &tokenizers).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        assert!(Shortlist::open(&folder.path().join("absent"), &tokenizers).is_err());
    }
}
