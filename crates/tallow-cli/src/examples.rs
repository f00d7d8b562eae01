//! The examples at the end of each command's long help.

pub(crate) const TRAIN_EXAMPLES: &str = "\
EXAMPLES
  tallow train configs/numbers-en-de.toml
  tallow train configs/numbers-en-de.toml --set train.max_updates=100 --set name=short
  tallow train configs/numbers-en-de.toml --resume      # after Ctrl-C
  tallow train my-texts.toml --set init=Helsinki-NLP/opus-mt-en-de      # begins with another model

Ctrl-C finishes the update, writes a checkpoint and exits with code 130; a second one stops at once.
The run is in runs/<name>: best/ is the best model, metrics.jsonl the log, events/ is for TensorBoard.";

pub(crate) const CLEAN_EXAMPLES: &str = "\
EXAMPLES
  tallow clean messy.toml --output cleaned
  tallow clean messy.toml --output cleaned --set 'data.clean={numbers=false, max_repeats=5}'
  cut -f1 cleaned/train.en.dropped | sort | uniq -c      # how many pairs each rule has dropped

The same rules clean text while it is prepared for training, with data.clean = {} in the config.";

pub(crate) const INIT_EXAMPLES: &str = "\
EXAMPLES
  tallow init --source corpus.en --target corpus.de --output en-de
  tallow init --source corpus.en --target corpus.de --budget 8h --output en-de
  tallow init --tsv corpus.tsv --languages en,de --output en-de

The folder gets the three sets and a config, in which each value has its reason. Then: tallow train en-de/en-de.toml";

pub(crate) const PREPARE_EXAMPLES: &str = "\
EXAMPLES
  tallow prepare configs/numbers-en-de.toml
  tallow prepare large.toml --set data.prepared=/data/prepared
  tallow prepare large.toml --verify                    # reads every prepared pair again
  zcat dump.tsv.gz | cut -f2,5 | tallow prepare large.toml      # with train = [{ tsv = \"-\" }]

Training does this by itself. What is prepared is used by every run with the same text, tokenizer and filters. A preparation
that was stopped goes on.";

pub(crate) const TRANSLATE_EXAMPLES: &str = "\
EXAMPLES
  echo 'A dog runs.' | tallow translate runs/multi30k-en-de-plain
  tallow translate runs/multi30k-en-de-plain --beam 1 < test.en > test.de
  tallow translate runs/multi30k-en-de-plain --n-best 5 --format json < test.en
  tallow translate runs/multi30k-en-de-plain --sample --temperature 0.7 --seed 3 < test.en
  tallow translate Helsinki-NLP/opus-mt-en-de < test.en
  tallow translate runs/a runs/b --input long.en --output long.de --resume
  printf 'A dog runs.\\tEin\\tHund\\n' | tallow translate runs/multi30k-en-de --input-format tsv

MODEL is a run (its best model), a checkpoint, a model directory, or owner/name on the Hugging Face Hub, also as
owner/name@revision. Fetched files are in the Hub's cache (HF_HUB_CACHE, or in HF_HOME); HF_TOKEN gives access to private
models.
Every input line gives one output line. From a terminal, each line is translated when you press Enter.";

pub(crate) const SERVE_EXAMPLES: &str = "\
EXAMPLES
  tallow serve runs/multi30k-de-en                      # then open http://127.0.0.1:5000/
  tallow serve runs/multi30k-de-en runs/multi30k-en-de --compute int8
  tallow serve fr-en=models/mine --listen 0.0.0.0:8080 --keys keys.toml
  tallow serve --keys keys.toml --new-key shop          # prints a new key, and keeps its hash
  curl -s localhost:5000/translate -d q='Ein Hund rennt.' -d source=de -d target=en

The server speaks LibreTranslate's interface, its own (/v1, see /docs), and the WebSocket of marian-server. SIGTERM and
Ctrl-C end it after the requests at hand; SIGHUP loads models whose files have changed. docs/serving.md tells more.";

pub(crate) const EVAL_EXAMPLES: &str = "\
EXAMPLES
  tallow eval runs/numbers-en-de                        # the test set of its config
  tallow eval runs/multi30k-en-de-plain --source test.en --target test.de --beam 5
  tallow eval runs/multi30k-en-de/checkpoints/500 --valid --metrics bleu,chrf,ter --json";

pub(crate) const SCORE_EXAMPLES: &str = "\
EXAMPLES
  tallow score output.de --reference test.de
  tallow translate MODEL < test.en | tallow score - --reference test.de --metrics bleu,chrf
  tallow score output.de --reference a.de --reference b.de --lowercase --tokenize intl --json
  tallow score output.zh --reference test.zh --tokenize zh
  tallow score output.ja --reference test.ja --tokenize flores200 \\
      --sentencepiece ~/.sacrebleu/models/flores200sacrebleuspm

The numbers are those of sacreBLEU 2.6 with the same settings; the signature names the settings.";

pub(crate) const COMPARE_EXAMPLES: &str = "\
EXAMPLES
  tallow compare runs/base runs/larger                       # on the test set of the first
  tallow compare old.de new.de --reference test.de --labels domains.txt --test randomization
  tallow compare base-1,base-2,base-3 new-1,new-2,new-3 --html compared.html

The p-values are those of sacreBLEU 2.6 (--paired-bs, --paired-ar) with the same seed. Several runs of a system: its score is
the mean of theirs, and a second interval and test say what other seeds would change.";

pub(crate) const ABLATE_EXAMPLES: &str = "\
EXAMPLES
  tallow ablate configs/numbers-en-de.toml --set train.max_updates=120
  tallow ablate configs/numbers-en-de.toml --only positions,heads,residual --seeds 5
  tallow ablate my.toml --list

