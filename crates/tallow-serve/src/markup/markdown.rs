//! Markdown: the inline text of paragraphs, headings, items and cells is translated; everything else stays.

use super::Piece;
use super::passage::Builder;
use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};
use std::ops::Range;

/// Cuts a document up.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_MATH
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut cutter = Cutter {
        text,
        pieces: Vec::new(),
        run: None,
        cursor: 0,
    };
    // The depth in what is copied, and where an inline element that is copied begins.
    let (mut copied, mut from) = (0usize, None);
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(_) if copied > 0 => copied += 1,
            Event::End(_) if copied > 0 => {
                copied -= 1;
                if let Some(begin) = from.take_if(|_| copied == 0) {
                    cutter.point(begin..range.end);
                }
            }
            _ if copied > 0 => {}
            Event::Start(Tag::CodeBlock(_) | Tag::HtmlBlock | Tag::MetadataBlock(_)) => {
                cutter.finish();
                copied = 1;
            }
            Event::Start(
                Tag::Image { .. }
                | Tag::Link {
                    link_type: LinkType::Autolink | LinkType::Email,
                    ..
                },
            ) => {
                copied = 1;
                from = Some(range.start);
            }
            Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough | Tag::Link { .. }) => cutter.open(range),
            Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link) => cutter.close(range),
            Event::Text(words) => cutter.text(&words, range),
            Event::SoftBreak => cutter.text(" ", range),
            Event::Code(_)
            | Event::InlineHtml(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_) => cutter.point(range),
            // Blocks, rules, hard breaks and boxes of tasks.
            _ => cutter.finish(),
        }
    }
    cutter.finish();
    cutter.copy(text.len());
    cutter.pieces
}

