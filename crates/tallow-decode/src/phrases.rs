//! Progress of a hypothesis through the phrases that it must contain.

/// The phrases that a translation must contain, ready to be looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phrases<'a> {
    phrases: Vec<Phrase>,
    /// For each token, whether it goes on with the word before it. A phrase that is followed by such a token does not
    /// count. Empty if phrases may end within words.
    continuing: &'a [bool],
}

/// A phrase and its failure function (Knuth, Morris and Pratt 1977): for each number of matched tokens, how many are
/// still matched if the next token is another one.
#[derive(Clone, Debug)]
struct Phrase {
    tokens: Vec<u32>,
    fallback: Vec<usize>,
}

impl Phrase {
    fn new(tokens: &[u32]) -> Self {
        let mut fallback = vec![0; tokens.len()];
        let mut matched = 0;
        for i in 1..tokens.len() {
            while matched > 0 && tokens[i] != tokens[matched] {
                matched = fallback[matched - 1];
            }
            matched += usize::from(tokens[i] == tokens[matched]);
            fallback[i] = matched;
        }
        Self {
            tokens: tokens.to_vec(),
            fallback,
        }
    }

    /// The number of matched tokens after one more token, or one more than all once the phrase has been found; then it
    /// stays found.
    fn advance(&self, mut matched: usize, token: u32, goes_on: bool) -> usize {
        let all = self.tokens.len();
        if matched > all || (matched == all && !goes_on) {
            return all + 1;
        }
        if matched == all {
            matched = self.fallback[all - 1];
        }
        while matched > 0 && self.tokens[matched] != token {
            matched = self.fallback[matched - 1];
        }
        matched + usize::from(self.tokens[matched] == token)
    }
}

/// How far a hypothesis has come: for each phrase, the number of its tokens that the hypothesis ends with, or more than
/// all of them once they have occurred and are followed by something else than the rest of a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress(Vec<usize>);

