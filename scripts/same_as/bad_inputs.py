"""Lists bad inputs, of which the command line says what is wrong before any heavy work.

Each case has a folder with a sound recipe and its text, some of it replaced by what is bad.
"""

import dataclasses
import json
from pathlib import Path

SENTENCES = "".join(f"The cat number {n} sat on a mat.\n" for n in range(40))
RECIPE = """\
name: small
base:
  license: cc0-1.0
  shape: {hidden_size: 16, num_hidden_layers: 2, intermediate_size: 32, num_attention_heads: 4,
          num_key_value_heads: 2, max_position_embeddings: 64}
vocab: {method: train, text: [text.txt], size: 300}
data:
  sequence_length: 32
  datasets:
    english: {kind: text, path: [text.txt], language: eng_Latn}
train:
  batch_size: 4
  stages:
    - name: all
      steps: 10
      mixture: {english: 1}
      learn:
        - {match: ".*", schedule: {peak: 1.0e-3}}
evaluate:
  bits_per_byte: {eng_Latn: text.txt}
export: {title: Small, license: cc0-1.0}
"""
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 300,
    "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
}  # fmt: skip
EXTEND = (
    "vocab={method: extend, text: [text.txt], pieces: 10, scripts: [Latn], prove_on: [text.txt]}"
)
ON_BASE = ["base={model: base, license: mit}", EXTEND]

