"""lrl_jax in the data benchmark: packed once by `prepare_all`, then fed by a `Stream`."""

from collections.abc import Iterator
import itertools
import json
from pathlib import Path

from data_meter import Batch, Clock, Setting, fed, prepared
import numpy as np

LANGUAGES = {"ko": "kor_Hang", "en": "eng_Latn"}
STEPS = 1_000_000  # of the plan; a run ends before
TOKENS = "decoder_target_tokens"


def data(datasets: dict, length: int):
    from lrl_jax.recipe import data as recipe_data

    return recipe_data.Data(sequence_length=length, datasets=datasets, workers=1)


def text(language: str, paths: list[str]) -> dict:
    return {"kind": "text", "path": paths, "language": LANGUAGES[language]}


def prepare(setting: Setting) -> dict:
    from lrl_jax.data.pack import jobs
    from lrl_jax.vocab.tokenizer import load as tokenizers

    known = tokenizers.load(setting.tokenizer)
    for language, paths in setting.tiny.items():
        tiny = data({language: text(language, paths)}, setting.length)
        jobs.prepare_all(tiny, known, f"{setting.scratch}/tiny/{language}")
    found = {}
    for language, paths in setting.texts.items():
        alone = data({language: text(language, paths)}, setting.length)
        clock = Clock()
        manifest = jobs.prepare_all(alone, known, f"{setting.scratch}/{language}")[language]
        took = clock.took()
        found[language] = prepared(manifest.tokens, manifest.rows, took, setting)
    return found


def read(batch: dict) -> Batch:
    return Batch(batch["decoder_target_tokens"], batch["decoder_segment_ids"])


def stream_of(folders: dict, batch: int, host: int = 0, hosts: int = 1):
    """A stream of equal weights."""
    from lrl_jax.data.feed import plan, stream
    from lrl_jax.data.pack import rows

    manifests = {name: rows.read_manifest(folder) for name, folder in folders.items()}
    stage = plan.PlanStage("mix", STEPS * batch, dict.fromkeys(folders, 1.0))
    mixed = plan.Plan(
        sizes={name: manifest.rows for name, manifest in manifests.items()},
        stages=(stage,),
        fingerprints={name: manifest.fingerprint for name, manifest in manifests.items()},
    )
    share = batch // hosts
    mine = range(host * share, (host + 1) * share)
    return stream.Stream(folders, mixed, batch, mine)


def folders_of(setting: Setting) -> dict:
    from lrl_jax.data.pack import packing

    return {
        language: packing.folders(Path(setting.scratch) / language)[language]
        for language in setting.texts
    }


def feed(setting: Setting) -> dict:
    return _fed(setting, folders_of)


def _fed(setting: Setting, folders) -> dict:
    last = None

    def open_feed() -> Iterator:
        nonlocal last
        last = stream_of(folders(setting), setting.batch)
        return (batch for _, batch in last.prefetch(0))

    found = fed(open_feed, read, setting)
    state = json.dumps({"next_row": 12_345_678, "plan": last.plan.to_json()})
    return found | {"state": len(state)}


def hosts(setting: Setting) -> dict:
    """Goes on from a row with other numbers of hosts, and another batch size."""
    folders, size = folders_of(setting), setting.batch
    alone = stream_of(folders, size)
    start = 3 * size
    want = np.concatenate([alone.batch_at(start + i * size)[TOKENS] for i in range(4)])
    tried = []
    for count, batch in itertools.product((2, 4, 8), (size, 2 * size)):
        streams = [stream_of(folders, batch, host, count) for host in range(count)]
        places = itertools.product(range(start, start + 4 * size, batch), streams)
        got = np.concatenate([one.batch_at(g)[TOKENS] for g, one in places])
        tried.append(np.array_equal(got, want))
    same = "the rows of one" if all(tried) else f"OTHER ROWS in {tried.count(False)} cases"
    return {"hosts": f"2, 4 and 8 hosts, with the same batch and one twice as large: {same}"}


# ---------------------------------------------------------------------------- 132 datasets
def _instructions(setting: Setting) -> dict:
    return {
        Path(path).stem: {"kind": "instructions", "path": [path], "language": "eng_Latn"}
        for path in setting.rows
    }


def scale_prepare(setting: Setting) -> dict:
    from lrl_jax.data.pack import jobs
    from lrl_jax.vocab.tokenizer import load as tokenizers

    known = tokenizers.load(setting.tokenizer)
    clock = Clock()
    whole = data(_instructions(setting), setting.length)
    manifests = jobs.prepare_all(whole, known, f"{setting.scratch}/scale").values()
    took = clock.took()
    tokens, rows = (sum(getattr(one, name) for one in manifests) for name in ("tokens", "rows"))
    return {"all": prepared(tokens, rows, took, setting)}


def scale_feed(setting: Setting) -> dict:
    from lrl_jax.data.pack import packing

    return _fed(setting, lambda setting: packing.folders(Path(setting.scratch) / "scale"))


OURS = {"prepare": prepare, "feed": feed, "hosts": hosts}
SCALE = {"prepare": scale_prepare, "feed": scale_feed}
