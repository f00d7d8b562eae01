//! Text in capitals.

use crate::kept_parts::segments;

/// The text in capitals, but for addresses, placeholders and markup.
pub(super) fn upper(text: &str) -> String {
    segments(text)
        .map(|(part, is_kept)| match is_kept {
            true => part.to_owned(),
            false => part.to_uppercase(),
        })
        .collect()
}

/// The text with a capital at the beginning of each word, but for addresses, placeholders and markup.
pub(super) fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    for (part, is_kept) in segments(text) {
        if is_kept {
            titled.push_str(part);
            continue;
        }
        let mut is_inside = false;
        for character in part.chars() {
            match character.is_alphabetic() && !is_inside {
                true => titled.extend(character.to_uppercase()),
                false => titled.push(character),
            }
            // An apostrophe or a hyphen does not end a word, and a digit begins one.
            is_inside = character.is_alphanumeric() || (is_inside && "'’-".contains(character));
        }
    }
    titled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_leave_what_must_be_kept() {
        let text = "see https://a.de/b or %s: don't do straße, {name} <b>x</b>";
        assert_eq!(
            upper(text),
            "SEE https://a.de/b OR %s: DON'T DO STRASSE, {name} <b>X</b>"
        );
        assert_eq!(
            title(text),
            "See https://a.de/b Or %s: Don't Do Straße, {name} <b>X</b>"
        );
        assert_eq!(title("the 2nd élan of jean-luc"), "The 2nd Élan Of Jean-luc");
        assert_eq!((upper(""), title("")), (String::new(), String::new()));
    }
}
