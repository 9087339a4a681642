"""The peers of the data benchmark: seqio, Grain, Hugging Face datasets, each as its users run it.

A contestant is {phase: function of a Setting}: `prepare` makes each language into rows once,
`feed` is an endless half-and-half mixture, `hosts` goes on with another number of hosts.
"""

from collections.abc import Iterator
import functools
import glob
import itertools
import json
import os
from pathlib import Path

from data_meter import Batch, Clock, Setting, fed, passed, prepared, repeated
import numpy as np

SHUFFLED = 1000  # seqio's default buffer
BINS = 64  # of Grain's first-fit packer


# ---------------------------------------------------------------------------- seqio
def seqio_task(name: str, paths: list[str], setting: Setting, split: bool) -> str:
    """Registers lines of text as a Task."""
    import seqio
    import tensorflow as tf

    def cut(dataset, sequence_length):
        """Long documents in parts, where `split` asks for it: seqio itself drops their tails."""
        if not split or sequence_length is None:
            return dataset
        length = sequence_length["targets"]

        def parts(example):
            whole = tf.concat([example["targets"], [2]], 0)
            size = tf.cast(tf.size(whole), tf.int64)
            starts = tf.data.Dataset.range(0, size, length)
            return starts.map(lambda at: {"targets": whole[at : at + length]})

        return dataset.flat_map(parts)

    vocabulary = seqio.SentencePieceVocabulary(setting.model)
    seqio.TaskRegistry.add(
        name,
        source=seqio.TextLineDataSource({"train": paths}),
        preprocessors=[
            lambda dataset: dataset.map(lambda line: {"targets": line}),
            seqio.preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            *([cut] if split else [seqio.preprocessors.append_eos_after_trim]),
        ],
        output_features={"targets": seqio.Feature(vocabulary, add_eos=True)},
    )
    return name


def seqio_rows(name: str, setting: Setting, epochs: int | None, hosts=None, seed: int | None = 0):
    """The batches of a Task or Mixture."""
    import seqio

    dataset = seqio.get_dataset(
        name,
        {"targets": setting.length},
        seqio.DecoderFeatureConverter(pack=True, bos_id=1),
        shuffle=seed is not None,
        seed=seed,
        num_epochs=epochs,
        shard_info=hosts,
        verbose=False,
    )
    return dataset.batch(setting.batch)


def seqio_read(batch: dict) -> Batch:
    return Batch(batch["decoder_target_tokens"], batch["decoder_segment_ids"])


def seqio_prepare(setting: Setting, split: bool = False) -> dict:
    import tensorflow as tf

    numbers = itertools.count()

    def open_pass(paths: list[str]) -> Iterator:
        name = seqio_task(f"once_{next(numbers)}", paths, setting, split)
        rows = seqio_rows(name, setting, 1, seed=None)
        return rows.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

    return passed(open_pass, seqio_read, setting)


def seqio_mixture(setting: Setting, split: bool) -> str:
    import seqio

    rates = [(seqio_task(name, paths, setting, split), 1) for name, paths in setting.texts.items()]
    seqio.MixtureRegistry.add("mix", rates)
    return "mix"


def seqio_feed(setting: Setting, split: bool = False) -> dict:
    import tensorflow as tf

    last = None

    def open_feed():
        nonlocal last
        rows = seqio_rows(seqio_mixture(setting, split), setting, None)
        last = iter(rows.prefetch(tf.data.AUTOTUNE))
        return map(lambda batch: {k: v.numpy() for k, v in batch.items()}, last)

    found = fed(open_feed, seqio_read, setting)
    return found | {"state": tf_state(last, Path(setting.scratch) / "state")}


def tf_state(iterator, path: Path) -> int:
    """The bytes of a tf.data iterator's checkpoint."""
    import tensorflow as tf

    tf.train.Checkpoint(iterator=iterator).write(str(path))
    return sum(os.path.getsize(file) for file in glob.glob(f"{path}*"))


