//! Parts of a line that a translation keeps: addresses, placeholders, markup and numbers.

/// What stands in a line, each in order of size so that two lists can be compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Web and e-mail addresses.
    pub(super) links: Vec<String>,
    /// Placeholders and tags.
    pub(super) placeholders: Vec<String>,
    /// Numbers of two or more digits, without separators.
    pub(super) numbers: Vec<String>,
    /// The line without addresses, placeholders and tags.
    pub(super) text: String,
}

impl Parts {
    pub(super) fn of(line: &str) -> Self {
        let mut parts = Self::default();
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let begins_word = parts
                .text
                .chars()
                .next_back()
                .is_none_or(|before| !before.is_alphanumeric());
            if begins_word && let Some(length) = link(rest) {
                parts.links.push(rest[..length].to_lowercase());
                rest = &rest[length..];
            } else if let Some(length) = placeholder(rest) {
                parts.placeholders.push(without_position(&rest[..length]));
                rest = &rest[length..];
            } else {
                parts.text.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        parts.numbers = numbers(&parts.text);
        parts.links.sort_unstable();
        parts.placeholders.sort_unstable();
        parts.numbers.sort_unstable();
        parts
    }
}

/// The length of the web or e-mail address at the beginning of a text.
fn link(text: &str) -> Option<usize> {
    let end = text
        .find(|c: char| c.is_whitespace() || "<>\"()[]{}|„“”«»".contains(c))
        .unwrap_or(text.len());
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
fn placeholder(text: &str) -> Option<usize> {
    let name = |text: &str, open: usize, close: char| {
        let inner = &text[open..];
        let end = inner.find(close)?;
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

/// A conversion without its position: translations that change the order write `%2$s` for `%s`.
fn without_position(placeholder: &str) -> String {
    match placeholder.split_once('$') {
        Some((position, rest)) if position.starts_with('%') => format!("%{rest}"),
        _ => placeholder.to_owned(),
    }
}

/// The length of a tag such as `<b>`, `</span>` or `<a href="...">`.
fn tag(text: &str) -> Option<usize> {
    let inner = text[1..].strip_prefix('/').unwrap_or(&text[1..]);
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let end = inner.find('>').filter(|end| *end <= 200)?;
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

/// The numbers of two or more digits, without separators between digits.
fn numbers(text: &str) -> Vec<String> {
    let mut numbers = Vec::new();
    let mut number = String::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let goes_on = matches!(c, '.' | ',' | '\'' | '’' | '\u{a0}' | '\u{202f}')
            && characters.peek().is_some_and(char::is_ascii_digit);
        if !goes_on || number.is_empty() {
            numbers.push(std::mem::take(&mut number));
        }
    }
    numbers.push(number);
    numbers.retain(|number| number.len() >= 2);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_lines() {
        let parts =
            Parts::of("See <a href=\"x\">https://Example.org/a?b=1.</a> or mail me@x-y.org, 1,234.5 of 7 files!");
        assert_eq!(parts.links, ["https://example.org/a?b=1", "me@x-y.org"]);
        assert_eq!(parts.placeholders, ["</a>", "<a href=\"x\">"]);
        assert_eq!(parts.numbers, ["12345"]);
        assert_eq!(parts.text, "See . or mail , 1,234.5 of 7 files!");
        let placeholders = |line: &str| Parts::of(line).placeholders.join(" ");
        assert_eq!(
            placeholders("%s of %1$d, %-5.2f%% (%(name)s) %1 {0} {a.b} ${HOME} %lu"),
            "${HOME} %% %(name)s %-5.2f %1 %d %lu %s {0} {a.b}"
        );
        for text in [
            "100 % der",
            "50%.",
            "a < b > c",
            "{ not this }",
            "x {}",
            "<none>",
            "<Invalid>",
            "<Select a folder>",
            "5 %",
            "a@b",
            "3 @ 5.x",
            "% s",
        ] {
            let parts = Parts::of(text);
            assert_eq!((parts.placeholders.len(), parts.links.len()), (0, 0), "{text}");
        }
        assert_eq!(
            Parts::of("10 000 and 1’000, 20.12.2020").numbers,
            ["000", "10", "1000", "20122020"]
        );
    }
}
