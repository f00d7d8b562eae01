//! A stretch of text with inline elements, and the way these take in its translation.

use super::{Escape, Translated};
use std::ops::Range;

/// Elements that may be open at the same place; the tags of deeper ones are points.
const DEEPEST: usize = 32;

/// Elements of a passage; the tags of further ones are points.
const MOST_ELEMENTS: usize = 500;

/// An inline element.
#[derive(Clone, Debug, PartialEq)]
struct Element {
    open: String,
    close: String,
    /// The bytes of the text that it holds.
    range: Range<usize>,
    /// The numbers of its beginning and end among all markup of the passage.
    order: usize,
    close_order: usize,
    /// The elements that it is in.
    parents: Vec<usize>,
}

/// Markup without text: an image, a comment, a tag without a partner.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    markup: String,
    at: usize,
    order: usize,
    /// The elements that it is in.
    parents: Vec<usize>,
    /// Whether white space follows it.
    is_apart: bool,
}

impl Point {
    /// Writes it before a word.
    fn write_before(&self, written: &mut String) {
        *written += &self.markup;
        if self.is_apart {
            written.push(' ');
        }
    }
}

/// A stretch of text that is translated as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Passage {
    /// White space and points around the text.
    before: String,
    after: String,
    text: String,
    /// In the order of their beginnings, so outer ones come before inner ones.
    elements: Vec<Element>,
    points: Vec<Point>,
}

/// A passage that is being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Builder {
    text: String,
    elements: Vec<Element>,
    points: Vec<Point>,
    /// The elements that are open: their names and numbers.
    open: Vec<(String, usize)>,
    markups: usize,
}

impl Builder {
    pub(super) fn push_text(&mut self, text: &str) {
        self.text += text;
    }

    pub(super) fn push_point(&mut self, markup: &str) {
        self.points.push(Point {
            markup: markup.to_owned(),
            at: self.text.len(),
            order: self.markups,
            parents: self.parents(),
            is_apart: false,
        });
        self.markups += 1;
    }

    /// The elements that are open.
    fn parents(&self) -> Vec<usize> {
        self.open.iter().map(|(_, element)| *element).collect()
    }

    pub(super) fn open(&mut self, name: &str, markup: &str) {
        if self.open.len() >= DEEPEST || self.elements.len() >= MOST_ELEMENTS {
            self.push_point(markup);
            return;
        }
        let parents = self.parents();
        self.open.push((name.to_owned(), self.elements.len()));
        let at = self.text.len();
        self.elements.push(Element {
            open: markup.to_owned(),
            close: String::new(),
            range: at..at,
            order: self.markups,
            close_order: self.markups,
            parents,
        });
        self.markups += 1;
    }

    /// Closes the innermost element, if it has this name; otherwise the tag has no partner.
    pub(super) fn close(&mut self, name: &str, markup: &str) {
        match self.open.last() {
            Some((open, element)) if open == name => {
                let element = &mut self.elements[*element];
                element.range.end = self.text.len();
                markup.clone_into(&mut element.close);
                element.close_order = self.markups;
                self.open.pop();
                self.markups += 1;
            }
            _ => self.push_point(markup),
        }
    }

    /// The passage, or none if it has no text: then its markup is copied.
    pub(super) fn finish(mut self) -> Option<Passage> {
        // Elements that are never closed are tags without a partner, as are those without text.
        let is_open = |number: usize| self.open.iter().any(|(_, open)| *open == number);
        let is_empty = |element: &Element| self.text[element.range.clone()].trim().is_empty();
        let kept: Vec<bool> = self
            .elements
            .iter()
            .enumerate()
            .map(|(number, element)| !is_open(number) && !is_empty(element))
            .collect();
        let mut numbers = Vec::new();
        let mut elements = Vec::new();
        for (element, is_kept) in self.elements.into_iter().zip(&kept) {
            numbers.push(elements.len());
            if *is_kept {
                elements.push(element);
                continue;
            }
            for (markup, at, order) in [
                (element.open, element.range.start, element.order),
                (element.close, element.range.end, element.close_order),
            ] {
                if !markup.is_empty() {
                    self.points.push(Point {
                        markup,
                        at,
                        order,
                        parents: element.parents.clone(),
                        is_apart: false,
                    });
                }
            }
        }
        for point in &mut self.points {
            point.parents.retain(|parent| kept[*parent]);
            point.parents.iter_mut().for_each(|parent| *parent = numbers[*parent]);
        }
        self.points.sort_by_key(|point| (point.at, point.order));
        let text = self.text;
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return None;
        }
        let begin = text.len() - text.trim_start().len();
        let end = begin + trimmed.len();
        for point in &mut self.points {
            point.is_apart = text[point.at..].starts_with(char::is_whitespace);
        }
        // Points before and after all words stay there.
        let stays = |point: &Point| point.parents.is_empty() && (point.at <= begin || point.at >= end);
        let (around, points): (Vec<Point>, Vec<Point>) = self.points.into_iter().partition(stays);
        self.points = points;
        let (first, last): (Vec<Point>, Vec<Point>) = around.into_iter().partition(|point| point.at <= begin);
        let before = with_points(&text, 0..begin, &first);
        let after = with_points(&text, end..text.len(), &last);
        // Where each byte of the text goes when white space is written as one space.
        let mut places = vec![0; text.len() + 1];
        let mut plain = String::new();
        for (at, c) in trimmed.char_indices() {
            places[begin + at..begin + at + c.len_utf8()].fill(plain.len());
            match c.is_whitespace() && c != '\u{a0}' {
                true if plain.ends_with(' ') => {}
                true => plain.push(' '),
                false => plain.push(c),
            }
        }
        places[end..].fill(plain.len());
        for element in &mut elements {
            element.range = places[element.range.start]..places[element.range.end];
        }
        for point in &mut self.points {
            point.at = places[point.at];
        }
        Some(Passage {
            before,
            after,
            text: plain,
            elements,
            points: self.points,
        })
    }
}

