//! The special pieces: their names, and how to find them in a foreign vocabulary.

/// Ends a sentence.
pub(crate) const END: &str = "</s>";
/// Stands for text that the vocabulary cannot express.
pub(crate) const UNKNOWN: &str = "<unk>";
/// Fills batches, and starts the decoder.
pub(crate) const PADDING: &str = "<pad>";

/// Names of the end of a sentence; the first is the one of learned vocabularies.
pub(crate) const END_NAMES: &[&str] = &[
    END,
    "<eos>",
    "[EOS]",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eos|>",
    "<|im_end|>",
    "[SEP]",
];
/// Names of the unknown piece; the first is the one of learned vocabularies.
pub(crate) const UNKNOWN_NAMES: &[&str] = &[UNKNOWN, "[UNK]", "<|unk|>", "<UNK>"];
/// Names of the padding; the first is the one of learned vocabularies.
pub(crate) const PADDING_NAMES: &[&str] = &[PADDING, "[PAD]", "<|pad|>", "<|padding|>", "<PAD>"];

/// The piece of a byte, as SentencePiece writes it.
pub(crate) fn byte(value: u8) -> String {
    format!("<0x{value:02X}>")
}

/// The byte of a byte piece (see [`byte`]).
pub(crate) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
    let is_byte = digits.len() == 2 && digits.bytes().all(is_digit);
    is_byte.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Whether a piece is a byte piece (see [`byte`]).
pub(crate) fn is_byte(piece: &str) -> bool {
    byte_of(piece).is_some()
}

/// The `index`-th piece that only fills up a vocabulary.
pub(crate) fn extra(index: usize) -> String {
    format!("<extra{index}>")
}

/// Whether a piece has a meaning of its own in every vocabulary.
pub(crate) fn is_reserved(piece: &str) -> bool {
    [END, UNKNOWN, PADDING].contains(&piece) || is_byte(piece) || is_extra(piece)
}

/// Whether a piece only fills up a vocabulary (see [`extra`]).
pub(crate) fn is_extra(piece: &str) -> bool {
    piece
        .strip_prefix("<extra")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_numbered_pieces() {
        assert_eq!(byte(0), "<0x00>");
        assert_eq!(byte(0xAF), "<0xAF>");
        assert!(is_byte(&byte(0x0B)) && !is_byte("<0x0b>") && !is_byte("<0x0B") && !is_byte("<0x100>"));
        assert!(is_extra(&extra(12)));
        assert!(!is_extra("<extra>") && !is_extra("<extra1") && !is_extra("<extra1x>"));
    }
}
