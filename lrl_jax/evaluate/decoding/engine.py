"""Keeps the rows of a batch busy: reads prompts into rows, decodes, and refills rows that ended.

Every process passes the same prompts and comes to the same decisions, for what decides is on all of
them: the prompts, and the tokens that a call of `program.decode` returns.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
import contextlib
import dataclasses
import os
import time
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from lrl_jax.devices import mesh as meshes
from lrl_jax.devices import peers
from lrl_jax.evaluate.decoding import lengths, program, sampling, stops
from lrl_jax.evaluate.decoding.program import CHUNK
from lrl_jax.evaluate.decoding.settings import Counters, Generated, Settings, Why, is_whole
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.model import llama, sharding
from lrl_jax.model.cache import Cache

SHORTEST = 32  # tokens to which prompts are padded at least on a CPU
KERNEL = 128  # and elsewhere, where kernels read rows in blocks
SHORTEST_ROWS = 256  # slots of a cache that is lengthened later; shorter ones are made at once
SHARED = 64  # tokens that prompts share and that are worth reading apart
REFILLED = 8  # one in so many rows waits, until that many are refilled together


@dataclasses.dataclass
class Answer:
    """Holds an answer that is being decoded, in one row.

    Attributes:
      index: of its prompt.
      ids: of the answer so far, those it was made to begin with included.
      decode: returns the text of ids of the answer.
      checked: how many of the ids are known to hold no stop string.
      done: the answer, once it has ended.
    """

    index: int
    ids: list[int]
    left: int
    decode: stops.Decode = dataclasses.field(repr=False)
    tokens: int = 0
    checked: int = 0
    done: Generated | None = None


@dataclasses.dataclass(frozen=True)
class _Prompt:
    index: int
    ids: tuple[int, ...]
    left: int  # steps of its answer at most
    draw: int


class Engine:
    """Generates with one model; holds its weights in the form that decoding reads.

    Args:
      batch_size: rows that are decoded together; rounded up to what the mesh can split.
    """

    def __init__(self, model: MeasuredModel, batch_size: int):
        if not is_whole(batch_size) or batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r}; want a whole number, 1 or more")
        self.model, self.batch_size = model, batch_size
        self.ways = sharding.rows_split(model.mesh.shape)
        with jax.set_mesh(model.mesh):
            on_cpu = sharding.platform() == "cpu"
            self.unit = SHORTEST if on_cpu else KERNEL  # lengths are its multiples
            self.apart = on_cpu and _has_room(model.params)
            self.params = program.apart(model.params) if self.apart else model.params

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        settings: Settings,
        counters: Counters | None = None,
        steps: int = CHUNK,
    ) -> Iterator[Answer]:
        """Yields every answer whenever it has grown, by up to `steps` tokens, and when it is done.

        Args:
          prompts: ids; bos is put in front of those that do not begin with it, if `settings.bos`.
        """
        counters = counters or Counters()
        clock = time.perf_counter()
        with contextlib.closing(Batch(self, prompts, settings, counters).answers(steps)) as grown:
            for answer in grown:
                counters.seconds += time.perf_counter() - clock
                yield answer
                clock = time.perf_counter()


def _has_room(params: llama.Params) -> bool:
    """Tells whether the memory of all machines holds the weights of layers once more, and half."""
    size = sum(w.nbytes for name, w in params.items() if name.startswith("layers/"))
    room = 2 * size < os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return all(said == str(True) for said in peers.exchange(str(room)))


class Batch:
    """Decodes the prompts of one call."""

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[Sequence[int]],
        settings: Settings,
        counters: Counters,
    ):
        self.engine, self.settings, self.counters = engine, settings, counters
        self.model, self.tokenizer = engine.model, engine.model.tokenizer
        self.queue = deque(sorted(self._prompts(prompts), key=lambda p: (len(p.ids), p.index)))
        longest = max((len(p.ids) + p.left for p in self.queue), default=0)
        self.setup = program.Setup(
            cfg=self.model.cfg,
            way=settings.way,
            pieces=min(self.tokenizer.size, self.model.cfg.vocab_size),
            ends=tuple(settings.ends),
            longest=lengths.rotated(self.model.cfg, longest),
            apart=engine.apart,
        )
        self.unit = engine.unit
        most = max((len(p.ids) for p in self.queue), default=1)
        self.prompt_sizes = lengths.sizes(most, self.unit, self.unit)
        self.row_sizes = lengths.sizes(
            longest, min(SHORTEST_ROWS, lengths.rounded(longest, self.unit)), self.unit
        )
        wanted = min(engine.batch_size, max(1, len(self.queue)))
        self.size = -(-wanted // engine.ways) * engine.ways
        self.refilled = max(1, self.size // REFILLED)
        self.together = -(-self.refilled // engine.ways) * engine.ways  # prompts read at once
        self.answering: list[Answer | None] = [None] * self.size
        self.positions = np.zeros(self.size, np.int64)  # of the token that each row reads next

    # ------------------------------------------------------------------------ prompts
    def _prompts(self, prompts: Sequence[Sequence[int]]) -> list[_Prompt]:
        """Returns the prompts with bos and the forced beginning, cut to what the model reads."""
        bos, settings, context = (self.tokenizer.bos_id,), self.settings, self.model.context
        added = bos if settings.bos else ()
        whole = [(*ids,) if (*ids[:1],) == bos else (*added, *ids) for ids in prompts]
        whole = [(*map(int, ids), *settings.prefix) for ids in whole]
        cut, new = [], settings.max_new_tokens
        for ids in whole:
            room = context - min(new, context // 2) if context else len(ids)
            if len(ids) > room:
                self.counters.truncated += 1
                first = bos if ids[:1] == bos else ()
                cut.append((*first, *ids[len(ids) - room + len(first) :]))
            else:
                cut.append(ids)
        lefts = [min(new, context - len(ids)) if context else new for ids in cut]
        every = zip(cut, lefts, sampling.draws(whole), strict=True)
        return [_Prompt(i, ids, left, draw) for i, (ids, left, draw) in enumerate(every)]

    def _read_shared(self) -> tuple[Cache | None, int]:
        """Reads what all prompts begin with, if that is worth while; returns its length too."""
        ids = [p.ids[:-1] for p in self.queue]
        low, high = min(ids), max(ids)  # the least and the greatest share what all share
        count = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), None)
        count = min(len(low), len(high)) if count is None else count
        if len(ids) < 2 or count < SHARED:
            return None, 0
        length = lengths.rounded(count, self.unit)
        keep = self._read([low[:count]], length, 1, None)
        self.counters.prompt_tokens += count
        return Cache(*keep, head=self._put(np.int32(count))), count

    def _read(
        self,
        prompts: Sequence[Sequence[int]],
        length: int,
        rows: int,
        shared: Cache | None,
    ) -> llama.Keep:
        tokens_AT = np.full((rows, length), self.tokenizer.pad_id, np.int32)
        lengths_A = np.zeros(rows, np.int32)
        for a, ids in enumerate(prompts):
            tokens_AT[a, : len(ids)] = ids
            lengths_A[a] = len(ids)
        split = rows % self.engine.ways == 0
        arrays = self._put(tokens_AT, split), self._put(lengths_A, split)
        return program.read(self.setup, self.engine.params, *arrays, shared)

    def _put(self, x: Any, rows: bool = False) -> jax.Array:
        """Puts what every process has on all devices, whole or split by rows."""
        mesh, x = self.model.mesh, np.asarray(x)
        where = meshes.batch_sharding(mesh) if rows else NamedSharding(mesh, PartitionSpec())
        return jax.make_array_from_callback(x.shape, where, lambda index: x[index])

    # ------------------------------------------------------------------------ rows
    def answers(self, steps: int) -> Generator[Answer]:
        """Yields every answer whenever it has grown, and once more when it is done."""
        if not self.queue:
            return
        with jax.set_mesh(self.model.mesh):
            knobs = self._knobs()
            shared, count = self._read_shared()
            rows = None
        while self.queue or any(self.answering):
            with jax.set_mesh(self.model.mesh):  # not around `yield`: callers have meshes too
                rows = self._lengthened(rows, steps)
                rows = self._filled(rows, shared, count)
                live_B = self._put(np.array([a is not None for a in self.answering]), rows=True)
                least = self.size - self.refilled + 1 if self.queue else 1
                numbers = self._put(np.int32(min(steps, CHUNK))), self._put(np.int32(least))
                rows, tokens_BC = program.decode(
                    self.setup, self.engine.params, rows, knobs, live_B, *numbers
                )
                tokens_BC = np.asarray(tokens_BC.addressable_data(0))
            yield from self._grown(tokens_BC)

    def _knobs(self) -> sampling.Knobs:
        s = self.settings
        temperature, top_p, min_p, penalty = (
            self._put(np.float32(x))
            for x in (s.temperature, s.top_p, s.min_p, s.repetition_penalty)
        )
        key = jax.random.key_data(jax.random.key(np.uint32(s.seed)))
        return sampling.Knobs(temperature, top_p, min_p, penalty, self._put(key))

    def _lengthened(self, rows: program.DecodingRows | None, steps: int) -> program.DecodingRows:
        """Returns rows with slots for the next steps, of those that decode and those to come."""
        idle = [b for b, answer in enumerate(self.answering) if answer is None]
        coming = [len(self.queue[i].ids) for i in range(min(len(idle), len(self.queue)))]
        going = [self.positions[b] + 1 for b in range(self.size) if b not in idle]
        need = lengths.fitting(self.row_sizes, int(max([*coming, *going])) + min(steps, CHUNK))
        if rows is None:
            return program.new_rows(self.setup, self.size, need)
        return rows if need <= rows.cache.length else program.lengthen(rows, need)

    def _filled(
        self, rows: program.DecodingRows, shared: Cache | None, count: int
    ) -> program.DecodingRows:
        """Returns rows into which the next prompts have been put, if enough rows are idle."""
        idle = [b for b, answer in enumerate(self.answering) if answer is None]
        if len(idle) < self.refilled and len(idle) < self.size:
            return rows
        while idle and self.queue:
            group = min(len(idle), len(self.queue), self.together)
            prompts = [self.queue.popleft() for _ in range(group)]
            rows = self._arrived(rows, prompts, idle[:group], shared, count)
            idle = idle[group:]
        return rows

    def _arrived(
        self,
        rows: program.DecodingRows,
        prompts: Sequence[_Prompt],
        places: Sequence[int],
        shared: Cache | None,
        count: int,
    ) -> program.DecodingRows:
        """Returns rows into which these prompts have been put, at these places."""
        own = [p.ids[count:-1] for p in prompts]
        self.counters.prompt_tokens += sum(map(len, own)) + len(own)
        length = lengths.fitting(self.prompt_sizes, max(map(len, own)))
        keep = self._read(own, length, self.together, shared)
        short = self.together - len(prompts)

        def column(values: Sequence[int], dtype: Any = np.int32) -> jax.Array:
            return self._put(np.array([*values, *[0] * short], dtype))

        seen_AV = None
        if self.setup.way.penalised:
            seen_AV = np.zeros((self.together, self.setup.pieces), bool)
            for a, prompt in enumerate(prompts):
                seen_AV[a, [i for i in prompt.ids if i < self.setup.pieces]] = True
            seen_AV = self._put(seen_AV)
        arrivals = program.Arrivals(
            count=self._put(np.int32(len(prompts))),
            row_A=column(places),
            token_A=column([p.ids[-1] for p in prompts]),
            position_A=column([len(p.ids) - 1 for p in prompts]),
            left_A=column([p.left for p in prompts]),
            draw_A=column([p.draw for p in prompts], np.uint32),
            seen_AV=seen_AV,
        )
        for b, prompt in zip(places, prompts, strict=True):
            decode = self._decode_after(prompt)
            self.answering[b] = Answer(prompt.index, [*self.settings.prefix], prompt.left, decode)
            self.positions[b] = len(prompt.ids) - 1
        return program.put(rows, keep, arrivals)

    # ------------------------------------------------------------------------ answers
    def _decode_after(self, prompt: _Prompt) -> stops.Decode:
        """Returns what decodes the answer to a prompt, as it continues it if that is asked."""
        decode, forced = self.tokenizer.decode, len(self.settings.prefix)
        if not self.settings.continues:
            return decode
        return stops.continuing(decode, prompt.ids[: len(prompt.ids) - forced])

    def _grown(self, tokens_BC: np.ndarray) -> Iterator[Answer]:
        """Yields the answers that have grown by these tokens, done or not."""
        steps = int((tokens_BC != program.NO_TOKEN).any(axis=0).sum())
        self.counters.steps += steps
        self.counters.row_steps += steps * self.size
        for b, answer in enumerate(self.answering):
            if answer is None:
                continue
            new = [int(i) for i in tokens_BC[b] if i != program.NO_TOKEN]
            self.positions[b] += len(new)
            self._extend(answer, new)
            if answer.done is not None:
                self.answering[b] = None
                self.counters.answers += 1
                self.counters.new_tokens += answer.done.tokens
            yield answer

    def _extend(self, answer: Answer, new: Sequence[int]) -> None:
        """Adds tokens to an answer, and ends it where they do or where a stop string is."""
        settings, decode = self.settings, answer.decode
        ended = bool(new) and new[-1] in settings.ends
        answer.ids += new[:-1] if ended else new
        answer.tokens += len(new)
        cut = stops.find(decode, answer.ids, settings.stops, len(settings.prefix), answer.checked)
        answer.checked = len(answer.ids)
        if cut is not None:
            answer.ids = [*cut.ids]
            answer.done = Generated(cut.ids, cut.text, "stop", cut.tokens)
        elif ended or answer.tokens >= answer.left:
            text = decode(answer.ids)
            why: Why = "end" if ended else "length"
            answer.done = Generated(tuple(answer.ids), text, why, answer.tokens)
