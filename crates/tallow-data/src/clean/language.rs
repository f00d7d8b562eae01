//! Whether text is in the language of its side.

use crate::language::Language;
use whatlang::{Lang, Script};

/// Shorter text says too little about its language.
const LEAST_LETTERS: usize = 30;
/// Shorter text says too little about its script.
const LEAST_LETTERS_OF_SCRIPT: usize = 8;

/// The language that a side should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted(Lang);

impl Wanted {
    /// The language of a code such as `en` or `pt-BR`; none if the code is empty.
    ///
    /// # Errors
    /// A message about a language that cannot be told apart.
    pub(super) fn new(code: &str) -> Result<Option<Self>, String> {
        if code.is_empty() {
            return Ok(None);
        }
        let told =
            || format!("{code:?} cannot be told from other languages; \"\" in its place leaves this side unchecked");
        Language::of_code(code)
            .map(|language| Some(Self(language.lang())))
            .ok_or_else(told)
    }

    /// Whether a text is surely in another language. Text of the language of the other side is told best.
    pub(super) fn is_missed_by(self, text: &str, other: Option<Self>) -> bool {
        let letters = text.chars().filter(|c| c.is_alphabetic()).count();
        if letters < LEAST_LETTERS_OF_SCRIPT {
            return false;
        }
        let script = whatlang::detect_script(text);
        if script.is_some_and(|script| !self.is_written_in(script)) {
            return true;
        }
        let is_sure = |found: whatlang::Info| found.is_reliable() && !self.is_like(found.lang());
        let is_of_other_side = |other: Self| {
            let detector = whatlang::Detector::with_allowlist(vec![self.0, other.0]);
            detector.detect(text).is_some_and(is_sure)
        };
        letters >= LEAST_LETTERS && (whatlang::detect(text).is_some_and(is_sure) || other.is_some_and(is_of_other_side))
    }

    fn is_written_in(self, script: Script) -> bool {
        // Chinese characters alone may be Japanese.
        script.langs().contains(&self.0) || (self.0 == Lang::Jpn && script == Script::Mandarin)
    }

    /// Whether short text of the two languages is easily confused.
    fn is_like(self, other: Lang) -> bool {
        const ALIKE: [&[Lang]; 7] = [
            &[Lang::Nob, Lang::Dan, Lang::Swe],
            &[Lang::Hrv, Lang::Srp, Lang::Slv],
            &[Lang::Ces, Lang::Slk],
            &[Lang::Spa, Lang::Por, Lang::Cat],
            &[Lang::Nld, Lang::Afr],
            &[Lang::Ind, Lang::Jav],
            &[Lang::Cmn, Lang::Jpn],
        ];
        self.0 == other
            || ALIKE
                .iter()
                .any(|group| group.contains(&self.0) && group.contains(&other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart() {
        let wanted = |code: &str| Wanted::new(code).unwrap().unwrap();
        let english = "A man in a blue shirt is standing on a ladder cleaning a window.";
        let german = "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.";
        let russian = "Мужчина в синей рубашке стоит на лестнице и моет окно.";
        for (code, other, right, wrong) in [
            ("en", "de", english, german),
            ("de-AT", "en", german, english),
            ("deu", "en", german, russian),
            ("ru", "en", russian, english),
        ] {
            let (code, other) = (wanted(code), Some(wanted(other)));
            assert!(!code.is_missed_by(right, other), "{code:?}");
            assert!(code.is_missed_by(wrong, other), "{code:?}");
        }
        // Too short to tell, but for another script.
        let misses = |code: &str, text: &str| wanted(code).is_missed_by(text, None);
        assert!(!misses("de", "Open file") && misses("ru", "Open the file"));
        assert!(!misses("ja", "東京都知事選挙立候補者一覧") && !misses("de", "12.5 %"));
        assert_eq!(Wanted::new(""), Ok(None));
        let error = Wanted::new("xx").unwrap_err();
        assert!(error.contains("\"xx\" cannot be told"), "{error}");
    }
}
