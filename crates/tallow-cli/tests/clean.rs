//! `tallow clean`, and cleaning in training: each planted fault is found, and translations stay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers here fail the test that calls them.

mod program;

use program::{fault, printed, run};
use std::path::Path;

const NOUNS: [(&str, &str); 8] = [
    ("man", "Mann"),
    ("dog", "Hund"),
    ("boy", "Junge"),
    ("friend", "Freund"),
    ("teacher", "Lehrer"),
    ("artist", "Künstler"),
    ("worker", "Arbeiter"),
    ("baker", "Bäcker"),
];
const PLACES: [(&str, &str); 8] = [
    (
        "in a garden behind the old house",
        "in einem Garten hinter dem alten Haus",
    ),
    ("on a street", "auf einer Straße"),
    ("near the river under the bridge", "nahe dem Fluss unter der Brücke"),
    (
        "in front of a white building with many windows",
        "vor einem weißen Gebäude mit vielen Fenstern",
    ),
    ("at home", "zu Hause"),
    (
        "on the top of a very high mountain in winter",
        "auf dem Gipfel eines sehr hohen Berges im Winter",
    ),
    ("in the water", "im Wasser"),
    (
        "beside a small child with a red hat and a ball",
        "neben einem kleinen Kind mit einem roten Hut und einem Ball",
    ),
];
const VERBS: [(&str, &str); 9] = [
    ("stands", "steht"),
    ("waits", "wartet"),
    ("sleeps", "schläft"),
    ("plays", "spielt"),
    ("sings", "singt"),
    ("eats", "isst"),
    ("works", "arbeitet"),
    ("laughs", "lacht"),
    ("sits", "sitzt"),
];

/// Pairs that belong together, all different.
fn pairs(count: usize) -> Vec<(String, String)> {
    let pair = |i: usize| {
        let (noun, place, verb) = (NOUNS[i % 8], PLACES[i * 5 / 8 % 8], VERBS[i / 64 % 9]);
        (
            format!("A {} {} {}.", noun.0, verb.0, place.0),
            format!("Ein {} {} {}.", noun.1, verb.1, place.1),
        )
    };
    (0..count).map(pair).collect()
}