/// Text as Markdown.
pub(super) fn escape(text: &str, range: Range<usize>) -> String {
    let mut escaped = String::with_capacity(range.len());
    for (at, c) in text[range.clone()].char_indices() {
        let (before, after) = text.split_at(range.start + at);
        let after = &after[c.len_utf8()..];
        let ends = after.is_empty() || after.starts_with(' ');
        let is_mark = match c {
            '*' | '`' | '[' | ']' | '<' | '\\' | '|' | '~' => true,
            // Within a word it means nothing.
            '_' => !(before.ends_with(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric)),
            // What would begin a heading, a list or a quotation.
            '#' => before.is_empty(),
            '-' | '+' => before.is_empty() && ends,
            '>' | '=' => before.is_empty(),
            '.' | ')' => ends && !before.is_empty() && before.bytes().all(|byte| byte.is_ascii_digit()),
            '&' => after.find(';').is_some_and(|end| end < 10),
            _ => false,
        };
        if is_mark {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Inline text that is being read.
struct Run {
    begin: usize,
    end: usize,
    passage: Builder,
    /// Elements that are open, and where their contents begin and end, once that is known.
    open: Vec<(Range<usize>, Option<usize>)>,
}

struct Cutter<'a> {
    text: &'a str,
    pieces: Vec<Piece>,
    run: Option<Run>,
    /// The end of what is in pieces.
    cursor: usize,
}

impl Cutter<'_> {
    /// The run, which takes in `range`.
    fn run(&mut self, range: &Range<usize>) -> &mut Run {
        let run = self.run.get_or_insert_with(|| Run {
            begin: range.start,
            end: range.start,
            passage: Builder::default(),
            open: Vec::new(),
        });
        // The markup of an element goes up to what is in it.
        for number in 0..run.open.len() {
            if run.open[number].1.is_none() {
                run.open[number].1 = Some(range.start);
                let begin = run.open[number].0.start;
                run.passage.open("", &self.text[begin..range.start]);
            }
        }
        run.end = run.end.max(range.end);
        run
    }

    fn text(&mut self, words: &str, mut range: Range<usize>) {
        // The text after an escape begins behind it; the escape is written anew with the text.
        let is_first = self
            .run
            .as_ref()
            .is_none_or(|run| run.end <= range.start.saturating_sub(1));
        if is_first && words.starts_with(|c: char| c.is_ascii_punctuation()) && self.text[..range.start].ends_with('\\')
        {
            range.start -= 1;
        }
        self.run(&range).passage.push_text(words);
    }

    fn point(&mut self, range: Range<usize>) {
        let markup = self.text[range.clone()].to_owned();
        self.run(&range).passage.push_point(&markup);
    }

    fn open(&mut self, range: Range<usize>) {
        let begin = range.start..range.start;
        self.run(&begin).open.push((range, None));
    }

    fn close(&mut self, range: Range<usize>) {
        let text = self.text;
        let Some(run) = &mut self.run else { return };
        match run.open.pop() {
            Some((_, Some(_))) => run.passage.close("", &text[run.end..range.end]),
            // There was nothing in it.
            Some((whole, None)) => run.passage.push_point(&text[whole]),
            // It was opened in a passage before.
            None => run.passage.push_point(text.get(run.end..range.end).unwrap_or_default()),
        }
        run.end = range.end;
    }

    fn finish(&mut self) {
        let Some(run) = self.run.take() else { return };
        if let Some(passage) = run.passage.finish() {
            self.copy(run.begin);
            self.pieces.push(Piece::Passage(passage));
            self.cursor = run.end;
        }
    }

    fn copy(&mut self, end: usize) {
        let markup = &self.text[self.cursor.min(end)..end];
        if !markup.is_empty() {
            self.pieces.push(Piece::Markup(markup.to_owned()));
        }
        self.cursor = end;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::super::tests::changed;

    #[test]
    fn markup_stays() {
        for text in [
            "",
            "# A heading\n\nText with *emphasis*, **weight** and `code`.\n",
            "- one\n- [two](https://x.example \"title\"), three\n  - four\n\n1. five\n2. six\n",
            "> quoted text\n\n---\n\n```rust\nlet a = b;\n```\n\n    code\n",
            "| a | b |\n|---|:-:|\n| *c* | d |\n",
            "an ![image *alt*](x.png) and <https://x.example> and <b>html</b>\n",
            "---\ntitle: x\n---\n\ntext\n",
            "- [ ] task\n- [x] done\n",
            "one  \ntwo\\\nthree\n",
            "<div>\nblock\n</div>\n\ntext[^1]\n\n[^1]: A note.\n",
            "**a *b* c** ~~d~~\n",
            "[](empty) a [b][ref]\n\n[ref]: https://x.example\n",
            "snake_case and 2 \\* 3 \\[x\\]\n",
            "\\*Note\n\n[\\[1\\]](x) and *\\*a*\n",
            "*a  \nb* and [c  \nd](url) e\n",
            "![a [b](c) d](e) f\n\n```\ncode\n```\n",
            "x ![see <https://a.example>](y) z\n",
        ] {
            assert_eq!(changed(&Document::markdown(text), str::to_owned, false), text);
        }
        // Lines of a paragraph become one.
        assert_eq!(changed(&Document::markdown("> a\n> b"), str::to_owned, false), "> a b");
    }

    #[test]
    fn marks_go_with_their_words() {
        let reversed = |text: &str| changed(&Document::markdown(text), |word| word.to_uppercase(), true);
        assert_eq!(reversed("# one **two** three"), "# THREE **TWO** ONE");
        assert_eq!(reversed("- [one two](x) three"), "- THREE [TWO ONE](x)");
        assert_eq!(reversed("one `x` two"), "`x` TWO ONE");
    }

    #[test]
    fn text_does_not_become_markup() {
        let written = |word: &str| changed(&Document::markdown("word"), |_| word.to_owned(), false);
        for (word, text) in [
            ("*a*", "\\*a\\*"),
            ("a_b", "a_b"),
            ("_a_", "\\_a\\_"),
            ("#", "\\#"),
            ("1.", "1\\."),
            ("&amp;", "\\&amp;"),
            ("R&D", "R&D"),
        ] {
            assert_eq!(written(word), text);
        }
    }
}
