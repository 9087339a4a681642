"""MaxText's input pipelines in the data benchmark, by its own functions and default settings.

It wants a Python of its own (3.12: pip install "maxtext[tpu]"), named by --maxtext; its `tfds`
pipeline is deprecated by it and needs tensorflow and tensorflow-datasets beside it.
"""

from collections.abc import Iterator
import json
import os
from pathlib import Path

from data_meter import Batch, Setting, fed, passed
import numpy as np


def config_of(setting: Setting, *changes: str):
    """MaxText's own settings, but for what the benchmark says."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import maxtext
    from maxtext.configs import pyconfig

    base = Path(maxtext.__file__).parent / "configs" / "base.yml"
    given = [
        "", str(base), "hardware=cpu", "skip_jax_distributed_system=true", "run_name=bench",
        f"base_output_directory={setting.scratch}/out", "enable_checkpointing=false",
        f"max_target_length={setting.length}", f"per_device_batch_size={setting.batch}",
        f"tokenizer_path={setting.model}", "train_data_columns=['text']",
        "add_bos=false", "add_eos=true", "grain_worker_count=0", "grain_num_threads=1",
        *changes,
    ]  # fmt: skip
    return pyconfig.initialize(given)


def mesh_of(config):
    """One device."""
    import jax

    devices = np.array(jax.devices()[:1]).reshape([1] * len(config.mesh_axes))
    return jax.sharding.Mesh(devices, config.mesh_axes)


def read(batch: dict) -> Batch:
    """Positions say where documents begin; the last token of each is an input only."""
    segments = np.asarray(batch["inputs_segmentation"])
    return Batch(np.asarray(batch["inputs"]), segments)


# ---------------------------------------------------------------------------- Grain
def records(setting: Setting, paths: list[str]) -> str:
    """Text as ArrayRecord files of tf.train.Example, which MaxText reads; a glob of them."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from maxtext.input_pipeline.protos import example_pb2

    folder = Path(setting.scratch) / Path(paths[0]).parent.name
    folder.mkdir(exist_ok=True)
    for path in paths:
        out = folder / f"{Path(path).stem}.array_record"
        if out.exists():
            continue
        writer = ArrayRecordWriter(str(out), "group_size:1")
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            example = example_pb2.Example()
            text = example.features.feature["text"]
            text.bytes_list.value.append(line.encode())
            writer.write(example.SerializeToString())
        writer.close()
    return str(folder / f"{_stem(paths)}-*.array_record")


def grain_iterator(setting: Setting, *changes: str):
    """MaxText's iterator; while it lives, its `local_iterator` gives this host's arrays."""
    from maxtext.input_pipeline import grain_data_processing

    config = config_of(setting, "dataset_type=grain", *changes)
    return grain_data_processing.make_grain_train_iterator(config, mesh_of(config), [0])


def grain_prepare(setting: Setting) -> dict:
    for paths in (*setting.tiny.values(), *setting.texts.values()):
        records(setting, paths)  # not timed

    def open_pass(paths: list[str]) -> Iterator:
        made = grain_iterator(setting, f"grain_train_files={records(setting, paths)}")
        yield from made.local_iterator

    return passed(open_pass, read, setting)


def grain_feed(setting: Setting) -> dict:
    mixture = Path(setting.scratch) / "mixture.json"
    parts = {
        name: {"path": records(setting, paths), "weight": 1}
        for name, paths in setting.texts.items()
    }
    mixture.write_text(json.dumps(parts))
    made = None

    def open_feed() -> Iterator:
        nonlocal made
        made = grain_iterator(
            setting, f"grain_train_mixture_config_path={mixture}", "num_epoch=1000"
        )
        return made.local_iterator

    found = fed(open_feed, read, setting)
    return found | {"state": len(json.dumps(made.local_iterator.get_state()))}


# ---------------------------------------------------------------------------- HF
def hf_iterator(setting: Setting, files: str, *changes: str):
    """MaxText's iterator over text files."""
    from maxtext.input_pipeline import hf_data_processing

    config = config_of(
        setting, "dataset_type=hf", "hf_path=text", f"hf_train_files={files}",
        f"tokenizer_path={setting.tokenizer}", "tokenizer_type=huggingface", *changes,
    )  # fmt: skip
    return hf_data_processing.make_hf_train_iterator(config, mesh_of(config), [0])


def hf_prepare(setting: Setting) -> dict:
    def open_pass(paths: list[str]) -> Iterator:
        made = hf_iterator(setting, f"{Path(paths[0]).parent}/{_stem(paths)}-*.txt")
        yield from made.local_iterator

    return passed(open_pass, read, setting)


def hf_feed(setting: Setting) -> dict:
    """All files in one dataset: it has no weights."""
    made = None

    def open_feed() -> Iterator:
        nonlocal made
        paths = next(iter(setting.texts.values()))
        made = hf_iterator(setting, f"{Path(paths[0]).parent}/*.txt", "num_epoch=20")
        return made.local_iterator

    return fed(open_feed, read, setting) | {"state": None}  # it saves Grain's alone


def _stem(paths: list[str]) -> str:
    return Path(paths[0]).name.split("-")[0]


# ---------------------------------------------------------------------------- TFDS
def builder(setting: Setting, name: str, paths: list[str]) -> str:
    """Text as a TFDS dataset of tfrecord; its name."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    if not (Path(setting.scratch) / name).exists():
        lines = tf.data.TextLineDataset(paths).map(lambda line: {"text": line})
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            data_dir=setting.scratch,
            split_datasets={"train": lines},
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
        )
    return f"{name}:1.0.0"


def tfds_iterator(setting: Setting, name: str, *changes: str):
    """MaxText's iterator over a TFDS dataset."""
    from maxtext.input_pipeline import tfds_data_processing

    config = config_of(
        setting, "dataset_type=tfds", f"dataset_path={setting.scratch}", "train_split=train",
        f"dataset_name={name}", *changes,
    )  # fmt: skip
    return tfds_data_processing.make_tfds_train_iterator(config, mesh_of(config), [0])


def tfds_prepare(setting: Setting) -> dict:
    names = {
        tuple(paths): builder(setting, f"{Path(paths[0]).parent.name}_{_stem(paths)}", paths)
        for paths in (*setting.tiny.values(), *setting.texts.values())
    }  # not timed

    def open_pass(paths: list[str]) -> Iterator:
        made = tfds_iterator(setting, names[tuple(paths)])
        yield from made.local_iterator

    return passed(open_pass, read, setting)


def tfds_feed(setting: Setting) -> dict:
    """All files in one dataset: it has no weights."""
    made = None

    def open_feed() -> Iterator:
        nonlocal made
        paths = [path for some in setting.texts.values() for path in some]
        made = tfds_iterator(setting, builder(setting, "both", paths), "num_epoch=20")
        return made.local_iterator

    return fed(open_feed, read, setting) | {"state": None}  # it saves Grain's alone


GRAIN = {"prepare": grain_prepare, "feed": grain_feed}
HF = {"prepare": hf_prepare, "feed": hf_feed}
TFDS = {"prepare": tfds_prepare, "feed": tfds_feed}
