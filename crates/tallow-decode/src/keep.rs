//! Text that must not be translated: addresses, tags, numbers, emoji.

use crate::Keep;

/// The stretches of a line that are kept, in order, each once. They are words, or parts of words between punctuation.
pub(crate) fn kept<'a>(line: &'a str, kinds: &[Keep]) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    if kinds.is_empty() {
        return found;
    }
    for word in words(line) {
        let is = |kind: Keep| kinds.contains(&kind);
        let inner = word.trim_matches(is_punctuation);
        if let Some(tag) = tag_of(word).filter(|_| is(Keep::Tag)) {
            found.push(tag);
        } else if tag_of(word).is_some() {
            // Not a number either.
        } else if (is(Keep::Url) && is_url(inner)) || (is(Keep::Email) && is_email(inner)) {
            // An address may end with a slash.
            let slash = word.find(inner).and_then(|at| word.get(at..=at + inner.len()));
            found.push(slash.filter(|longer| longer.ends_with('/')).unwrap_or(inner));
        } else if is(Keep::Number) && is_number(inner) {
            found.push(inner);
        } else if is(Keep::Emoji) {
            found.extend(emoji(word));
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|text| !text.is_empty() && seen.insert(*text));
    found
}

/// The words of a line. White space does not divide a tag, such as `<a href="x">`.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut begin = 0;
    let mut closing = None;
    for (at, c) in line.char_indices() {
        match c {
            _ if closing == Some(c) => {
                words.push(&line[begin..at + c.len_utf8()]);
                (begin, closing) = (at + c.len_utf8(), None);
            }
            '<' if closing.is_none() && begins_tag(&line[at..]) => {
                words.push(&line[begin..at]);
                (begin, closing) = (at, Some('>'));
            }
            _ if c.is_whitespace() && closing.is_none() => {
                words.push(&line[begin..at]);
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    words.push(&line[begin..]);
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a tag begins here: `<` with a name or `/` behind it, and `>` before the next `<`.
fn begins_tag(text: &str) -> bool {
    let inner = &text[1..];
    let is_named = inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let end = inner.find(['<', '>']);
    is_named && end.is_some_and(|end| inner[end..].starts_with('>'))
}

/// The tag that a word is, without what stands behind it in a sentence.
fn tag_of(word: &str) -> Option<&str> {
    let trimmed = word.trim_end_matches(['.', ',', ';', ':', '!', '?']);
    let entity = word.find(';').map_or(word, |end| &word[..=end]);
    [word, entity, trimmed].into_iter().find(|text| is_tag(text))
}

/// `<b>`, `</b>`, `{name}`, `{0}`, `%s`, `%(name)s`, `&amp;`.
fn is_tag(word: &str) -> bool {
    let between = |begin, end| word.len() > 2 && word.starts_with(begin) && word.ends_with(end);
    let is_entity = between('&', ';')
        && word[1..word.len() - 1]
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '#');
    let is_format = word.strip_prefix('%').is_some_and(|rest| {
        let rest = rest.rsplit(')').next().unwrap_or_default();
        rest.len() <= 4 && rest.ends_with(['s', 'd', 'f', 'i', 'u', 'x'])
    });
    between('<', '>') || between('{', '}') || is_entity || is_format
}

fn is_url(word: &str) -> bool {
    let rest = word.split_once("://");
    let has_scheme = rest.is_some_and(|(scheme, rest)| {
        !rest.is_empty() && !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    });
    has_scheme || word.strip_prefix("www.").is_some_and(|rest| rest.contains('.'))
}

fn is_email(word: &str) -> bool {
    let Some((name, domain)) = word.split_once('@') else {
        return false;
    };
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "._%+-".contains(c));
    is_name(name) && is_name(domain) && domain.split('.').count() > 1 && !domain.ends_with('.')
}

/// Digits, with signs and separators: `1,000.5`, `-7`, `12:30`, `50%`, `A4`.
fn is_number(word: &str) -> bool {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    word.chars().any(char::is_numeric) && letters <= 1 && !word.contains('@')
}

/// Runs of pictures, with the joiners and selectors between them.
fn emoji(word: &str) -> Vec<&str> {
    let is_picture = |c: char| {
        matches!(u32::from(c), 0x203c | 0x2049 | 0x2122 | 0x2139 | 0x2194..=0x21aa
        | 0x231a..=0x23ff | 0x25aa..=0x27bf | 0x2934..=0x2935 | 0x2b05..=0x2b55 | 0x1f000..=0x1faff)
    };
    let goes_on = |c: char| matches!(u32::from(c), 0x200d | 0xfe0f | 0x20e3 | 0xe0020..=0xe007f);
    let mut runs = Vec::new();
    let mut begin = None;
    for (at, c) in word.char_indices() {
        match (begin, is_picture(c)) {
            (None, true) => begin = Some(at),
            (Some(first), false) if !goes_on(c) => {
                runs.push(&word[first..at]);
                begin = None;
            }
            _ => {}
        }
    }
    runs.extend(begin.map(|first| &word[first..]));
    runs
}

/// What stands around a word in a sentence.
fn is_punctuation(c: char) -> bool {
    matches!(
        c,
        '.' | ','
            | ';'
            | ':'
            | '!'
            | '?'
            | '('
            | ')'
            | '['
            | ']'
            | '"'
            | '\''
            | '„'
            | '“'
            | '”'
            | '‘'
            | '’'
            | '«'
            | '»'
            | '…'
            | '/'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NamedChoice;

    #[test]
    fn what_is_kept() {
        let all = |line| kept(line, Keep::ALL);
        assert_eq!(
            all("See https://example.org/a?b=1, or (www.example.org/) now."),
            ["https://example.org/a?b=1", "www.example.org/"]
        );
        assert_eq!(all("Ask jane.doe+x@mail.example.org!"), ["jane.doe+x@mail.example.org"]);
        assert_eq!(
            all("Press <b class=\"x y\">OK</b>, {name}, or %s."),
            ["<b class=\"x y\">", "</b>", "{name}", "%s"]
        );
        assert_eq!(
            all("In 1984, 1,000.5 men paid 50% at 12:30"),
            ["1984", "1,000.5", "50%", "12:30"]
        );
        assert_eq!(all("Fine 👍🏽 day☀️! 👍🏽"), ["👍🏽", "☀️"]);
        for plain in [
            "",
            "A man sleeps.",
            "a < b > c",
            "me @ home",
            "http://",
            "and/or",
            "100th anniversaries2go",
        ] {
            assert_eq!(all(plain), [""; 0], "{plain}");
        }
        assert_eq!(kept("7 https://a.b", &[Keep::Url]), ["https://a.b"]);
        assert_eq!(kept("7 https://a.b", &[]), [""; 0]);
    }

    /// Any text: no panic, and everything that is kept stands in the line.
    #[test]
    fn any_line() {
        let fragments = [
            "<", ">", "a", " ", "@", ".", "://", "é", "{", "}", "%", "9", "☀", "\u{fe0f}", "&", ";", "/", "www.",
        ];
        let mut state = 3u32;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % bound
        };
        for _ in 0..20_000 {
            let line: String = (0..below(14)).map(|_| fragments[below(fragments.len())]).collect();
            assert!(
                kept(&line, Keep::ALL).iter().all(|text| line.contains(text)),
                "{line:?}"
            );
        }
    }
}
