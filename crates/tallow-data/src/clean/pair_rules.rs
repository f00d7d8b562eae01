//! Rules that look at one pair alone.

use super::language::Wanted;
use super::parts::Parts;
use super::{CleanConfig, Rule};
use crate::survey::{is_copied, is_misread};

/// Added to both lengths before they are compared: short text varies more.
const ADDED: f64 = 10.0;

#[derive(Debug)]
pub(super) struct PairRules {
    config: CleanConfig,
    wanted: [Option<Wanted>; 2],
}

impl PairRules {
    pub(super) fn new(config: &CleanConfig) -> Self {
        let codes = config.languages.clone().unwrap_or_default();
        Self {
            config: config.clone(),
            // Unknown codes are faults of the config, which are told elsewhere.
            wanted: codes.map(|code| Wanted::new(&code).unwrap_or_default()),
        }
    }

    /// The first rule that drops a pair.
    pub(super) fn verdict(&self, source: &str, target: &str) -> Option<Rule> {
        let config = &self.config;
        let sides = [source, target];
        if config.broken && sides.into_iter().any(is_broken) {
            return Some(Rule::Broken);
        }
        let has_many_words = |side: &str| side.split_whitespace().nth(config.max_words).is_some();
        if config.max_words > 0 && sides.into_iter().any(has_many_words) {
            return Some(Rule::TooManyWords);
        }
        let lengths = sides.map(|side| side.trim().chars().count() as f64 + ADDED);
        let (shorter, longer) = (lengths[0].min(lengths[1]), lengths[0].max(lengths[1]));
        if config.max_length_ratio > 0.0 && longer > config.max_length_ratio * shorter {
            return Some(Rule::Lengths);
        }
        let parts = sides.map(Parts::of);
        let [ours, theirs] = &parts;
        let has_few_letters = |parts: &Parts| letter_share(&parts.text) < config.min_letters;
        if config.min_letters > 0.0 && parts.iter().any(has_few_letters) {
            Some(Rule::Letters)
        } else if config.copies && is_copied(source, target) {
            Some(Rule::Copy)
        } else if config.numbers && ours.numbers != theirs.numbers {
            Some(Rule::Numbers)
        } else if config.links && ours.links != theirs.links {
            Some(Rule::Links)
        } else if config.placeholders && ours.placeholders != theirs.placeholders {
            Some(Rule::Placeholders)
        } else {
            let [source, target] = self.wanted;
            let sides = [(source, target, ours), (target, source, theirs)];
            let is_missed = |(wanted, other, parts): (Option<Wanted>, Option<Wanted>, &Parts)| {
                wanted.is_some_and(|wanted| wanted.is_missed_by(&parts.text, other))
            };
            sides.into_iter().any(is_missed).then_some(Rule::Language)
        }
    }
}

/// Whether a line has a mark of lost characters, UTF-8 that was read as Latin-1, or control characters.
fn is_broken(line: &str) -> bool {
    line.contains('\u{fffd}') || is_misread(line) || line.chars().any(|c| c.is_control() && c != '\t')
}

/// The share of letters and marks among the characters that are no white space; 1 if there are none.
fn letter_share(text: &str) -> f64 {
    let (mut letters, mut all) = (0, 0);
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        all += 1;
        // Marks belong to letters, in scripts of India for example.
        letters += u32::from(c.is_alphabetic() || !c.is_ascii() && !c.is_numeric() && is_mark(c));
    }
    match all {
        0 => 1.0,
        all => f64::from(letters) / f64::from(all),
    }
}

fn is_mark(c: char) -> bool {
    use unicode_general_category::GeneralCategory::{EnclosingMark, NonspacingMark, SpacingMark};
    let category = unicode_general_category::get_general_category(c);
    matches!(category, EnclosingMark | NonspacingMark | SpacingMark)
}

/// A line for comparing: letters in lower case and single spaces. A line without letters stays what it is.
pub fn simplified(line: &str) -> String {
    let letters: String = line
        .chars()
        .map(|c| if c.is_alphabetic() || is_mark(c) { c } else { ' ' })
        .flat_map(char::to_lowercase)
        .collect();
    let words: Vec<&str> = letters.split_whitespace().collect();
    match words.is_empty() {
        true => line.trim().to_owned(),
        false => words.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(source: &str, target: &str) -> Option<Rule> {
        let config = CleanConfig {
            languages: Some(["en".into(), "de".into()]),
            ..CleanConfig::default()
        };
        PairRules::new(&config).verdict(source, target)
    }

    #[test]
    fn every_rule_finds_its_fault() {
        let long = "word ".repeat(201);
        for (source, target, rule) in [
            ("A green bicycle.", "Ein gr\u{fffd}nes Fahrrad.", Rule::Broken),
            ("A green bicycle.", "Ein grÃ¼nes Fahrrad.", Rule::Broken),
            ("A green\u{7} bicycle.", "Ein grünes Fahrrad.", Rule::Broken),
            (long.as_str(), long.as_str(), Rule::TooManyWords),
            (
                "Yes.",
                "Ja, das ist ganz bestimmt und ohne jeden Zweifel so.",
                Rule::Lengths,
            ),
            ("---- * * * ----", "---- * * * ----", Rule::Letters),
            ("Open the file", "Open the file", Rule::Copy),
            ("It has 120 pages.", "Es hat 210 Seiten.", Rule::Numbers),
            ("See www.a.org now", "Siehe www.b.org jetzt", Rule::Links),
            ("Open %s in %s", "%s öffnen", Rule::Placeholders),
            ("<b>Bold</b> text", "<b>Fetter Text", Rule::Placeholders),
            (
                "A man stands on a ladder and cleans a window.",
                "The man stands on the ladder, cleaning the window.",
                Rule::Language,
            ),
        ] {
            assert_eq!(verdict(source, target), Some(rule), "{source} {target}");
        }
    }

    #[test]
    fn translations_stay() {
        for (source, target) in [
            ("OK", "OK"),
            ("Hamburg Airport", "Hamburg Airport"),
            ("Yes.", "Ja."),
            (
                "Two men, 1,500 dogs and 3 cats",
                "2 Männer, 1.500 Hunde und drei Katzen",
            ),
            ("Save %s as <i>%s</i> (50 %)", "%s als <i>%s</i> sichern (50 %)"),
            ("C++", "C++"),
            ("%d%%", "%d%%"),
        ] {
            assert_eq!(verdict(source, target), None, "{source} {target}");
        }
    }

    #[test]
    fn rules_can_be_switched_off() {
        let config = CleanConfig {
            languages: None,
            broken: false,
            max_words: 0,
            max_length_ratio: 0.0,
            min_letters: 0.0,
            copies: false,
            numbers: false,
            links: false,
            placeholders: false,
            ..CleanConfig::default()
        };
        let rules = PairRules::new(&config);
        let odd = "\u{fffd} 123 %s http://x.y ".repeat(300);
        assert_eq!(rules.verdict(&odd, "x"), None);
        assert_eq!(rules.verdict("the same three words", "the same three words"), None);
    }

    #[test]
    fn lines_are_simplified() {
        assert_eq!(simplified("  Open, 3 FILES (now)! "), "open files now");
        assert_eq!(simplified(" 12-3 "), "12-3");
    }
}