/// A stretch of white space with the points in it.
fn with_points(text: &str, range: Range<usize>, points: &[Point]) -> String {
    let (mut written, mut at) = (String::new(), range.start);
    for point in points {
        written += &text[at..point.at.max(at)];
        written += &point.markup;
        at = point.at.max(at);
    }
    written + &text[at..range.end]
}

/// The words of a text: what white space separates.
fn words(text: &str) -> Vec<Range<usize>> {
    let word = |word: &str| {
        let begin = word.as_ptr().addr() - text.as_ptr().addr();
        begin..begin + word.len()
    };
    text.split_whitespace().map(word).collect()
}

/// The bytes at the end of a word that are neither letters nor digits.
fn tail(word: &str) -> usize {
    word.len() - word.trim_end_matches(|c: char| !c.is_alphanumeric()).len()
}

/// The bytes at the beginning of a word that are neither letters nor digits.
fn head(word: &str) -> usize {
    word.len() - word.trim_start_matches(|c: char| !c.is_alphanumeric()).len()
}

/// The place `to` or, if that is not after `from`, `from`; always between characters.
fn boundary(text: &str, from: usize, to: usize) -> usize {
    text.floor_char_boundary(to).max(from)
}

/// An element in a translation.
struct Place {
    /// For each target word, whether it is inside.
    inside: Vec<bool>,
    /// How many bytes of marks before its first word and after its last one are outside.
    head: usize,
    tail: usize,
}

impl Passage {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The translation with the passage's markup.
    pub(super) fn write(&self, translated: &Translated, escape: Escape) -> String {
        let text = &translated.text;
        let targets = words(text);
        let sources = words(&self.text);
        let links = Links::new(&translated.pairs, sources.len(), targets.len());
        let places: Vec<Place> = self
            .elements
            .iter()
            .map(|element| self.place(element, &sources, &links))
            .collect();
        let (mut before, mut after) = self.points_of_words(&sources, &links);
        let mut written = self.before.clone();
        let mut open: Vec<usize> = Vec::new();
        for (number, word) in targets.iter().enumerate() {
            let is_inside = |element: &usize| places[*element].inside[number];
            let of_word = &text[word.clone()];
            // The marks around a word, if it is more than marks.
            let (head, tail) = match head(of_word) {
                head if head < of_word.len() => (head, tail(of_word)),
                _ => (0, 0),
            };
            let mut at = word.start;
            let opening: Vec<usize> = (0..places.len())
                .filter(|element| is_inside(element) && !open.contains(element))
                .collect();
            for element in opening {
                let outside = boundary(text, at, word.start + places[element].head.min(head));
                written += &escape(text, at..outside);
                at = outside;
                let order = self.elements[element].order;
                for point in before[number].extract_if(.., |point| point.order < order) {
                    point.write_before(&mut written);
                }
                written += &self.elements[element].open;
                open.push(element);
            }
            for point in before[number].drain(..) {
                point.write_before(&mut written);
            }
            let goes_on = |element: &usize| places[*element].inside.get(number + 1) == Some(&true);
            if let Some(first) = open.iter().position(|element| !goes_on(element)) {
                for element in open.drain(first..).rev() {
                    let outside = boundary(text, at, word.end - places[element].tail.min(tail));
                    written += &escape(text, at..outside);
                    at = outside;
                    // What stands inside of an element is written before its end.
                    for point in after[number].extract_if(.., |point| point.parents.contains(&element)) {
                        written += &point.markup;
                    }
                    written += &self.elements[element].close;
                }
            } else {
                written += &escape(text, at..word.end - tail);
                at = word.end - tail;
            }
            let (glued, rest): (Vec<&Point>, Vec<&Point>) =
                after[number].drain(..).partition(|point| self.is_before_mark(point));
            glued.iter().for_each(|point| written += &point.markup);
            written += &escape(text, at..word.end);
            rest.iter().for_each(|point| written += &point.markup);
            let next = targets.get(number + 1).map_or(text.len(), |next| next.start);
            written += &text[word.end..next];
        }
        // A translation may be empty; the markup stays.
        for point in before.drain(..).chain(after.drain(..)).flatten() {
            written += &point.markup;
        }
        written + &self.after
    }

