//! Languages that are told apart by their scripts and by groups of three letters (the crate `whatlang`).

use whatlang::{Detector, Lang};

/// Codes of two letters (ISO 639-1) and of three (ISO 639-3) of the languages that are told apart.
const CODES: &str = "eo epo en eng ru rus zh cmn es spa pt por it ita bn ben fr fra de deu uk ukr ka kat ar ara hi hin ja \
                     jpn he heb yi yid pl pol am amh jv jav ko kor no nob nb nob da dan sv swe fi fin tr tur nl nld hu hun \
                     cs ces el ell bg bul be bel mr mar kn kan ro ron sl slv hr hrv sr srp mk mkd lt lit lv lav et est ta \
                     tam vi vie ur urd th tha gu guj uz uzb pa pan az aze id ind te tel fa pes ml mal or ori my mya ne \
                     nep si sin km khm tk tuk ak aka zu zul sn sna af afr la lat sk slk ca cat tl tgl hy hye cy cym";

/// A language that is told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language(Lang);

impl Language {
    /// The language of a code such as `en`, `eng` or `pt-BR`, if it is told from others.
    pub fn of_code(code: &str) -> Option<Self> {
        let lower = code.to_ascii_lowercase();
        let primary = lower.split(['-', '_']).next().unwrap_or_default();
        let mut codes = CODES.split_whitespace();
        let mut long = (primary.len() == 3).then_some(primary);
        while let (Some(short), Some(three)) = (codes.next(), codes.next()) {
            if short == primary {
                long = Some(three);
            }
        }
        long.and_then(Lang::from_code).map(Self)
    }

    /// The language of a text among some, by its place there, and how sure that is, from 0 to 1.
    pub fn detect(text: &str, among: &[Self]) -> Option<(usize, f64)> {
        if let [one] = among {
            // Among one language, every text would surely be in it.
            let found = whatlang::detect(text)?;
            return Some((0, if found.lang() == one.0 { found.confidence() } else { 0.0 }));
        }
        let detector = Detector::with_allowlist(among.iter().map(|language| language.0).collect());
        let found = detector.detect(text)?;
        let place = among.iter().position(|language| language.0 == found.lang())?;
        Some((place, found.confidence()))
    }

    /// Its name in English.
    pub fn name(self) -> &'static str {
        self.0.eng_name()
    }

    /// Its code of three letters (ISO 639-3).
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    pub(crate) fn lang(self) -> Lang {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_known() {
        let codes: Vec<&str> = CODES.split_whitespace().collect();
        for pair in codes.chunks(2) {
            assert!(Language::of_code(pair[0]).is_some(), "{pair:?}");
            assert_eq!(Language::of_code(pair[0]), Language::of_code(pair[1]), "{pair:?}");
        }
        let all = Lang::all().iter().filter(|lang| !codes.contains(&lang.code()));
        assert_eq!(all.count(), 0);
        assert_eq!(Language::of_code("xx"), None);
        let german = Language::of_code("de-AT").unwrap();
        assert_eq!((german.name(), german.code()), ("German", "deu"));
    }

    #[test]
    fn the_language_is_one_of_those_named() {
        let among = ["en", "de", "cs"].map(|code| Language::of_code(code).unwrap());
        let text = "Ein Mann in einem blauen Hemd steht auf einer Leiter.";
        let (place, confidence) = Language::detect(text, &among).unwrap();
        assert!(place == 1 && confidence > 0.5);
        assert_eq!(Language::detect("12.5 %", &among), None);
        assert_eq!(Language::detect(text, &among[..1]), Some((0, 0.0)));
        assert!(Language::detect(text, &among[1..2]).is_some_and(|(_, confidence)| confidence > 0.5));
    }
}
