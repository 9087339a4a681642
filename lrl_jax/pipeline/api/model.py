"""Asks a model that is loaded: what it writes, how probable it finds texts, its states."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import math
import os
from typing import Any, Literal

from etils import epath
import jax
import numpy as np

from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import bits_per_byte, likelihood, states
from lrl_jax.evaluate import generate as generation
from lrl_jax.evaluate.benchmark import choices
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.model import llama
from lrl_jax.model.config import Dtype
from lrl_jax.pipeline.api import saving
from lrl_jax.pipeline.console import progress
from lrl_jax.pipeline.models import FolderSource
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.vocab import did_you_mean
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

Messages = Sequence[Mapping[str, str]]  # {role, content} of each turn of a conversation
DRAWING = ("stops", "temperature", "top_p", "min_p", "repetition_penalty", "seed")
BATCH = 8  # rows that are computed at a time, as `lrl evaluate` and `lrl align` have it
SHOWN = 40  # pieces of a text that are printed


@dataclasses.dataclass(frozen=True, repr=False)
class TextLogprobs:
    """Holds how probable a model finds each token of a text; prints as a table.

    Attributes:
      ids: of the text's tokens, int32 [T].
      pieces: the same tokens as the vocabulary spells them.
      logprobs: natural logarithms of their probabilities, float64 [T].
    """

    text: str
    ids: np.ndarray
    pieces: tuple[str, ...]
    logprobs: np.ndarray

    @property
    def total(self) -> float:
        """Returns the natural logarithm of the probability of all of them."""
        return math.fsum(self.logprobs)

    def __repr__(self) -> str:
        width = max(map(len, self.pieces), default=0)
        pairs = zip(self.pieces, self.logprobs, strict=True)
        lines = [f"{piece:{width}} {value:9.4f}" for piece, value in [*pairs][:SHOWN]]
        more = [f"and {len(self.pieces) - SHOWN:,} more"] * (len(self.pieces) > SHOWN)
        return "\n".join([*lines, *more, f"{'total':{width}} {self.total:9.4f}"])


@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """Holds a model that is loaded (`lrl.load`), and asks it.

        model = lrl.load("runs/first_steps")
        model.bits_per_byte(["Minsu ate three apples."])

    Attributes:
      place: where it was loaded from.
      measured: the model as `lrl_jax.evaluate` takes it: parameters, settings, devices.
      source: the files that it was read from, or the run whose checkpoint it is.
    """

    place: str
    measured: MeasuredModel = dataclasses.field(repr=False)
    source: FolderSource | Run = dataclasses.field(repr=False)

    @property
    def config(self) -> llama.LlamaConfig:
        """Returns the numbers of the architecture: depth, width, heads and so on."""
        return self.measured.cfg

    @property
    def params(self) -> llama.Params:
        """Returns the weights by name, as arrays on the devices."""
        return self.measured.params

    @property
    def tokenizer(self) -> Tokenizer:
        """Returns the tokenizer: encode, decode, control."""
        return self.measured.tokenizer

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """Returns the devices that share the weights."""
        return self.measured.mesh

    @property
    def context(self) -> int:
        """Returns how many tokens a prompt and its answer have at most; 0: not known."""
        return self.measured.context

    @property
    def length(self) -> int:
        """Returns the tokens of a row when text is scored; a longer text is read in windows."""
        return self.measured.length

    def __repr__(self) -> str:
        cfg, count = self.config, sum(x.size for x in self.params.values())
        device = self.mesh.devices.flat[0]
        return (
            f"Model({self.place!r}: {count:,} parameters in {cfg.dtype}, {cfg.depth} layers of "
            f"{cfg.width}, {self.tokenizer.size:,} pieces, reads {self.context or 'any number of'} "
            f"tokens, on {self.mesh.size} x {device.platform})"
        )

    # ------------------------------------------------------------------------ writing
    def generate(
        self,
        prompts: Iterable[str | Messages],
        max_new_tokens: int = 64,
        batch_size: int = BATCH,
        **drawing: Any,
    ) -> list[str]:
        """Continues each prompt, with its most probable tokens if nothing else is said, to its end.

            model.generate(["Minsu"], max_new_tokens=8)
            model.generate(["Minsu"], 8, temperature=0.8, seed=1)

        Args:
          prompts: texts, continued as they stand up to the end of the document, so that a prompt
            and what is returned are one text; or conversations, of which the user spoke last,
            answered in the tokenizer's own chat template: {role, content} of system, user,
            assistant.
          drawing: stops, temperature, top_p, min_p, repetition_penalty, seed, as in
            `lrl_jax.evaluate.generate.Settings`.

        Raises:
          ValueError: prompts that are neither, texts and conversations together, a tokenizer
            without a chat template, or a setting that is out of its range or of no such name.
        """
        for name in drawing:
            if name not in DRAWING:
                names = ("max_new_tokens", "batch_size", *DRAWING)
                near = did_you_mean(name, names)
                raise ValueError(f"no setting {name!r}{near}; there are {', '.join(names)}")
        tokenizer, end, bos = self.tokenizer, self.tokenizer.eos_id, True
        given = _several("prompts", prompts, "texts or of conversations")
        texts = [prompt for prompt in given if isinstance(prompt, str)]
        if texts and len(texts) < len(given):
            raise ValueError("prompts: want texts or conversations; got both, so call it twice")
        records = [_record(i, prompt) for i, prompt in enumerate(given) if not texts]
        if records:
            opened = (templates.prompt_parts(templates.OWN, each, tokenizer) for each in records)
            ids = [documents.ids(parts, tokenizer) for parts in opened]
            end = templates.ending(templates.OWN, records[0], tokenizer)
            bos = templates.begins_with_bos(templates.OWN, tokenizer)
        else:
            ids = tokenizer.encode_batch(texts)
        ends = tuple(dict.fromkeys((end, *self.measured.ends)))
        shape = {"continues": not records, "bos": bos}
        settings = generation.Settings(max_new_tokens, ends, **shape, **drawing)
        answers = [""] * len(ids)
        with self._watched("generate") as measured:
            for index, answer in generation.generate(measured, ids, settings, batch_size):
                answers[index] = answer.text
        return answers

    # ------------------------------------------------------------------------ scoring
    def logprob(
        self, texts: Sequence[str], after: str | Sequence[str] = "", *, batch_size: int = BATCH
    ) -> np.ndarray:
        """Returns the natural logarithm of each text's probability, float64 [N]; its tokens' sum.

            model.logprob(["Minsu ate three apples.", "apples three ate Minsu."])
            model.logprob(["three apples.", "the sky."], after="Minsu ate ")

        What is conditioned on is said at `token_logprobs`.
        """
        scored = self.token_logprobs(texts, after, batch_size=batch_size)
        return np.array([text.total for text in scored], np.float64)

    def token_logprobs(
        self, texts: Sequence[str], after: str | Sequence[str] = "", *, batch_size: int = BATCH
    ) -> list[TextLogprobs]:
        """Returns how probable each token of each text is.

            print(model.token_logprobs(["Minsu ate three apples."])[0])

        A token is predicted from bos, the tokens of `after`, and the tokens before it in its text.
        Nothing else is added: no eos is predicted and no newline.

        Without `after`, a text that is longer than a row (`model.length`) is read in windows that
        overlap by half, each of which begins with bos; a token is scored in the window where it has
        the most context. These are the windows of bits per byte. With it, spaces at its end go to
        the text, both are encoded together, and what is longer than a row loses its beginning, as
        in lm-evaluation-harness; where both melt into one token, that token counts for the text.

        Args:
          texts: any texts; an empty one has no tokens, and probability 1.
          after: a text before each of them, or one for each.

        Raises:
          ValueError: no list of texts, another number of `after`, or, with it, a text that is empty
            or longer than a row.
        """
        given = _texts("texts", texts)
        befores = [after] * len(given) if isinstance(after, str) else _texts("after", after)
        if len(befores) != len(given):
            raise ValueError(f"after: {len(befores)} texts for {len(given)}; want one for each")
        with self._watched("logprob") as measured:
            if any(befores):
                if "" in given:
                    raise ValueError(f"texts[{given.index('')}] is empty; it has nothing to score")
                asked = [*zip(befores, given, strict=True)]
                pairs = choices.continuation_pairs(self.tokenizer, asked)
                for i, why in choices.too_long(pairs, self.length).items():
                    raise ValueError(f"texts[{i}] {why}")
                ids = [continuation for _, continuation in pairs]
                bos_id = self.tokenizer.bos_id
                read = [likelihood.shared([pair], self.length, bos_id) for pair in pairs]
                nats = likelihood.token_nats(measured, read, batch_size)
            else:
                ids = self.tokenizer.encode_batch(given)
                nats = bits_per_byte.token_nats(ids, measured, batch_size)
        spelled = tokenizers.family(self.tokenizer).pieces(self.tokenizer)
        return [
            TextLogprobs(text, np.array(row, np.int32), tuple(spelled[i] for i in row), -values)
            for text, row, values in zip(given, ids, nats, strict=True)
        ]

    def bits_per_byte(self, texts: Sequence[str], *, batch_size: int = BATCH) -> float:
        """Returns the bits that the model needs for a UTF-8 byte of all texts together.

            model.bits_per_byte(["Minsu ate three apples."])

        Each text is a line, as in the step `evaluate`, whose number this is of the same lines, row
        length and dtype. Blank ones do not count. It can be compared between vocabularies.

        Raises:
          ValueError: no list of texts, or all of them blank.
        """
        given = _texts("texts", texts)
        with self._watched("bits_per_byte") as measured:
            return bits_per_byte.score(given, measured, batch_size).bits_per_byte

    def embed(
        self,
        texts: Sequence[str],
        layer: int | None = -1,
        pooling: str = "mean",
        *,
        batch_size: int = BATCH,
    ) -> np.ndarray:
        """Returns a vector for each text, float32 [N, D]: the states of its tokens, pooled.

            model.embed(["Minsu ate three apples."], layer=1).shape
            model.embed(["Minsu ate three apples."], layer=None).shape

        They are those that `lrl align` compares. A text is read by itself, after bos.

        Args:
          layer: 0: the embeddings; from 1 on the layers; the last, -1, is after the final norm.
            None: all of them, [L + 1, N, D].
          pooling: "mean" of bos and all tokens; "weighted", the same with weights 1 to T (MEXA,
            arXiv 2410.05873); or "last", the state of the last token.

        Raises:
          ValueError: no list of texts, a text longer than `lrl align` reads, or no such layer or
            pooling.
        """
        given, layers = _texts("texts", texts), self.config.depth + 1
        if pooling not in states.POOLINGS:
            raise ValueError(f"pooling={pooling!r}; want one of {', '.join(states.POOLINGS)}")
        if layer is not None and not -layers <= layer < layers:
            raise ValueError(
                f"layer={layer}; want 0, the embeddings, to {layers - 1}, or -1 and on"
            )
        ids, most = states.sentence_ids(given, self.measured), states.longest(self.measured)
        for i, row in enumerate(ids):
            if len(row) > most:
                raise ValueError(
                    f"texts[{i}] has {len(row):,} tokens with bos; want {most:,} at most: split it"
                )
        if not ids:
            states_LND = np.zeros((layers, 0, self.config.width), np.float32)
        else:
            with self._watched("embed") as measured:
                states_LND = states.pool(measured, ids, batch_size)[pooling]
        return states_LND if layer is None else states_LND[layer]

    # ------------------------------------------------------------------------ saving
    def save(
        self,
        folder: str | os.PathLike,
        *,
        dtype: Dtype | Literal["auto"] = "auto",
        texts: Sequence[str] = saving.TEXTS,
    ) -> epath.Path:
        """Writes the model as a Hugging Face folder that `from_pretrained` loads; returns it.

            model.save("saved")

        It is written under another name, read back and compared, as an export is: tokens of
        `texts`, and logits. Only then it gets its name. A checkpoint of a run is exported as
        `lrl export` does, with its model card and chat template; adapters are merged.

        Args:
          folder: local or `gs://`; it must not be there yet.
          dtype: of the tensors. "auto": bfloat16 where the model came in that, else the dtype that
            it was loaded in; of a checkpoint, what its recipe says.
          texts: files, as a recipe names them, whose lines are compared; of a checkpoint, those of
            its recipe are.

        Raises:
          ValueError: the folder is there already, or texts without a line or of a checkpoint.
          VerificationError: what was written is not the model.
        """
        return saving.save(self.measured, self.source, os.fspath(folder), dtype, texts)

    @contextlib.contextmanager
    def _watched(self, what: str) -> Iterator[MeasuredModel]:
        """Yields the model so that its progress is shown."""
        with progress(what) as tell:
            yield dataclasses.replace(self.measured, tick=functools.partial(tell, self.place))


def _several(name: str, given: Any, what: str) -> list[Any]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ValueError(f"{name}={given!r:.60}; want a list of {what}")
    return [*given]


def _texts(name: str, given: Any) -> list[str]:
    texts = _several(name, given, "texts")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name}[{i}]: {text!r:.60} is no text")
    return texts


def _record(index: int, prompt: Any) -> templates.Record:
    try:
        return templates.asked(prompt)
    except ValueError as e:
        raise ValueError(f"prompts[{index}]: {e}") from None