ANSWER = '{"question_id": 1, "model_id": "m", "choices": [{"index": 0, "turns": ["x"]}]}\n'
KEY = json.dumps(
    {"sheet": "bcdf", "models": ["a", "b"], "seed": 0, "sources": {}, "items": {"1": ""},
     "annotators": {"kim": {"files": {}, "rows": [
         {"row": "bcdf", "item": "1", "left": "A", "repeat": False, "texts": ""}]}}}
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """Describes one bad input.

    Attributes:
      arguments: of the command line, in the folder of the case.
      files: what is written there beside recipe.yaml and text.txt, or in their place.
    """

    name: str
    arguments: list[str]
    files: dict[str, str | bytes] = dataclasses.field(default_factory=dict)


def _check(name: str, *overrides: str, **files: str | bytes) -> Case:
    """Returns a case of `lrl check`; `files` are named with _ for the dot."""
    named = {path.replace("_", "."): content for path, content in files.items()}
    return Case(name, ["check", "recipe.yaml", *overrides], named)


def _entry(kind: str, path: str, rest: str = "") -> str:
    """Returns the override that makes the only dataset of another kind."""
    return f"data.datasets.english={{kind: {kind}, path: [{path}], language: eng_Latn{rest}}}"


CASES = (
    # the command line
    Case("no_verb", []),
    Case("unknown_verb", ["trian", "recipe.yaml"]),
    Case("no_recipe", ["train"]),
    Case("unknown_argument", ["check", "recipe.yaml", "--fast"]),
    Case("argument_that_is_no_override", ["check", "recipe.yaml", "train.batch_size"]),
    Case("missing_recipe", ["check", "nowhere.yaml"]),
    Case("recipe_that_does_not_ship", ["check", "quickstrat"]),
    Case("recipe_that_is_a_folder", ["check", "."]),
    Case("new_without_language", ["new", "mine.yaml", "--base", "base"]),
    Case("new_of_no_code", ["new", "mine.yaml", "--language", "Korean", "--base", "b"]),
    Case("new_over_a_file", ["new", "recipe.yaml", "--language", "kor_Hang", "--base", "b"]),
    Case("import_missing", ["check", "recipe.yaml", "--import", "own.py"]),
    Case("import_that_fails", ["check", "recipe.yaml", "--import", "own.py"], {"own.py": "1 / 0"}),
    Case("process_that_is_no_number", ["train", "recipe.yaml", "--process-id", "one"]),
    # the recipe as a file
    _check("recipe_not_utf8", recipe_yaml=b"name: \xff\n"),
    _check("recipe_not_yaml", recipe_yaml="name: [small\n"),
    _check("recipe_a_list", recipe_yaml="- name\n- base\n"),
    _check("recipe_empty", recipe_yaml=""),
    _check("recipe_with_an_anchor", recipe_yaml=RECIPE.replace("name: small", "name: &x small")),
    _check("recipe_with_a_key_twice", recipe_yaml=f"{RECIPE}name: other\n"),
    _check("recipe_too_large", recipe_yaml=RECIPE + "#" * (1 << 22)),
    # keys and values
    _check("unknown_key", "train.bacth_size=8"),
    _check("unknown_section", "trian.batch_size=8"),
    _check("missing_key", recipe_yaml=RECIPE.replace("  batch_size: 4\n", "")),
    _check("wrong_type", "train.batch_size=many"),
    _check("negative_number", "train.batch_size=-1"),
    _check("wrong_choice", "train.optimizer.kind=sgd"),
    _check("wrong_name", "name=../elsewhere"),
    _check("override_beyond_a_list", "train.stages.9.steps=1"),
    _check("override_below_a_value", "name.first=x"),
    _check("override_not_yaml", "train.mesh={data: 1"),
    _check("steps_and_epochs", "train.stages.0.epochs=1"),
    _check("no_stage", "train.stages=[]"),
    _check("no_rule", "train.stages.0.learn=[]"),
    _check("pattern_not_a_regular_expression", "train.stages.0.learn.0.match=("),
    _check("pattern_that_matches_nothing", "train.stages.0.learn.0.match=nothing"),
    _check("unknown_dataset_in_a_mixture", "train.stages.0.mixture={englsih: 1}"),
    _check("no_weight_in_a_mixture", "train.stages.0.mixture={english: 0}"),
    _check("replay_of_all", "train.replay={english: 1.5}"),
    _check("profile_of_no_steps", "train.profile=5:50"),
    _check("language_that_is_no_code", "data.datasets.english.language=English"),
    _check("unknown_template", "data.datasets.english.template=plian"),
    _check("unknown_script", *ON_BASE[:1], EXTEND.replace("Latn", "Latin")),
    _check("unknown_start_of_rows", "init.input_rows=zeros"),
    _check("unknown_pod", "train.pod=v5e-65"),
    _check("mesh_that_does_not_fit", "train.pod=v5e-4", "train.mesh={tensor: 3}"),
    _check("heads_that_do_not_divide", "base.shape.num_key_value_heads=3"),
    _check("unknown_model_type", "base.shape.model_type=lama"),
    _check("languages_all_alike", "data.datasets.english={kind: text, path: [text.txt], "
           "languages: [eng_Latn, deu_Latn]}"),
    # text and data
    _check("missing_text", "vocab.text=[nowhere.txt]", "data.datasets.english.path=[no*.txt]"),
    _check("empty_text", text_txt=""),
    _check("text_not_utf8", text_txt=b"good\n\xff\xfe bad\n"),
    _check("text_gz_that_is_none", _entry("text", "words.gz"), words_gz="plain\n"),
    _check("jsonl_cut_short", _entry("text", "rows.jsonl"), rows_jsonl='{"text": "a"}\n{"te'),
    _check("jsonl_without_its_field", _entry("instructions", "rows.jsonl"), rows_jsonl='{"a": 1}'),
    _check("json_of_no_rows", _entry("instructions", "rows.json"), rows_json="3"),
    _check("csv_without_its_column", _entry("text", "rows.csv"), rows_csv="a,b\n1,2\n"),
    _check("parquet_that_is_none", _entry("text", "rows.parquet"), rows_parquet=b"PAR1 no"),
    _check("unknown_format", _entry("chat", "rows.doc"), rows_doc="text"),
    _check("unknown_filter", _entry("text", "text.txt", ", filters: {max_words: 3}")),
    _check("pairs_of_unequal_length", "data.datasets.english={kind: parallel, source: text.txt, "
           "target: other.txt, source_language: eng_Latn, target_language: deu_Latn}",
           other_txt="Eins.\n"),
    _check("missing_evaluation_text", "evaluate.bits_per_byte={eng_Latn: nowhere.txt}"),
    # bases and tokenizers
    _check("missing_base", *ON_BASE),
    Case("base_without_config", ["check", "recipe.yaml", *ON_BASE], {"base/README.md": "none"}),
    Case("base_config_not_json", ["check", "recipe.yaml", *ON_BASE], {"base/config.json": "{"}),
    Case("base_without_tokenizer", ["check", "recipe.yaml", *ON_BASE],
         {"base/config.json": json.dumps(CONFIG)}),
    Case("base_of_an_unknown_kind", ["check", "recipe.yaml", *ON_BASE],
         {"base/config.json": json.dumps(CONFIG | {"model_type": "rwkv"}),
          "base/tokenizer.json": "{}"}),
    Case("tokenizer_model_corrupt", ["check", "recipe.yaml", *ON_BASE],
         {"base/config.json": json.dumps(CONFIG), "base/tokenizer.model": b"\x0a\xff\xff corrupt"}),
    Case("tokenizer_json_corrupt", ["check", "recipe.yaml", *ON_BASE],
         {"base/config.json": json.dumps(CONFIG), "base/tokenizer.json": "{}"}),
    Case("tokenizer_alone_corrupt",
         ["vocab", "recipe.yaml", "base.tokenizer=base/tokenizer.model", EXTEND],
         {"base/tokenizer.model": b"\x0a\xff\xff corrupt"}),
    Case("base_without_weights", ["vocab", "recipe.yaml", *ON_BASE],
         {"base/config.json": json.dumps(CONFIG), "base/tokenizer.model": b"\x0a\xff\xff corrupt"}),
    Case("base_weights_corrupt", ["vocab", "recipe.yaml", *ON_BASE],
         {"base/config.json": json.dumps(CONFIG), "base/tokenizer.json": "{}",
          "base/model.safetensors": b"\xff" * 16}),
    Case("fertility_of_a_missing_tokenizer", ["vocab", "fertility", "nowhere", "--texts", "."]),
    Case("fertility_of_no_texts", ["vocab", "fertility", "base", "--texts", "nowhere"],
         {"base/tokenizer.json": "{}"}),
    # steps out of their order
    Case("init_before_vocab", ["init", "recipe.yaml"]),
    Case("data_before_vocab", ["data", "recipe.yaml"]),
    Case("train_before_data", ["train", "recipe.yaml"]),
    Case("evaluate_before_train", ["evaluate", "recipe.yaml"]),
    Case("export_before_train", ["export", "recipe.yaml"]),
    Case("show_before_data", ["show", "recipe.yaml"]),
    Case("inputs_that_changed", ["vocab", "recipe.yaml"],
         {"runs/small/steps/vocab.json": json.dumps(
             {"inputs": {"vocab": "0"}, "settings": "", "finished": True, "version": "0.1.0"})}),
    Case("note_of_a_step_not_json", ["vocab", "recipe.yaml"],
         {"runs/small/steps/vocab.json": "{"}),
    # machines and laws
    Case("fit_of_no_machine", ["fit", "recipe.yaml"]),
    Case("fit_of_an_unknown_machine", ["fit", "recipe.yaml", "--on", "v5-64"]),
    Case("fit_of_a_length_no_kernel_takes", ["fit", "recipe.yaml", "--on", "v5e-4"]),
    Case("runner_without_a_name", ["data", "recipe.yaml", "--runner-option", "a=b"]),
    Case("runner_unknown", ["data", "recipe.yaml", "--runner", "sprak"]),
    Case("laws_of_a_missing_file", ["laws", "fit", "nowhere.csv"]),
    Case("laws_without_columns", ["laws", "fit", "points.csv"], {"points.csv": "a,b\n1,2\n"}),
    Case("laws_of_words", ["laws", "fit", "points.csv"],
         {"points.csv": "language,pairs,score\nkor_Hang,many,3\n"}),
    Case("laws_of_decimal_commas", ["laws", "fit", "points.csv"],
         {"points.csv": "language,pairs,score\nkor_Hang,1000,31,5\n"}),
    Case("laws_of_a_line_that_stands_twice", ["laws", "fit", "points.csv"],
         {"points.csv": "language,pairs,score\nkor_Hang,1000,31\nkor_Hang,1000,31\n"}),
    Case("a_cap_that_is_given_twice",
         ["laws", "allocate", "laws.json", "--budget", "10", "--cap", "k=1", "--cap", "k=2"]),
    Case("budget_of_words", ["laws", "allocate", "laws.json", "--budget", "much"]),
    Case("laws_not_json", ["laws", "allocate", "laws.json", "--budget", "10"],
         {"laws.json": "{"}),
    # sheets
    Case("sheets_of_other_questions", ["sheet", "make", "a.jsonl", "b.jsonl"],
         {"a.jsonl": '{"prompt": "A", "output": "a"}\n',
          "b.jsonl": '{"prompt": "B", "output": "b"}\n'}),
    Case("sheets_without_questions", ["sheet", "make", "a.jsonl", "b.jsonl"],
         {"a.jsonl": ANSWER, "b.jsonl": ANSWER}),
    Case("sheets_for_one_name_twice",
         ["sheet", "make", "a.jsonl", "b.jsonl", "--names", "kim", "Kim"]),
    Case("sheets_with_a_key_of_another_form", ["sheet", "read", "a.csv", "--key", "key.json"],
         {"a.csv": "row,choice\nbcdf,left\n", "key.json": '{"form": "x"}'}),
    Case("sheets_without_rows", ["sheet", "read", "a.csv", "--key", "key.json"],
         {"a.csv": "name,age\nkim,7\n", "key.json": KEY}),
    Case("sheets_with_a_misspelt_choice", ["sheet", "read", "a.csv", "--key", "key.json"],
         {"a.csv": "row,choice\nbcdf,lfet\n", "key.json": KEY}),
)  # fmt: skip


def write(folder: Path) -> dict[str, list[str]]:
    """Writes the files of every case below a folder; returns the arguments of each by its name."""
    for case in CASES:
        files = {"recipe.yaml": RECIPE, "text.txt": SENTENCES} | case.files
        for name, content in files.items():
            path = folder / case.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {case.name: case.arguments for case in CASES}
