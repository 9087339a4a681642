"""Makes the text of `lrl new`: a commented recipe for your language, to be read and changed."""

import re

from lrl_jax.recipe.vocab import LANGUAGE

# Scripts that write vowels and conjuncts as marks; Llama 3's pre-tokenizer cuts words at them.
MARKED = {
    "Bali", "Beng", "Cakm", "Deva", "Gran", "Gujr", "Guru", "Java", "Khmr", "Knda", "Lana", "Laoo",
    "Mlym", "Mtei", "Mymr", "Orya", "Sinh", "Sund", "Taml", "Telu", "Thaa", "Thai", "Tibt",
}  # fmt: skip
TEMPLATE = """\
# {name}: {base} learns {language}.
#
#   lrl check {path}          what is missing, what will be trained, does it fit
#   lrl run {path}            vocab, init, data, train, evaluate, export: what is due
#   lrl run {path} train.batch_size=64     any number below can be given on the command line
#
# Rows are {sequence} tokens; a step reads batch_size of them.

name: {name}
folder: runs              # the run goes to runs/{name}; gs://bucket/runs on a TPU pod
seed: 0

base:
  model: {base}
  license: unknown        # say what the base's licence is; it goes into the model card

# New pieces rank below every piece of the base, so English text keeps its tokens. EEVE keeps
# pieces seen at least 6,000 times in 100 GB (arXiv 2402.14714); about 10,000 pieces remove most
# of the fertility gap (arXiv 2406.14670).
vocab:
  method: extend
  text: ["{text}"]        # raw text of the language, a document a line
  pieces: 10000
  scripts: [{script}]
  choose: continue        # go on with BPE where the base's merges end (arXiv 2512.03989)
  pretokenizer: {cut}{pad} # of byte-level bases; mark_aware keeps marks with their letters
  min_count: 20
  prove_on: ["{english}"] # text whose ids must not change
  report:
    texts: {{}}             # the same content in several languages, such as
                          # {{eng_Latn: flores.eng, {language}: flores.{short}}}

# A new row starts as the mean of the rows that spelled its text before.
init:
  input_rows: subword_mean
  output_rows: subword_mean
  param_dtype: float32

data:
  sequence_length: {sequence}
  datasets:
    target: {{kind: text, path: ["{text}"], language: {language}}}
    english: {{kind: text, path: ["{english}"], language: eng_Latn}}
    # pairs: {{kind: parallel, source: en.txt, target: {short}.txt, source_language: eng_Latn,
    #         target_language: {language}, direction: both}}
    # tasks: {{kind: instructions, path: [alpaca_{short}.json], language: {language}}}

# Weights are shares of tokens. A quarter of English keeps English (arXiv 2403.08763).
train:
  batch_size: 32
  stages:
    - name: align         # only the rows of new tokens move
      steps: 200
      mixture: {{target: 0.75, english: 0.25}}
      learn:
        - {{match: "embed", rows: new, schedule: {{peak: 1.0e-3, kind: constant, warmup: 20}}}}
        - {{match: ".*", schedule: frozen}}
    - name: continue      # everything learns; peak as in arXiv 2406.14670
      steps: 6000
      mixture: {{target: 0.75, english: 0.25}}
      learn:
        - {{match: ".*", schedule: {{peak: 6.0e-5, warmup: 180}}}}
  compute_dtype: bfloat16
  remat: nothing
  loss_blocks: 8
  mesh: {{data: 1, fsdp: -1, tensor: 1}}
  save: {{minutes: 15, keep: 2}}

evaluate:
  bits_per_byte: {{}}       # {{{language}: heldout.{short}.txt, eng_Latn: heldout.en.txt}}
  translation: {{}}

export:
  dtype: bfloat16
"""


def recipe_text(path: str, *, language: str, base: str, text: str, english: str) -> str:
    """Returns the text of a recipe that can be loaded unchanged.

    Raises:
      ValueError: `language` is not a FLORES code.
    """
    if not re.match(LANGUAGE, language):
        raise ValueError(
            f"--language {language!r}: want a FLORES code, three letters for the language and "
            "four for the script, such as kor_Hang or tam_Taml"
        )
    short, script = language.split("_")
    cut = "mark_aware" if script in MARKED else "keep"
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.rsplit("/", 1)[-1].removesuffix(".yaml"))
    return TEMPLATE.format(
        path=path, name=name, language=language, short=short, script=script,
        base=base, text=text, english=english, sequence=2048,
        cut=cut, pad=" " * (10 - len(cut)),
    )  # fmt: skip