The folder of the results gets ablation.md and ablation.html; the same command goes on after a kill.";

pub(crate) const COST_EXAMPLES: &str = "\
EXAMPLES
  tallow cost configs/multi30k-en-de.toml
  tallow cost my.toml --set model.d_model=512 --longest 1024 --svg cost.svg

The model has random weights of the config's shape; nothing is read and nothing is trained.";

pub(crate) const REPORT_EXAMPLES: &str = "\
EXAMPLES
  tallow report runs/base
  tallow report runs/base runs/larger --output compared.html --export plots
  tallow train my.toml --report                     # keeps runs/my/report.html fresh

The page needs no network. It is made from the logs, so the run may still train.";

pub(crate) const LOOK_EXAMPLES: &str = "\
EXAMPLES
  tallow look runs/multi30k-en-de 'A dog runs through the snow.'
  tallow look runs/multi30k-en-de 'A dog runs.' --target 'Ein Hund schläft.' --output sleeping.html
  tallow look runs/multi30k-en-de 'A dog runs.' --checkpoints
  tallow look runs/numbers-en-de 'twenty-one thousand' --format json | jq '.steps[].entropy'

The page needs no network: pieces, embeddings, every head of every layer, the residual stream, probabilities, the search, the
price, and the translation without each head.";

pub(crate) const ALIGNMENT_HEADS_EXAMPLES: &str = "\
EXAMPLES
  tallow alignment-heads runs/multi30k-en-de --save
  tallow alignment-heads Helsinki-NLP/opus-mt-en-de --source test.en --target test.de --alignments test.align
  tallow translate runs/multi30k-en-de --alignments test.align < test.en > test.de

Every head of the decoder's cross-attention links each target token with the source token to which it attends most. The
links are compared with given word alignments; without any, with those on which two lexicons (IBM model 1, one for each
direction) agree. The best head has the lowest alignment error rate.";

pub(crate) const SHORTLIST_EXAMPLES: &str = "\
EXAMPLES
  tallow shortlist runs/multi30k-en-de --output en-de.shortlist
  tallow shortlist Helsinki-NLP/opus-mt-en-de --source train.en --target train.de --output en-de.shortlist
  tallow translate runs/multi30k-en-de --shortlist en-de.shortlist < test.en

A sentence is then translated with the most frequent pieces, the most probable translations of its own pieces, and its
own pieces if both sides have one vocabulary. The translations come from IBM model 1.";

pub(crate) const SCORE_PAIRS_EXAMPLES: &str = "\
EXAMPLES
  tallow score-pairs runs/multi30k-en-de --source train.en --target train.de > scores
  paste a.en a.de | tallow score-pairs runs/multi30k-en-de | cut -f1
  tallow score-pairs MODEL OTHER --pairs pairs.tsv --format json

The score is the log-probability (natural logarithm), normalised by length as in a search. Each token has the
log-probability that a search for this translation would give it.";

pub(crate) const AVERAGE_EXAMPLES: &str = "\
EXAMPLES
  tallow average runs/multi30k-en-de --last 5 --output averaged
  tallow average runs/a/checkpoints/900 runs/a/checkpoints/1000 --output averaged";

pub(crate) const CHECK_EXAMPLES: &str = "\
EXAMPLES
  tallow check configs/numbers-en-de.toml
  tallow check my-texts.toml --json > report.json
  tallow check configs/multi30k-en-de.toml --resume --updates 120 --kills 30

Without --resume: reports on the corpora (alignment, encoding, duplicates, overlap, lengths, unknown pieces), on the model
(parameters, memory, expected time) and on proofs of training with this model and data. Every line says ok, look
(worth a look), or FAULTY and what to do. No trained model is kept.

--resume trains for some updates twice: once without interruption, and once killed (SIGKILL) at random moments and resumed
after each. Weights, optimizer state, metrics.jsonl and the best model must be the same, byte by byte, on the CPU.

The exit code is 1 if anything is FAULTY.";

pub(crate) const VERIFY_EXAMPLES: &str = "\
EXAMPLES
  tallow verify runs/multi30k-en-de
  tallow verify runs/multi30k-en-de-plain/best --sample data/multi30k/val.en
  tallow verify Helsinki-NLP/opus-mt-en-de

One line per check on standard output; the exit code is 1 if one fails. scripts/check_marian.py compares translations with
those of transformers and CTranslate2.";

pub(crate) const EXPORT_EXAMPLES: &str = "\
EXAMPLES
  tallow export runs/multi30k-en-de --output my-model           # a directory for Hugging Face transformers
  tallow export runs/pre-norm --form marian --output marian     # model.npz for ct2-marian-converter

A run's best/ is such a directory already if transformers can express the model: post-norm, sinusoidal positions.";

pub(crate) const TOY_EXAMPLES: &str = "\
EXAMPLES
  tallow toy numbers --output data/numbers-en-de        # the shipped corpus
  tallow toy reverse --output data/reverse";

pub(crate) const CHART_EXAMPLES: &str = "\
EXAMPLES
  tallow chart runs/numbers-en-de --output course.svg
  tallow chart runs/a runs/b --metric chrf > both.svg

The picture is drawn from metrics.jsonl, also while a run is training.";

pub(crate) const COMPLETION_EXAMPLES: &str = "\
EXAMPLES
  tallow completions bash > ~/.local/share/bash-completion/completions/tallow
  tallow completions zsh > ~/.zfunc/_tallow
The scripts for bash, zsh and fish know the keys of --set, and propose configs and directories of models.";