fn write(folder: &Path, pairs: &[(String, String)]) {
    let side =
        |of: fn(&(String, String)) -> &String| pairs.iter().map(|pair| of(pair).clone() + "\n").collect::<String>();
    std::fs::write(folder.join("a.en"), side(|pair| &pair.0)).unwrap();
    std::fs::write(folder.join("a.de"), side(|pair| &pair.1)).unwrap();
    let config = "[text]\nvocabulary = 400\n[data]\ntrain = [{ source = \"a.en\", target = \"a.de\" }]\n\
                  [model]\nd_model = 8\nheads = 2\nfeed_forward = 8\nencoder_layers = 1\ndecoder_layers = 1\n\
                  [train]\nmax_updates = 2\nworkers = 1\n";
    std::fs::write(folder.join("run.toml"), config).unwrap();
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// One fault of each kind, at places that are far from each other.
#[test]
fn every_planted_fault_is_found_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut all = pairs(576);
    let planted = [
        (10, "empty", " ", "Ein Satz."),
        (
            20,
            "broken",
            "A bad byte in this line here.",
            "Ein schlechtes Byte in dieser \u{fffd}eile.",
        ),
        (
            30,
            "max_length_ratio",
            "Short.",
            "Ein sehr langer Satz, der mit dem kurzen nichts zu tun haben kann.",
        ),
        (40, "min_letters", "+++ --- 1 2 3 4 5 ***", "+++ --- 1 2 3 4 5 ***"),
        (
            50,
            "copies",
            "Nobody has translated this line.",
            "Nobody has translated this line.",
        ),
        (
            60,
            "numbers",
            "The train leaves in 25 minutes.",
            "Der Zug fährt in 52 Minuten ab.",
        ),
        (
            70,
            "links",
            "Read more at www.example.org today.",
            "Lesen Sie heute mehr auf www.example.com dazu.",
        ),
        (
            80,
            "placeholders",
            "Cannot open %s for reading.",
            "Kann nicht zum Lesen geöffnet werden.",
        ),
        (
            90,
            "languages",
            "This line has been written in English only.",
            "This other line is English, too, and not German.",
        ),
        (100, "languages", "A Russian line.", "Это строка на русском языке."),
    ];
    for (line, _, source, target) in planted {
        all[line] = (source.to_owned(), target.to_owned());
    }
    let long = ("word ".repeat(201), "Wort ".repeat(201));
    all[110] = long;
    // Near duplicates of other lines, and one source with many targets.
    all[120] = (all[5].0.to_uppercase(), all[5].1.replace('.', "!"));
    for i in 0..22 {
        all[130 + i] = (all[130].0.clone(), all[130 + i].1.clone());
    }
    write(at, &all);
    let said = printed(at, &["clean", "run.toml", "--output", "cleaned"]);
    let dropped: Vec<Vec<String>> = lines(&at.join("cleaned/a.en.dropped"))
        .iter()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect();
    let mut expected: Vec<(usize, &str)> = planted.iter().map(|(line, rule, _, _)| (line + 1, *rule)).collect();
    expected.extend([
        (111, "max_words"),
        (121, "near_duplicates"),
        (151, "max_repeats"),
        (152, "max_repeats"),
    ]);
    let found: Vec<(usize, &str)> = dropped
        .iter()
        .map(|columns| (columns[1].parse().unwrap(), columns[0].as_str()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(
        (dropped[2][2].as_str(), dropped[2][3].as_str()),
        (planted[2].2, planted[2].3)
    );
    let is_kept = |line: &usize| expected.iter().all(|(dropped, _)| *dropped != line + 1);
    let kept: Vec<(String, String)> = (0..all.len()).filter(is_kept).map(|line| all[line].clone()).collect();
    assert_eq!(
        lines(&at.join("cleaned/a.en")),
        kept.iter().map(|pair| pair.0.clone()).collect::<Vec<_>>()
    );
    assert_eq!(
        lines(&at.join("cleaned/a.de")),
        kept.iter().map(|pair| pair.1.clone()).collect::<Vec<_>>()
    );
    assert!(
        said.starts_with("a.en and a.de: kept 562 of 576 pairs (97.57 %)"),
        "{said}"
    );
    assert!(
        said.contains("line 61: The train leaves in 25 minutes. | Der Zug"),
        "{said}"
    );
    // Training with the same rules keeps the same pairs.
    let train = ["train", "run.toml", "--set", "data.clean={}"];
    let output = run(at, &train);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("kept 562 of 576 pairs") && said.contains("1 with different numbers (line 61)"),
        "{said}"
    );
    // So does checking, and what was kept stays.
    let said = String::from_utf8(run(at, &["check", "run.toml", "--set", "data.clean={}"]).stdout).unwrap();
    assert!(said.contains("kept 562 of 576 pairs"), "{said}");
    let set = "data.train=[{source=\"cleaned/a.en\", target=\"cleaned/a.de\"}]";
    let said = printed(at, &["clean", "run.toml", "--set", set, "--output", "again"]);
    assert!(said.contains("kept 562 of 562 pairs"), "{said}");
}

#[test]
fn shifted_stretches_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut all = pairs(576);
    all.extend(
        pairs(576)
            .into_iter()
            .map(|(source, target)| (format!("Maybe {source}"), format!("Vielleicht {target}"))),
    );
    // From line 501 on, every target stands one line further down.
    let targets: Vec<String> = (500..1152).map(|line| all[line - 1].1.clone()).collect();
    for (line, target) in (500..).zip(targets) {
        all[line].1 = target;
    }
    write(at, &all);
    let said = printed(at, &["clean", "run.toml", "--output", "cleaned"]);
    assert!(said.contains("in shifted stretches (data.clean.shifted)"), "{said}");
    let dropped: Vec<usize> = lines(&at.join("cleaned/a.en.dropped"))
        .iter()
        .filter(|line| line.starts_with("shifted\t"))
        .map(|line| line.split('\t').nth(1).unwrap().parse().unwrap())
        .collect();
    let right = dropped.iter().filter(|line| **line > 500).count();
    assert!(
        right >= 640 && dropped.len() <= right + 10,
        "{right} of {}",
        dropped.len()
    );
}

