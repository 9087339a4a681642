"""Makes the run folder that every later version has to resume, and writes it as an archive.

    python tests/make_old_run.py tests/data/run-0.1.0.tar.xz

A release adds the archive of its own version and keeps those that are there: test_old_runs.py
resumes each of them to its end. An archive holds texts, a base, a recipe, the folder of a run that
SIGTERM stopped under way, and `want.json`: what the version that made it went on to.
"""

import json
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

import small_world

from lrl_jax import __version__

ARCHIVES = sorted(Path(__file__).with_name("data").glob("run-*.tar.xz"))
LARGEST = 400_000  # bytes of an archive: each stays in the repository for ever
STOP_AFTER = 8  # steps: beyond those of the first stage, so that the optimizer is the second one
# Paths are relative, so that the archive can be unpacked anywhere.
BASE = """
name: base
base:
  license: cc0-1.0
  shape: {hidden_size: 16, num_hidden_layers: 2, intermediate_size: 32, num_attention_heads: 2,
          num_key_value_heads: 1, max_position_embeddings: 64}
vocab: {method: train, text: [en.txt], size: 320}
data:
  sequence_length: 32
  datasets: {english: {kind: text, path: [en.txt], language: eng_Latn}}
train:
  batch_size: 8
  stages:
    - name: pretrain
      steps: 4
      mixture: {english: 1}
      learn: [{match: ".*", schedule: {peak: 1.0e-2, warmup: 2}}]
  compute_dtype: float32
  tensorboard: false
export: {dtype: float32, gate_on: [en.txt], gate_lines: 20, license: cc0-1.0}
"""
KOREAN = """
name: korean
base: {model: base, license: cc0-1.0}
vocab: {method: extend, text: [ko.txt], pieces: 30, scripts: [Hang], min_count: 2,
        prove_on: [en.txt]}
data:
  sequence_length: 32
  long_answers: split
  datasets:
    korean: {kind: text, path: [ko.txt], language: kor_Hang}
    pairs: {kind: parallel, source: en.txt, target: ko.txt, source_language: eng_Latn,
            target_language: kor_Hang}
train:
  batch_size: 8
  replay: {pairs: 0.125}
  stages:
    - name: align
      steps: 4
      mixture: {korean: 1}
      learn:
        - {match: embed, rows: new, schedule: {peak: 1.0e-2, kind: constant}}
        - {match: ".*", schedule: frozen}
    - name: continue
      steps: 296
      mixture: {korean: 1, pairs: 1}
      learn: [{match: ".*", schedule: {peak: 1.0e-2, warmup: 2}}]
  compute_dtype: float32
  tensorboard: false
  save: {keep: 1}
  log_every: 1
evaluate: {bits_per_byte: {kor_Hang: ko.txt, eng_Latn: en.txt}, max_lines: 20}
export: {dtype: bfloat16, gate_on: [en.txt, ko.txt], gate_lines: 20}
"""


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks an archive of a run."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def lrl(*args: str, cwd: Path, **fields) -> subprocess.CompletedProcess:
    """Runs a verb in a folder, which must end well; `fields` are those of subprocess.run."""
    command = [sys.executable, "-m", "lrl_jax.cli", *args]
    fields |= dict(capture_output=True, text=True, cwd=cwd, timeout=600, check=False)
    got = subprocess.run(command, **fields)
    assert got.returncode == 0, got.stdout + got.stderr
    return got


def losses(run: Path) -> dict[str, float]:
    """Returns step -> loss of all steps that a run has logged."""
    lines = (run / "train/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {str(record["step"]): record["loss"] for record in map(json.loads, lines)}


def _stopped(world: Path) -> None:
    """Runs the Korean recipe, and stops it with SIGTERM once its second stage is under way."""
    run = world / "runs/korean"
    command = [sys.executable, "-m", "lrl_jax.cli", "run", "korean.yaml"]
    child = subprocess.Popen(command, cwd=world)
    while not (run / "train/metrics.jsonl").exists() or len(losses(run)) < STOP_AFTER:
        assert child.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.005)
    child.send_signal(signal.SIGTERM)
    assert child.wait(120) == 75, "the run ended before it could be stopped"


def make(archive: Path) -> None:
    """Makes the folder with the version that is checked out, and writes the archive."""
    with tempfile.TemporaryDirectory() as temporary:
        world, later = Path(temporary) / "world", Path(temporary) / "later"
        world.mkdir()
        small_world.write_texts(world)
        (world / "base.yaml").write_text(BASE)
        (world / "korean.yaml").write_text(KOREAN)
        lrl("run", "base.yaml", cwd=world)
        (world / "runs/base/export").rename(world / "base")
        shutil.rmtree(world / "runs")
        for name in ("base.yaml", "tasks.json"):
            (world / name).unlink()
        _stopped(world)
        shutil.copytree(world, later)
        lrl("run", "korean.yaml", cwd=later)
        stopped = max(map(int, losses(world / "runs/korean")))
        want = {"version": __version__, "stopped": stopped, "losses": losses(later / "runs/korean")}
        (world / "want.json").write_text(json.dumps(want))
        for path in world.rglob("*"):
            if path.is_file() and path.name != "commit_success.txt":  # where Orbax says its place
                assert temporary.encode() not in path.read_bytes(), path
        _pack(world, archive)
    assert archive.stat().st_size < LARGEST, f"{archive}: {archive.stat().st_size:,} bytes"


def _pack(world: Path, archive: Path) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(world.rglob("*")):
            tar.add(path, str(path.relative_to(world)), recursive=False, filter=plain)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