impl<'a> Phrases<'a> {
    /// Empty phrases ask for nothing and are left out.
    pub(crate) fn new(phrases: &[Vec<u32>], continuing: &'a [bool]) -> Self {
        let asked = phrases.iter().filter(|tokens| !tokens.is_empty());
        Self {
            phrases: asked.map(|tokens| Phrase::new(tokens)).collect(),
            continuing,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.phrases.is_empty()
    }

    /// The progress of an empty hypothesis.
    pub(crate) fn start(&self) -> Progress {
        Progress(vec![0; self.phrases.len()])
    }

    /// The progress after one more token.
    pub(crate) fn advance(&self, progress: &Progress, token: u32) -> Progress {
        let goes_on = self.continuing.get(token as usize).copied().unwrap_or(false);
        let both = self.phrases.iter().zip(&progress.0);
        let advance = |(phrase, matched): (&Phrase, &usize)| phrase.advance(*matched, token, goes_on);
        Progress(both.map(advance).collect())
    }

    /// The number of tokens that suffice to complete all phrases: one phrase goes on, the others begin anew. There is
    /// always a next token that lowers this number, unless it is zero.
    pub(crate) fn missing(&self, progress: &Progress) -> usize {
        let open = || {
            self.phrases
                .iter()
                .zip(&progress.0)
                .filter(|(phrase, matched)| **matched < phrase.tokens.len())
        };
        let all: usize = open().map(|(phrase, _)| phrase.tokens.len()).sum();
        all - open().map(|(_, matched)| *matched).max().unwrap_or(0)
    }

    /// The number of tokens of all phrases.
    pub(crate) fn tokens(&self) -> usize {
        self.phrases.iter().map(|phrase| phrase.tokens.len()).sum()
    }

    /// For each token, whether it belongs to the first occurrence of a phrase; empty if there are no phrases.
    pub(crate) fn places(&self, tokens: &[u32]) -> Vec<bool> {
        let mut places = vec![false; if self.is_empty() { 0 } else { tokens.len() }];
        let goes_on = |place: usize| {
            let token = tokens.get(place).copied().unwrap_or(u32::MAX);
            self.continuing.get(token as usize).copied().unwrap_or(false)
        };
        for phrase in &self.phrases {
            let length = phrase.tokens.len();
            let mut windows = tokens.windows(length).enumerate();
            let is_found = |(place, window): &(usize, &[u32])| *window == phrase.tokens && !goes_on(place + length);
            if let Some((place, _)) = windows.find(is_found) {
                places[place..place + length].fill(true);
            }
        }
        places
    }

    /// The tokens that begin or continue a phrase that is not complete.
    pub(crate) fn wanted(&self, progress: &Progress) -> Vec<u32> {
        let mut wanted = Vec::new();
        for (phrase, matched) in self.phrases.iter().zip(&progress.0) {
            if let Some(next) = phrase.tokens.get(*matched) {
                wanted.extend([*next, phrase.tokens[0]]);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random phrases over two words, which overlap often, against a search in the text.
    #[test]
    fn phrases_are_found_where_they_occur() {
        let mut state = 1u32;
        let mut random = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % bound
        };
        for _ in 0..500 {
            let sequences: Vec<Vec<u32>> = (0..3)
                .map(|_| (0..1 + random(4)).map(|_| random(2)).collect())
                .collect();
            let phrases = Phrases::new(&sequences, &[]);
            let mut progress = phrases.start();
            let mut text: Vec<u32> = Vec::new();
            for _ in 0..12 {
                let missing = phrases.missing(&progress);
                // One of the wanted tokens brings the end nearer.
                let nearer = |token: &u32| phrases.missing(&phrases.advance(&progress, *token)) < missing;
                assert!(missing == 0 || phrases.wanted(&progress).iter().any(nearer));
                let token = random(2);
                text.push(token);
                progress = phrases.advance(&progress, token);
                let contains = |phrase: &Vec<u32>| text.windows(phrase.len()).any(|window| window == phrase.as_slice());
                assert_eq!(
                    phrases.missing(&progress) == 0,
                    sequences.iter().all(contains),
                    "{sequences:?} in {text:?}"
                );
            }
        }
    }

    #[test]
    fn numbers_of_missing_tokens() {
        let phrases = Phrases::new(&[vec![1, 2, 3], vec![4, 5], vec![]], &[]);
        let start = phrases.start();
        assert_eq!((phrases.missing(&start), phrases.tokens()), (5, 5));
        assert_eq!(phrases.wanted(&start), [1, 4]);
        let begun = phrases.advance(&phrases.advance(&start, 1), 2);
        assert_eq!((phrases.missing(&begun), phrases.wanted(&begun)), (3, vec![1, 3, 4]));
        // Another token breaks a phrase off, unless it is complete.
        assert_eq!(phrases.missing(&phrases.advance(&begun, 4)), 4);
        let complete = phrases.advance(&begun, 3);
        assert_eq!((phrases.missing(&complete), phrases.wanted(&complete)), (2, vec![4]));
        assert_eq!(phrases.missing(&phrases.advance(&complete, 9)), 2);
        assert!(Phrases::new(&[vec![]], &[]).is_empty());
    }

    #[test]
    fn places_of_phrases() {
        let continuing = [false, false, false, true];
        let phrases = Phrases::new(&[vec![1, 2], vec![2, 0]], &continuing);
        let places = |tokens: &[u32]| -> Vec<usize> {
            let places = phrases.places(tokens).into_iter().enumerate();
            places.filter(|(_, is)| *is).map(|(place, _)| place).collect()
        };
        assert_eq!(places(&[0, 1, 2, 3, 1, 2, 1, 2]), [4, 5]);
        assert_eq!(places(&[1, 2, 0, 1, 2]), [0, 1, 2]);
        assert!(Phrases::default().places(&[1, 2]).is_empty());
    }

    /// A phrase that goes on as another word does not count, until it is found elsewhere.
    #[test]
    fn phrases_end_with_words() {
        // Token 3 goes on with the word before it.
        let continuing = [false, false, false, true];
        let phrases = Phrases::new(&[vec![1, 2]], &continuing);
        let missing = |tokens: &[u32]| {
            let advance = |progress: Progress, token: &u32| phrases.advance(&progress, *token);
            phrases.missing(&tokens.iter().fold(phrases.start(), advance))
        };
        assert_eq!((missing(&[1, 2]), missing(&[1, 2, 3]), missing(&[1, 2, 0])), (0, 2, 0));
        assert_eq!(
            (
                missing(&[1, 2, 0, 3]),
                missing(&[1, 2, 3, 1]),
                missing(&[1, 2, 3, 1, 2])
            ),
            (0, 1, 0)
        );
        // A phrase that itself has such a token.
        let phrases = Phrases::new(&[vec![1, 3]], &continuing);
        let after = |tokens: &[u32]| {
            tokens
                .iter()
                .fold(phrases.start(), |progress, token| phrases.advance(&progress, *token))
        };
        assert_eq!(phrases.missing(&after(&[1, 3])), 0);
        assert_eq!(phrases.missing(&after(&[1, 3, 3])), 2);
    }
}
