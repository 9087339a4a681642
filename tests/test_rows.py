"""Rows: what is written is read, damage is refused, and no id is special."""

import dataclasses

from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrl_jax import storage
from lrl_jax.data.pack import rows

MANIFEST = rows.Manifest(
    name="ko",
    fingerprint="f",
    language="kor_Hang",
    template="plain",
    order="length",
    sequence_length=10,
    bos_id=1,
    eos_id=2,
    pad_id=2,
    tokenizer="t",
    records=9,
    left_out={"empty": 2, "too short": 1},
    docs=6,
    distinct=5,
    scripts={"Hang": 40, "Latn": 3},
    bytes=600,
    tokens=24,
    loss_tokens=20,
    cut=7,
    rows=3,
    shards=(rows.Shard("rows-00000-of-00001.array_record", 3, 123, "ab"),),
)

documents_of_a_row = st.lists(
    st.lists(st.tuples(st.integers(0, 70_000), st.booleans()), min_size=1, max_size=9),
    min_size=1,
    max_size=6,
)


@given(documents_of_a_row)
@settings(max_examples=80, deadline=None)
def test_a_row_survives_its_bytes(written):
    arrays = [tuple(np.array(column) for column in zip(*one, strict=True)) for one in written]
    got = rows.decode(rows.encode(arrays))
    assert got.lengths.tolist() == [len(one) for one in written]
    assert got.tokens.tolist() == [token for one in written for token, _ in one]
    assert (got.weights > 0).tolist() == [trained for one in written for _, trained in one]


def test_a_row_of_small_ids_all_trained_is_two_bytes_a_token():
    got = rows.encode([(np.array([1, 65_535]), np.array([True, True]))])
    assert len(got) == rows.HEADER.size + 4 + 2 * 2


@pytest.mark.parametrize("cut", [0, 5, 12, -1])
def test_a_row_cut_short_is_refused(cut):
    whole = rows.encode([(np.array([1, 2, 3]), np.array([True, False, True]))])
    with pytest.raises(ValueError, match=r"cut short|damaged"):
        rows.decode(whole[:cut])


def test_a_row_of_another_version_is_refused():
    whole = rows.encode([(np.array([1]), np.array([True]))])
    with pytest.raises(ValueError, match="version 9; this reader knows 2"):
        rows.decode(b"\x09" + whole[1:])


def test_the_five_features_by_hand_with_id_0_an_ordinary_token():
    row = rows.decode(
        rows.encode(
            [
                (np.array([5, 0, 2]), np.array([False, True, True])),
                (np.array([0, 2]), np.array([True, True])),
            ]
        )
    )
    got = rows.features([row], length=7, bos_id=1, pad_id=9)
    want = {
        "decoder_target_tokens": [5, 0, 2, 0, 2, 9, 9],
        "decoder_input_tokens": [1, 5, 0, 1, 0, 9, 9],
        "decoder_loss_weights": [0, 1, 1, 1, 1, 0, 0],
        "decoder_segment_ids": [1, 1, 1, 2, 2, 0, 0],
        "decoder_positions": [0, 1, 2, 0, 1, 0, 0],
    }
    assert {name: array[0].tolist() for name, array in got.items()} == want
    kinds = {name: array.dtype for name, array in got.items()}
    assert kinds.pop("decoder_loss_weights") == np.float32
    assert set(kinds.values()) == {np.dtype(np.int32)}


def test_a_row_longer_than_the_batch_is_refused():
    row = rows.decode(rows.encode([(np.array([1, 2, 3]), np.ones(3, bool))]))
    with pytest.raises(ValueError, match="3 tokens does not fit a sequence length of 2"):
        rows.features([row], 2, 1, 0)


# ---------------------------------------------------------------------------- manifest
def test_a_manifest_survives_its_file_and_leaves_no_other(tmp_path):
    rows.write_manifest(MANIFEST, epath.Path(tmp_path))
    assert rows.read_manifest(tmp_path) == MANIFEST
    assert MANIFEST.fill == 24 / 30
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_manifest_of_another_shape_is_refused(tmp_path):
    rows.write_manifest(MANIFEST, epath.Path(tmp_path))
    path = tmp_path / rows.MANIFEST
    path.write_text(path.read_text().replace('"docs"', '"dogs"'))
    with pytest.raises(ValueError, match=r"not a manifest of this version .*dogs"):
        rows.read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_not_whole(tmp_path):
    with pytest.raises(ValueError, match=r"no such file; run `lrl data`"):
        rows.read_manifest(tmp_path)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="there"):
        storage.write(epath.Path(tmp_path) / "there", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_shuffled_dataset_has_no_order(tmp_path):
    assert rows.read_order(tmp_path, dataclasses.replace(MANIFEST, order="shuffled")) is None


def test_an_order_is_read_back(tmp_path):
    np.save(tmp_path / rows.ORDER, np.array([2, 0, 1]))
    got = rows.read_order(tmp_path, MANIFEST)
    assert got is not None
    assert got.tolist() == [2, 0, 1]


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [1, 2, 3], None])
def test_an_order_that_is_not_of_these_rows_is_refused(tmp_path, order):
    if order:
        np.save(tmp_path / rows.ORDER, np.array(order))
    with pytest.raises(ValueError, match=r"order\.npy: .*run `lrl data` again"):
        rows.read_order(tmp_path, MANIFEST)