def seqio_hosts(setting: Setting) -> dict:
    """Saves on host 0 of 2 and goes on as the only host."""
    import seqio
    import tensorflow as tf

    name = seqio_mixture(setting, split=False)
    two = iter(seqio_rows(name, setting, None, seqio.ShardInfo(0, 2)))
    for _ in range(3):
        next(two)
    path = str(Path(setting.scratch) / "of_two")
    saved = tf.train.Checkpoint(iterator=two).write(path)
    want = next(two)["decoder_target_tokens"].numpy()
    one = iter(seqio_rows(name, setting, None, seqio.ShardInfo(0, 1)))
    try:
        tf.train.Checkpoint(iterator=one).read(saved).assert_consumed()
        got = next(one)["decoder_target_tokens"].numpy()
    except Exception as e:  # whatever it says is what is reported
        return {"hosts": f"host 0 of 2 restored as the only host: {type(e).__name__}"}
    how = "silently goes on with its half alone" if (got == want).all() else "other rows"
    return {"hosts": f"host 0 of 2 restored as the only host: no error, {how}"}


# ---------------------------------------------------------------------------- Grain
class Lines:
    """Documents of text files by number, as Grain reads them; the text stays on disk."""

    def __init__(self, paths: list[str]):
        self.files = [np.memmap(path, np.uint8, "r") for path in paths]
        ends = [np.flatnonzero(file == ord("\n")) for file in self.files]
        self.spans = [
            (number, start, end)
            for number, found in enumerate(ends)
            for start, end in zip([0, *(found[:-1] + 1).tolist()], found.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, at: int) -> str:
        number, start, end = self.spans[at]
        return self.files[number][start:end].tobytes().decode()


def grain_rows(paths: list[str], setting: Setting, how: str, epochs: int | None, host=slice(None)):
    """Packed rows of one language."""
    from grain import experimental
    import grain.python as grain
    import sentencepiece

    encode = sentencepiece.SentencePieceProcessor(model_file=setting.model).encode

    def tokenized(line: str) -> dict:
        return {"targets": np.array([*encode(line), 2], np.int32)}

    class Cut(experimental.FlatMapTransform):
        max_fan_out = 1 << 12

        def flat_map(self, element):
            size = len(element["targets"])
            starts = range(0, size, setting.length)
            return [{"targets": element["targets"][at : at + setting.length]} for at in starts]

    documents = grain.MapDataset.source(Lines(paths)).shuffle(seed=0).repeat(epochs)[host]
    found = documents.map(tokenized).to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=64)  # one core: more only wait
    )
    length = {"targets": setting.length}
    if how == "concat":
        return experimental.ConcatThenSplitIterDataset(found, length_struct=length)
    # it raises for a document longer than a row
    found = experimental.FlatMapIterDataset(found, Cut())
    return experimental.FirstFitPackIterDataset(found, length_struct=length, num_packing_bins=BINS)


def grain_read(batch: dict) -> Batch:
    return Batch(batch["targets"], batch["targets_segment_ids"])


def grain_prepare(setting: Setting, how: str) -> dict:
    def open_pass(paths: list[str]):
        return grain_rows(paths, setting, how, 1).batch(setting.batch, drop_remainder=False)

    return passed(open_pass, grain_read, setting)


def grain_mixture(setting: Setting, how: str, host: slice = slice(None)):
    import grain.python as grain

    parts = [grain_rows(paths, setting, how, None, host) for paths in setting.texts.values()]
    return grain.IterDataset.mix(parts, [1, 1]).batch(setting.batch)


def grain_feed(setting: Setting, how: str) -> dict:
    last = None

    def open_feed():
        nonlocal last
        last = iter(grain_mixture(setting, how))
        return last

    return fed(open_feed, grain_read, setting) | {"state": len(json.dumps(last.get_state()))}


def grain_hosts(setting: Setting, how: str) -> dict:
    """Saves on host 0 of 2 and goes on as the only host."""
    hosts = [iter(grain_mixture(setting, how, slice(i, None, 2))) for i in range(2)]
    seen = [grain_read(next(host)) for _ in range(10) for host in hosts]
    one = iter(grain_mixture(setting, how))
    try:
        one.set_state(hosts[0].get_state())
        new = [grain_read(next(one)) for _ in range(10)]
    except Exception as e:  # whatever it says is what is reported
        return {"hosts": f"host 0 of 2 restored as the only host: {type(e).__name__}"}
    again = repeated(seen, new)
    return {"hosts": f"host 0 of 2 restored as the only host: no error, {again:.0%} read again"}