    /// Whether only marks such as commas stand between a point and the end of its word.
    fn is_before_mark(&self, point: &Point) -> bool {
        let rest = self.text[point.at..].split_whitespace().next().unwrap_or_default();
        let is_glued = !self.text[point.at..].starts_with(char::is_whitespace);
        is_glued && !rest.is_empty() && head(rest) == rest.len()
    }

    fn place(&self, element: &Element, sources: &[Range<usize>], links: &Links) -> Place {
        let targets = links.next.len();
        // Words are in order, so those that the element holds follow each other.
        let first = sources.partition_point(|word| word.end <= element.range.start);
        let end = sources
            .partition_point(|word| word.start < element.range.end)
            .max(first);
        let mut inside = vec![false; targets];
        for target in links.of_source[first.min(sources.len())..end].iter().flatten() {
            inside[*target] = true;
        }
        // A word without a partner belongs to the words around it.
        for word in 1..targets {
            if links.next[word] != Some(word) {
                inside[word] = inside[word - 1] && links.next[word].is_some_and(|next| inside[next]);
            }
        }
        let last = end.saturating_sub(1);
        if end - first == sources.len() {
            inside.fill(true);
        } else if !inside.contains(&true) && targets > 0 {
            // None of its words has a partner: it goes where they would be if all words kept their places.
            let place = |word: usize| (word * targets / sources.len().max(1)).min(targets - 1);
            inside[place(first)..=place(last).max(place(first))].fill(true);
        }
        let (begin, end) = (element.range.start, element.range.end);
        let at = |word: usize| sources.get(word).cloned().unwrap_or_default();
        // The bytes of a stretch of marks.
        let marks = |text: &str| if head(text) == text.len() { text.len() } else { 0 };
        Place {
            inside,
            head: marks(self.text.get(at(first).start..begin).unwrap_or_default()),
            tail: marks(self.text.get(end..at(last).end).unwrap_or_default()),
        }
    }

    /// For each target word, the points before and after it.
    fn points_of_words(&self, sources: &[Range<usize>], links: &Links) -> (Vec<Vec<&Point>>, Vec<Vec<&Point>>) {
        let targets = links.next.len();
        // One more than there are words, for points that have no word.
        let (mut before, mut after) = (vec![Vec::new(); targets + 1], vec![Vec::new(); targets + 1]);
        // For each source word, the last partner of it or of a word before, and the first of it or of a word after.
        let mut so_far = None;
        let last_before: Vec<Option<usize>> = links
            .of_source
            .iter()
            .map(|partners| {
                so_far = partners.iter().max().copied().or(so_far);
                so_far
            })
            .collect();
        let mut so_far = None;
        let mut first_after: Vec<Option<usize>> = links
            .of_source
            .iter()
            .rev()
            .map(|partners| {
                so_far = partners.iter().min().copied().or(so_far);
                so_far
            })
            .collect();
        first_after.reverse();
        for point in &self.points {
            let begun = sources.partition_point(|word| word.start < point.at);
            match begun.checked_sub(1).filter(|word| point.at <= sources[*word].end) {
                Some(word) => match last_before[word] {
                    Some(target) => after[target].push(point),
                    None => before[0].push(point),
                },
                None => {
                    let next = first_after.get(begun).copied().flatten();
                    before[next.unwrap_or(targets)].push(point);
                }
            }
        }
        (before, after)
    }
}

/// Which words belong together.
struct Links {
    /// The partners of each source word.
    of_source: Vec<Vec<usize>>,
    /// For each target word, itself if it has a partner, or else the next one that has.
    next: Vec<Option<usize>>,
}

impl Links {
    fn new(pairs: &[(usize, usize)], sources: usize, targets: usize) -> Self {
        let mut of_source = vec![Vec::new(); sources];
        let mut next: Vec<Option<usize>> = vec![None; targets];
        for (source, target) in pairs {
            if *source < sources && *target < targets {
                of_source[*source].push(*target);
                next[*target] = Some(*target);
            }
        }
        let mut later = None;
        for place in next.iter_mut().rev() {
            later = place.or(later);
            *place = later;
        }
        Self { of_source, next }
    }
}
