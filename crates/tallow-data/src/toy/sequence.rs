//! The common part of the sequence toys: random values, separated by spaces.
//!
//! The recipe is that of JoeyNMT's reverse task (scripts/generate_reverse_task.py): 50,000, 1,000 and 1,000 sequences
//! of values from 0 to 49. Lengths are uniform from 1 to 25 in train and from 1 to 30 in valid and test, so the test
//! set has lengths that training has never shown. The random generator differs, and so do the sequences. Splits are
//! drawn independently: there are few short sequences, and they occur in several splits.

use super::{Split, ToyOptions};
use crate::shuffle::{Purpose, SplitMix64};

/// Longer sequences are surely a mistake.
const LONGEST: usize = 10_000;

pub(super) fn options() -> ToyOptions {
    ToyOptions {
        seed: 1,
        train: 50_000,
        valid: 1_000,
        test: 1_000,
        maximum: 49,
        train_length: Some(25),
        test_length: Some(30),
    }
}

/// Train, valid, test, and two parts of the test set: lengths that train has (`inside`) and longer ones (`beyond`). A
/// part without any sequence is left out.
pub(super) fn splits(options: &ToyOptions, target: fn(&[u32]) -> Vec<u32>) -> Result<Vec<Split>, String> {
    let (Some(train_length), Some(test_length)) = (options.train_length, options.test_length) else {
        return Err("sequences need a largest length for train and for test".into());
    };
    for (name, length) in [("train", train_length), ("test", test_length)] {
        if length == 0 || length > LONGEST {
            return Err(format!("{name} length {length}: must be from 1 to {LONGEST}"));
        }
    }
    let draw = |number: u64, count: usize, longest: usize| -> Vec<Vec<u32>> {
        let mut generator = SplitMix64::keyed(options.seed, Purpose::ToySequences, &[number]);
        let mut sequence = || {
            let length = 1 + generator.below(longest as u64);
            (0..length)
                .map(|_| generator.below(u64::from(options.maximum) + 1) as u32)
                .collect()
        };
        (0..count).map(|_| sequence()).collect()
    };
    let train = draw(0, options.train, train_length);
    let valid = draw(1, options.valid, test_length);
    let test = draw(2, options.test, test_length);
    let (inside, beyond) = test
        .iter()
        .cloned()
        .partition(|sequence| sequence.len() <= train_length);
    let splits = [
        ("train", train),
        ("valid", valid),
        ("test", test),
        ("test.inside", inside),
        ("test.beyond", beyond),
    ];
    let pair = |sequence: &Vec<u32>| (line(sequence), line(&target(sequence)));
    let splits = splits
        .into_iter()
        .filter(|(_, sequences): &(_, Vec<Vec<u32>>)| !sequences.is_empty());
    Ok(splits
        .map(|(name, sequences)| Split {
            name,
            pairs: sequences.iter().map(pair).collect(),
        })
        .collect())
}

fn line(sequence: &[u32]) -> String {
    let values: Vec<String> = sequence.iter().map(u32::to_string).collect();
    values.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::{copy, reverse, sort};
    use super::*;

    fn lengths(split: &Split) -> (usize, usize) {
        let lengths = || split.pairs.iter().map(|(source, _)| source.split(' ').count());
        (lengths().min().unwrap(), lengths().max().unwrap())
    }

    #[test]
    fn the_recipe() {
        let splits = splits(&options(), reverse::target).unwrap();
        let names: Vec<&str> = splits.iter().map(|split| split.name).collect();
        assert_eq!(names, ["train", "valid", "test", "test.inside", "test.beyond"]);
        let expected = [(1, 25), (1, 30), (1, 30), (1, 25), (26, 30)];
        assert_eq!(splits.iter().map(lengths).collect::<Vec<_>>(), expected);
        let sizes: Vec<usize> = splits.iter().map(|split| split.pairs.len()).collect();
        assert_eq!(sizes[..3], [50_000, 1_000, 1_000]);
        assert_eq!(sizes[3] + sizes[4], 1_000);
        let values = splits[0].pairs.iter().flat_map(|(source, _)| source.split(' '));
        let values: std::collections::HashSet<u32> = values.map(|value| value.parse().unwrap()).collect();
        assert_eq!(values, (0..50).collect());
        assert_ne!(splits[1].pairs[0], splits[2].pairs[0]);
    }

    #[test]
    fn targets_follow_from_sources() {
        let options = ToyOptions {
            train: 20,
            valid: 1,
            test: 1,
            ..options()
        };
        for (source, target) in &splits(&options, reverse::target).unwrap()[0].pairs {
            assert_eq!(source.split(' ').rev().collect::<Vec<_>>().join(" "), *target);
        }
        assert_eq!(reverse::target(&[3, 1, 20]), [20, 1, 3]);
        assert_eq!(copy::target(&[3, 1, 20]), [3, 1, 20]);
        // Sorted as numbers: as text, 20 would come before 3.
        assert_eq!(sort::target(&[3, 1, 20, 3]), [1, 3, 3, 20]);
    }

    #[test]
    fn options_that_cannot_be_met_are_named() {
        let message = |options: &ToyOptions| splits(options, copy::target).map(|_| ()).unwrap_err();
        assert!(
            message(&ToyOptions {
                train_length: None,
                ..options()
            })
            .contains("need a largest length")
        );
        assert_eq!(
            message(&ToyOptions {
                test_length: Some(0),
                ..options()
            }),
            "test length 0: must be from 1 to 10000"
        );
        // If no length exceeds those of train, this part is not written.
        let same = ToyOptions {
            train: 5,
            valid: 5,
            test: 5,
            test_length: Some(25),
            ..options()
        };
        assert_eq!(splits(&same, copy::target).unwrap().len(), 4);
    }
}
