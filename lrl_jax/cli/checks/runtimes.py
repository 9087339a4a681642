"""Says in `lrl check` which programs read or run otherwise what a recipe makes."""

from collections.abc import Collection, Iterator
import json

from lrl_jax.hf.gguf import pretokenizers
from lrl_jax.pipeline.run import Run
from lrl_jax.pipeline.vocab import of_base
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.recipe.vocab import Extend
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.patterns import keeping_marks
from lrl_jax.vocab.tokenizer.types import JSON, is_sentencepiece

CONSEQUENCE = "llama.cpp and Ollama will not run the export"
UNSEEN = "it keeps combining marks with their letters, for which they have no rule but with Qwen"


def remarks(run: Run, wanted: Collection[str]) -> Iterator[str]:
    """Yields lines where transformers or llama.cpp would read texts otherwise than training does.

    Args:
      wanted: places that are not here yet; of a base among them no file is read.
    """
    base = run.recipe.base
    if isinstance(base, Pretrained) and not {base.model, base.adapter} & {*wanted}:
        yield from of_base(run, tokenizers.load(run.base_tokenizer()))
    yield from _of_llama_cpp(run, wanted)


def _of_llama_cpp(run: Run, wanted: Collection[str]) -> Iterator[str]:
    vocab, base = run.recipe.vocab, run.recipe.base
    if not isinstance(vocab, Extend) or vocab.pretokenizer != "mark_aware":
        return
    place = base.model if isinstance(base, Pretrained) else base.tokenizer
    if place in wanted:
        where = "if the base is byte-level (SentencePiece has no use for it)"
        yield f"vocab.pretokenizer: mark_aware: {CONSEQUENCE} {where}: {UNSEEN}; keep is for them"
        return
    files = tokenizers.read(run.base_tokenizer() if isinstance(base, Pretrained) else place)
    if JSON not in files or is_sentencepiece(files):
        return  # the step vocab says what is wrong with it
    try:
        pretokenizers.name_of(keeping_marks(json.loads(files[JSON])))
    except ValueError as e:
        yield f"vocab.pretokenizer: mark_aware: {CONSEQUENCE}: {e} (docs/runtimes.md)"
