//! Subword tokenizers: learn, open, encode, decode.
//!
//! A [`Tokenizer`] turns a line of text into piece ids and back. [`Tokenizers`] is the pair that a translation model
//! needs: one tokenizer per side, or the same one for both sides when the vocabulary is joint. Four kinds of vocabulary
//! can be learned from raw text ([`Kind`]). Existing tokenizers can be opened instead: any `tokenizer.json` of the
//! Hugging Face `tokenizers` library, the files of `MarianTokenizer` (SentencePiece models and a vocabulary), and the
//! vocabularies of the Marian toolkit.
//!
//! # Ids of a learned vocabulary
//!
//! | id | piece |
//! |---|---|
//! | 0 | `</s>`, the end of a sentence |
//! | 1 | `<unk>`, whatever the vocabulary cannot express |
//! | 2 ... 257 | `<0x00>` ... `<0xFF>`, only with byte fallback |
//! | then | pieces that are never cut: those of `text.symbols`, then language tags |
//! | then | what was learned |
//! | then | `<extra0>`, `<extra1>` ..., only in the smaller of two separate vocabularies |
//! | last | `<pad>` |
//!
//! # What survives encoding and decoding
//!
//! With `normalization = "none"` and `trim = false`, [`Tokenizer::decode`] gives back exactly the line that
//! [`Tokenizer::encode`] got, spaces included. This holds for the kinds `bpe`, `unigram` and `char`, when every
//! character of the line is in the vocabulary or byte fallback is on. There are two exceptions: U+2581 (`▁`), which
//! marks spaces in the pieces, comes back as a space, and so does the boundary after a language tag. Text that spells a
//! special piece, such as `</s>` or `<0x41>`, is encoded as text. `pipeline.rs` describes how a line is cut before a
//! model sees it.
//!
//! Nothing here reads the environment, and no id depends on the number of threads.

mod alphabet;
mod bpe;
mod config;
mod cut;
mod error;
mod files;
mod hazards;
mod imported;
mod kind;
mod language_tag;
mod line_encoder;
mod lines;
mod marian;
mod marian_tokenizer;
mod pair;
mod pipeline;
mod regularization;
mod sentencepiece;
mod sentencepiece_model;
mod special;
mod symbols;
mod tokenizer;
mod trim;
mod unigram;
mod vocabulary;
mod word_begins;
mod word_cuts;
mod words;

pub use config::TextConfig;
pub use cut::{Cut, RankedCut};
pub use error::TextError;
pub use kind::{Kind, Normalization};
pub use language_tag::written as written_language_tag;
pub use line_encoder::LineEncoder;
pub use lines::Lines;
pub use pair::Tokenizers;
pub use regularization::SubwordSampler;
pub use sentencepiece_model::SentencePieceModel;
pub use tokenizer::Tokenizer;
pub use word_begins::WordBegins;