# ---------------------------------------------------------------------------- HF datasets
def hf_prepare(setting: Setting) -> dict:
    """Tokenises and cuts as transformers' run_clm.py: the stream of 1,000 documents in blocks."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    tokenizer = transformers.AutoTokenizer.from_pretrained(setting.tokenizer)

    def tokenized(examples: dict) -> dict:
        return tokenizer(examples["text"])

    def blocks(examples: dict) -> dict:
        whole = {name: list(itertools.chain(*column)) for name, column in examples.items()}
        size = len(whole["input_ids"]) // setting.length * setting.length
        starts = range(0, size, setting.length)
        found = {
            name: [column[at : at + setting.length] for at in starts]
            for name, column in whole.items()
        }
        return found | {"labels": list(found["input_ids"])}

    def rows(paths: list[str]):
        text = datasets.load_dataset(
            "text", data_files=paths, split="train", cache_dir=f"{setting.scratch}/cache"
        )
        ids = text.map(tokenized, batched=True, remove_columns=["text"])
        return ids.map(blocks, batched=True)

    found = {}
    for paths in setting.tiny.values():
        rows(paths)
    for language, paths in setting.texts.items():
        clock = Clock()
        done = rows(paths)
        took = clock.took()
        found[language] = prepared(len(done) * setting.length, len(done), took, setting)
        done.save_to_disk(f"{setting.scratch}/{language}")
    return found


def hf_feed(setting: Setting) -> dict:
    def open_feed() -> Iterator:
        import datasets

        parts = [datasets.load_from_disk(f"{setting.scratch}/{name}") for name in setting.texts]
        for epoch in itertools.count():
            mixed = datasets.interleave_datasets(
                [part.shuffle(seed=epoch) for part in parts], [0.5, 0.5], seed=epoch
            )
            yield from mixed.with_format("numpy").iter(setting.batch, drop_last_batch=True)

    def read(batch: dict) -> Batch:
        tokens = batch["input_ids"]
        return Batch(tokens, 1 + np.cumsum(tokens == 1, axis=1))

    found = fed(open_feed, read, setting)
    return found | {"state": len(json.dumps({"epoch": 0, "step": 12345}))}


# ---------------------------------------------------------------------------- 132 Tasks
def seqio_scale(setting: Setting) -> dict:
    """A mixture of a Task a file of rows, of prompt and answer as one text."""
    import seqio

    texts = {}
    for path in setting.rows:
        rows = map(json.loads, Path(path).read_text(encoding="utf-8").splitlines())
        text = Path(setting.scratch) / f"{Path(path).stem}.txt"
        text.write_text("".join(f"{row['instruction']} {row['output']}\n" for row in rows))
        texts[text.stem.replace("-", "_")] = [str(text)]
    names = [(seqio_task(name, paths, setting, False), 1) for name, paths in texts.items()]
    seqio.MixtureRegistry.add("scale", names)
    last = None

    def open_feed():
        nonlocal last
        last = iter(seqio_rows("scale", setting, None))
        return map(lambda batch: {k: v.numpy() for k, v in batch.items()}, last)

    found = fed(open_feed, seqio_read, setting)
    return found | {"state": tf_state(last, Path(setting.scratch) / "state")}


SEQIO = {"prepare": seqio_prepare, "feed": seqio_feed, "hosts": seqio_hosts}
SEQIO_SPLIT = {
    "prepare": functools.partial(seqio_prepare, split=True),
    "feed": functools.partial(seqio_feed, split=True),
}
SEQIO_SCALE = {"feed": seqio_scale}
GRAIN_CONCAT, GRAIN_FIRST_FIT = (
    {
        "prepare": functools.partial(grain_prepare, how=how),
        "feed": functools.partial(grain_feed, how=how),
        "hosts": functools.partial(grain_hosts, how=how),
    }
    for how in ("concat", "first_fit")
)
DATASETS = {"prepare": hf_prepare, "feed": hf_feed}
