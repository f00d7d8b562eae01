//! HTML: blocks divide passages, inline elements move in them.

use super::Piece;
use super::passage::Builder;
use html5gum::emitters::default::{DefaultEmitter, StartTag, Token};
use html5gum::{Spanned, Tokenizer};
use std::ops::Range;

/// Elements within a sentence. All others begin a new passage.
const INLINE: [&str; 34] = [
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "del", "dfn", "em", "font", "i", "img", "input", "ins",
    "label", "mark", "nobr", "output", "picture", "q", "ruby", "s", "small", "span", "strike", "strong", "sub", "sup",
    "svg", "time", "u", "wbr",
];

/// Elements without an end tag.
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
];

/// Elements whose contents are no text to translate.
const VERBATIM: [&str; 16] = [
    "canvas", "code", "iframe", "kbd", "math", "noembed", "noframes", "object", "pre", "samp", "script", "style",
    "svg", "template", "textarea", "var",
];

/// An element whose contents are copied, and how many of its name are open in it.
struct Copied {
    name: String,
    depth: usize,
    is_inline: bool,
    begin: usize,
}

/// Cuts a document up. A document that cannot be cut is one piece of markup.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut cutter = Cutter {
        text,
        pieces: Vec::new(),
        passage: Builder::default(),
        begin: 0,
        copied: None,
    };
    match cutter.cut() {
        Some(()) => cutter.pieces,
        None => vec![Piece::Markup(text.to_owned())],
    }
}

/// Text as HTML.
pub(super) fn escape(text: &str, range: Range<usize>) -> String {
    let mut escaped = String::with_capacity(range.len());
    for c in text[range].chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\u{a0}' => escaped += "&nbsp;",
            other => escaped.push(other),
        }
    }
    escaped
}

struct Cutter<'a> {
    text: &'a str,
    pieces: Vec<Piece>,
    passage: Builder,
    /// Where the passage begins in the document.
    begin: usize,
    copied: Option<Copied>,
}