#[test]
fn rules_and_places_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, &pairs(20));
    for (clean, part) in [
        (
            "{max_length_ratio=0.5}",
            "data.clean.max_length_ratio: 0.5 must be 0 (any ratio) or at least 1",
        ),
        (
            "{languages=[\"en\", \"xx\"]}",
            "data.clean.languages: \"xx\" cannot be told from other languages",
        ),
        ("{min_letters=2}", "data.clean.min_letters: 2 must be from 0 to 1"),
        ("{max_word=3}", "max_word"),
    ] {
        let said = fault(
            at,
            &[
                "clean",
                "run.toml",
                "--output",
                "x",
                "--set",
                &format!("data.clean={clean}"),
            ],
        );
        assert!(said.contains(part), "{said}");
    }
    let said = fault(at, &["clean", "run.toml", "--output", "."]);
    assert!(
        said.contains("exists already and is not empty; choose another folder"),
        "{said}"
    );
    printed(at, &["clean", "run.toml", "--output", "x"]);
    assert!(fault(at, &["clean", "run.toml", "--output", "x"]).contains("is not empty"));
}

/// Real text: less than one line in a hundred is dropped.
#[test]
#[allow(clippy::disallowed_methods)] // A test may be told where text is.
fn captions_stay() {
    let Some(folder) = std::env::var_os("TALLOW_MULTI30K") else {
        println!("skipped: TALLOW_MULTI30K names no folder with the text of Multi30k");
        return;
    };
    let folder = Path::new(&folder);
    let named = |name: &str| {
        let plain = folder.join(name);
        if plain.exists() {
            plain
        } else {
            folder.join(format!("{name}.gz"))
        }
    };
    for target in ["de", "fr"] {
        let place = tempfile::tempdir().unwrap();
        let (en, other) = (named("val.en"), named(&format!("val.{target}")));
        let config = format!("[data]\ntrain = [{{ source = {en:?}, target = {other:?} }}]\n");
        std::fs::write(place.path().join("run.toml"), config).unwrap();
        let said = printed(place.path(), &["clean", "run.toml", "--output", "cleaned"]);
        let kept = lines(&place.path().join("cleaned/val.en")).len();
        assert!(kept * 100 > 1014 * 99, "{said}");
    }
}

/// A model that has learned the pairs takes wrong ones for improbable.
#[test]
fn improbable_translations_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut all = pairs(300);
    write(at, &all);
    let long = [
        "train",
        "run.toml",
        "--set",
        "train.max_updates=800",
        "--set",
        "model.d_model=32",
        "--set",
        "model.feed_forward=64",
        "--set",
        "model.heads=4",
        "--set",
        "model.dropout=0.0",
        "--set",
        "data.batch_tokens=512",
    ];
    printed(at, &long);
    // Translations of other lines that no other rule could find.
    for line in [40, 77, 123] {
        all[line].1 = all[(line + 150) % 300].1.clone();
    }
    write(at, &all);
    let rules = "data.clean={near_duplicates=false, max_repeats=0, model='runs/run', least_score=-0.8}";
    printed(at, &["clean", "run.toml", "--set", rules, "--output", "cleaned"]);
    let dropped: Vec<String> = lines(&at.join("cleaned/a.en.dropped"));
    let found: Vec<&str> = dropped.iter().map(|line| line.split('\t').nth(1).unwrap()).collect();
    assert_eq!(found, ["41", "78", "124"], "{dropped:?}");
    assert!(dropped.iter().all(|line| line.starts_with("least_score\t")));
    // Preparing drops them, too, and does it anew if the model is another one.
    let prepare = ["prepare", "run.toml", "--set", rules, "--set", "name=next"];
    let said = |arguments: &[&str]| {
        let output = run(at, arguments);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&prepare).contains("\t297 pairs"));
    printed(at, &[&long[..], &["--overwrite", "--set", "seed=2"]].concat());
    let again = said(&prepare);
    assert!(again.contains("the model of data.clean is another one"), "{again}");
    let missing = "data.clean={model='runs/none', least_score=-5}";
    let said = fault(at, &["prepare", "run.toml", "--set", missing]);
    assert!(said.contains("data.clean.model"), "{said}");
    let said = fault(at, &["prepare", "run.toml", "--set", "data.clean={least_score=1}"]);
    assert!(
        said.contains("data.clean.model: name") && said.contains("least_score: 1 must be below 0"),
        "{said}"
    );
}
