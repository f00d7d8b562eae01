//! Addresses, placeholders and markup in text: what a translation must keep as it is.

/// The parts of a text in order, and whether each is an address, a placeholder or a tag.
pub(crate) fn segments(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == text.len() {
            return None;
        }
        let start = at;
        while at < text.len() {
            if let Some(length) = kept(text, at) {
                if at > start {
                    return Some((&text[start..at], false));
                }
                at += length;
                return Some((&text[start..at], true));
            }
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        Some((&text[start..], false))
    })
}

/// Whether a line has an address, a placeholder or a tag.
pub fn has_placeholders(line: &str) -> bool {
    segments(line).any(|(_, is_kept)| is_kept)
}

/// The length of the address, placeholder or tag that begins here, if one does.
fn kept(text: &str, at: usize) -> Option<usize> {
    let begins_word = text[..at]
        .chars()
        .next_back()
        .is_none_or(|before| !before.is_alphanumeric());
    let link = begins_word.then(|| link(&text[at..])).flatten();
    link.or_else(|| placeholder(&text[at..]))
}

/// The longest address in characters.
const LONGEST_LINK: usize = 2048;

/// The length of the web or e-mail address at the beginning of a text.
pub(crate) fn link(text: &str) -> Option<usize> {
    // A longer address is text: without a limit, a line without spaces would be searched from each of its characters.
    let is_end = |(_, c): &(usize, char)| c.is_whitespace() || "<>\"()[]{}|„“”«»".contains(*c);
    let mut within = text.char_indices().take(LONGEST_LINK);
    let end = match within.find(is_end) {
        Some((end, _)) => end,
        None if text.chars().nth(LONGEST_LINK).is_none() => text.len(),
        None => return None,
    };
    let word = text[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '…']);
    let is_web = ["http://", "https://", "ftp://", "www."].iter().any(|begin| {
        word.len() > begin.len() && word.get(..begin.len()).is_some_and(|is| is.eq_ignore_ascii_case(begin))
    });
    let is_mail = || {
        let (name, host) = word.split_once('@')?;
        let is_plain = |part: &str| part.chars().all(|c| c.is_alphanumeric() || "._+-".contains(c));
        let (domain, end) = host.rsplit_once('.')?;
        let is_host =
            is_plain(host) && !domain.is_empty() && end.len() >= 2 && !end.contains(|c: char| !c.is_alphabetic());
        (!name.is_empty() && is_plain(name) && is_host).then_some(())
    };
    (is_web || is_mail().is_some()).then_some(word.len())
}

/// The length of the placeholder or tag at the beginning of a text: `%s`, `%1$d`, `%(name)s`, `%1`, `{0}`, `{name}`,
/// `${name}`, `%%`, `<b>`, `</b>`.
pub(crate) fn placeholder(text: &str) -> Option<usize> {
    let name = |text: &str, open: usize, close: char| {
        let inner = &text[open..];
        let is_name_at = |(at, c): (usize, char)| (c == close).then_some(at);
        let end = inner.char_indices().take(41).find_map(is_name_at)?;
        let is_name = end > 0
            && end <= 40
            && inner[..end]
                .chars()
                .all(|c| c.is_alphanumeric() || "_.-:#,!".contains(c));
        is_name.then_some(open + end + 1)
    };
    match text.as_bytes().first()? {
        b'%' if text.starts_with("%%") => Some(2),
        b'%' => percent(text).or_else(|| {
            let end = name(text.strip_prefix("%(").map(|_| text)?, 2, ')')?;
            text[end..]
                .starts_with(|c: char| c.is_ascii_alphabetic())
                .then_some(end + 1)
        }),
        b'{' => name(text, 1, '}'),
        b'$' if text.starts_with("${") => name(text, 2, '}'),
        b'<' => tag(text),
        _ => None,
    }
}

/// The length of a conversion of C's `printf`, or of a `%1` of Qt.
fn percent(text: &str) -> Option<usize> {
    let bytes = &text.as_bytes()[1..];
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = digits;
    if digits > 0 && bytes.get(at) == Some(&b'$') {
        at += 1;
    }
    let flags = bytes[at..]
        .iter()
        .take_while(|byte| b"-+#0123456789.*'".contains(byte))
        .count();
    let after = at + flags;
    let long = bytes[after..]
        .iter()
        .take_while(|byte| b"hlLqjzt".contains(byte))
        .count();
    match bytes.get(after + long) {
        // `100 % der` is text: a conversion stands directly behind.
        Some(byte) if b"diouxXeEfFgGaAcspnm".contains(byte) => Some(1 + after + long + 1),
        _ => (digits > 0 && digits <= 2).then_some(1 + digits),
    }
}

/// The length of a tag such as `<b>`, `</span>` or `<a href="...">`.
fn tag(text: &str) -> Option<usize> {
    let inner = text[1..].strip_prefix('/').unwrap_or(&text[1..]);
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let is_end = |(at, c): (usize, char)| (c == '>').then_some(at);
    let end = inner
        .char_indices()
        .take(201)
        .find_map(is_end)
        .filter(|end| *end <= 200)?;
    let (inside, length) = (&inner[..end], text.len() - inner.len() + end + 1);
    // `<none>` and `<Select a folder>` are text in angle brackets.
    let is_element = ELEMENTS.split(' ').any(|element| element.eq_ignore_ascii_case(inside));
    let has_form_of_markup = inside.ends_with('/') || inside.contains("=\"") || inside.contains("='");
    ((is_element || has_form_of_markup) && !inside.contains('<')).then_some(length)
}

/// The names of elements of HTML that are in running text.
const ELEMENTS: &str = "a abbr acronym b bdi bdo big blockquote body br button center cite code dd del dfn div dl dt em \
                        filename font form h1 h2 h3 h4 h5 h6 head hr html i img input ins kbd label li link mark meta \
                        nobr ol option p para pre q s samp select small span strike strong sub sup table tbody td th \
                        thead title tr tt u ul var wbr";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_the_whole_text() {
        for text in [
            "",
            "a",
            "see https://a.de/b, or %s: <b>straße</b> a@b.org {0}",
            "%s",
            "€%d",
            "https://a.de",
        ] {
            let parts: Vec<(&str, bool)> = segments(text).collect();
            assert_eq!(parts.iter().map(|(part, _)| *part).collect::<String>(), text);
        }
        let kept: Vec<&str> = segments("see https://a.de/b, or %s: <b>straße</b>")
            .filter_map(|(part, is_kept)| is_kept.then_some(part))
            .collect();
        assert_eq!(kept, ["https://a.de/b", "%s", "<b>", "</b>"]);
    }
}