impl Cutter<'_> {
    /// None if the tokenizer's places make no sense.
    fn cut(&mut self) -> Option<()> {
        let mut emitter = DefaultEmitter::<usize>::new_with_span();
        emitter.naively_switch_states(true);
        let mut end = 0;
        for token in Tokenizer::new_with_emitter(self.text, emitter) {
            let Ok(token) = token;
            let span = match &token {
                Token::StartTag(tag) => tag.span,
                Token::EndTag(tag) => tag.span,
                Token::Comment(Spanned { span, .. }) | Token::String(Spanned { span, .. }) => *span,
                Token::Doctype(doctype) => doctype.span,
                Token::Error(_) => continue,
            };
            let raw = self.text.get(span.start..span.end)?;
            if let Token::String(text) = &token {
                end = end.max(span.end);
                self.take_text(&String::from_utf8_lossy(text));
                continue;
            }
            if span.start < end || !raw.starts_with('<') {
                return None;
            }
            end = span.end;
            match token {
                Token::StartTag(tag) => self.start(&tag, span.start..span.end)?,
                Token::EndTag(tag) => {
                    let name = String::from_utf8_lossy(&tag.name).into_owned();
                    self.end(&name, span.start..span.end);
                }
                Token::Comment(_) if self.copied.is_none() => self.passage.push_point(raw),
                Token::Doctype(_) if self.copied.is_none() => self.block(span.start..span.end),
                _ => {}
            }
        }
        let length = self.text.len();
        // A tag that never ends is no tag.
        let rest = self.text.get(end..)?;
        if self.copied.is_none() && !rest.is_empty() {
            self.passage.push_point(rest);
        }
        if let Some(Copied { begin, .. }) = self.copied.take() {
            self.finish(begin);
            self.copy(begin..length);
        } else {
            self.finish(length);
        }
        Some(())
    }

    fn take_text(&mut self, text: &str) {
        if self.copied.is_none() {
            self.passage.push_text(text);
        }
    }

    fn start(&mut self, tag: &StartTag<usize>, span: Range<usize>) -> Option<()> {
        let name = String::from_utf8_lossy(&tag.name).into_owned();
        let raw = self.text.get(span.clone())?;
        let is_void = VOID.contains(&&*name) || (tag.self_closing && name == "svg");
        if let Some(copied) = &mut self.copied {
            copied.depth += usize::from(copied.name == name && !is_void);
            return Some(());
        }
        let attribute = |key: &str| {
            tag.attributes
                .get(key.as_bytes())
                .map(|value| String::from_utf8_lossy(value))
        };
        let is_kept = attribute("translate").is_some_and(|value| value.eq_ignore_ascii_case("no"))
            || attribute("class").is_some_and(|value| value.split_whitespace().any(|class| class == "notranslate"));
        let is_inline = INLINE.contains(&&*name) || ["code", "kbd", "samp", "var", "math"].contains(&&*name);
        if (VERBATIM.contains(&&*name) || is_kept) && !is_void {
            self.copied = Some(Copied {
                name,
                depth: 1,
                is_inline,
                begin: span.start,
            });
        } else if is_inline && is_void {
            self.passage.push_point(raw);
        } else if is_inline {
            self.passage.open(&name, raw);
        } else {
            self.block(span);
        }
        Some(())
    }

    fn end(&mut self, name: &str, span: Range<usize>) {
        if let Some(copied) = &mut self.copied {
            copied.depth -= usize::from(copied.name == name);
            if copied.depth > 0 {
                return;
            }
            let (begin, is_inline) = (copied.begin, copied.is_inline);
            self.copied = None;
            match is_inline {
                true => self.passage.push_point(&self.text[begin..span.end]),
                false => self.block(begin..span.end),
            }
            return;
        }
        if INLINE.contains(&name) {
            self.passage.close(name, &self.text[span]);
            return;
        }
        self.block(span);
    }

    /// Ends the passage, and copies a stretch of the document.
    fn block(&mut self, span: Range<usize>) {
        self.finish(span.start);
        self.copy(span.clone());
        self.begin = span.end;
    }

    fn finish(&mut self, end: usize) {
        let passage = std::mem::take(&mut self.passage);
        match passage.finish() {
            Some(passage) => self.pieces.push(Piece::Passage(passage)),
            None => self.copy(self.begin..end),
        }
        self.begin = end;
    }

    fn copy(&mut self, span: Range<usize>) {
        let markup = &self.text[span];
        match self.pieces.last_mut() {
            _ if markup.is_empty() => {}
            Some(Piece::Markup(last)) => *last += markup,
            _ => self.pieces.push(Piece::Markup(markup.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::super::tests::changed;

    fn same(html: &str) -> String {
        changed(&Document::html(html), str::to_owned, false)
    }

    fn reversed(html: &str) -> String {
        changed(&Document::html(html), |word| word.to_uppercase(), true)
    }

    /// Whatever the markup, words that stay leave the document as it was.
    #[test]
    fn markup_stays() {
        for html in [
            "",
            "plain",
            "<p>One <b>two</b> three.</p>\n  <p class=\"x\">Four</p>",
            "<!DOCTYPE html><html><head><title>A title</title><style>p > a { x }</style></head><body>a</body></html>",
            "a <a href='x' title=\"1 > 0\">b <i>c</i></a>, d",
            "<script>if (a < b) { \"text\" }</script>text",
            "x &amp; y &lt;b&gt; z",
            "one<br>two<br/>three",
            "<ul><li>a<li>b</ul>",
            "a <img src=x> b <img src=y>",
            "<img src=x><b>a</b> <b><img src=y>b</b> <b>c<img src=z></b> d",
            "use <code>a < b</code> here, <span translate=no>stay <b>x</b></span> gone",
            "<!-- first -->a<!-- second --> b",
            "an <b>(<i>element</i>)</b>, and \u{201e}<b>quotes</b>\u{201c}!",
            "<table><tr><td>1</td><td><b>2</b></td></tr></table>",
            "   spaces   \n",
            "<p>ruby <ruby>漢<rt>kan</rt></ruby></p>",
            "a <img> b <img>c<img>, d <img>",
            "<img> a <br> <img> <img> b <img>",
        ] {
            assert_eq!(same(html), html);
        }
        // White space within a passage is one space; where it counts, nothing is translated.
        assert_eq!(same("a\n   <b>b</b>\n c"), "a <b>b</b> c");
        assert_eq!(same("<pre>a  b\nc</pre> c  d"), "<pre>a  b\nc</pre> c d");
    }

    #[test]
    fn malformed_markup_stays_too() {
        for html in [
            "<b>a b",
            "a</b> b",
            "<b><i>a</b> b</i> c",
            "a <b",
            "a < b > c <",
            "<a href=\"x>b</a>",
            "<p>a <b>b<p>c</b> d",
            "<!-- never closed",
            "<script>never closed",
            "<b></b> a <i> </i> b",
            "a </p></div> b",
            "<span translate=no>open",
        ] {
            let plain = html.replace(" > ", " &gt; ").replace(" < ", " &lt; ");
            let made = same(html);
            assert!(
                made == html || made == plain || made == plain.replace(" <", " &lt;"),
                "{html}: {made}"
            );
        }
    }

    #[test]
    fn tags_go_with_their_words() {
        assert_eq!(reversed("<p>one <b>two</b> three</p>"), "<p>THREE <b>TWO</b> ONE</p>");
        assert_eq!(reversed("<a href=x>one two</a> three"), "THREE <a href=x>TWO ONE</a>");
        assert_eq!(
            reversed("<a href=x>one <i>two</i></a> three"),
            "THREE <a href=x><i>TWO</i> ONE</a>"
        );
        assert_eq!(reversed("<img> one <img>two three"), "<img> THREE <img>TWO ONE");
        assert_eq!(reversed("one <code>x</code> two"), "<code>x</code> TWO ONE");
        assert_eq!(reversed("<b>a b</b>"), "<b>B A</b>");
        assert_eq!(reversed("a &lt; b"), "B &lt; A");
    }

    /// Documents that are made to need much memory or time do not.
    #[test]
    fn hostile_markup_is_no_burden() {
        let begin = std::time::Instant::now();
        for html in [
            "<b>".repeat(33_000),
            "<b>a</b> ".repeat(11_000),
            "<b>a ".repeat(20_000),
            format!("{}{}", "<b>a ".repeat(10_000), "</b>".repeat(10_000)),
            "<img>".repeat(20_000) + "a",
        ] {
            // Tags beyond the limits stand beside words, so white space may have another place.
            let tags = |text: &str| text.matches(['<', '>']).count();
            assert!(tags(&same(&html)) == tags(&html), "{}", html.len());
        }
        let text = "*a ".repeat(30_000) + &"* ".repeat(30_000);
        changed(&Document::markdown(&text), str::to_owned, false);
        assert!(begin.elapsed().as_secs() < 60);
    }

    /// Words far apart, words without a partner, and no words at all.
    #[test]
    fn any_alignment_keeps_the_markup() {
        let document = Document::html("<p>one <b>two three</b> four</p>");
        let write = |text: &str, pairs: &[(usize, usize)]| {
            document.put_together(&[super::super::Translated {
                text: text.to_owned(),
                pairs: pairs.to_vec(),
            }])
        };
        assert_eq!(write("B x C", &[(1, 0), (0, 1), (2, 2)]), "<p><b>B</b> x <b>C</b></p>");
        assert_eq!(write("B x C", &[(1, 0), (2, 2)]), "<p><b>B x C</b></p>");
        assert_eq!(write("w x y z", &[]), "<p>w <b>x y</b> z</p>");
        assert_eq!(write("w", &[]), "<p><b>w</b></p>");
        assert_eq!(write("", &[]), "<p></p>");
        assert_eq!(write("w", &[(9, 9)]), "<p><b>w</b></p>");
    }
}
