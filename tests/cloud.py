"""Builds a cloud for tests of launching: a gcloud on PATH, hosts as folders, a ledger."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

from lrl_jax.cli import main

ROOT = Path(__file__).parents[1]
FAKES = Path(__file__).with_name("fake_cloud")
# What a bare host has on its PATH; Python is 3.10 there, as on Ubuntu 22.04.
TOOLS = (
    "awk", "bash", "cat", "chmod", "cp", "date", "df", "dirname", "env", "grep", "gzip", "head",
    "hostname", "ln", "ls", "mkdir", "mv", "nohup", "readlink", "rm", "setsid", "sleep", "tail",
    "tar", "touch", "tr",
)  # fmt: skip
PYTHON = """\
#!/bin/bash
case "$*" in
  "--version") echo "Python 3.10.12" ;;
  "-m pip --version") echo "pip 22.0.2 from /usr/lib/python3/dist-packages/pip (python 3.10)" ;;
  "-m pip install --quiet --target .uv uv=="*)
    echo "pip $*" >> "$HOME/installs"; mkdir -p .uv/bin && cp UV .uv/bin/uv ;;
  *) echo "python3.10: $*: not on this host" >&2; exit 1 ;;
esac
"""
UV = """\
#!/bin/bash
echo "uv $*" >> "$HOME/installs"
case "$*" in
  "venv --quiet --python 3.12 .venv") mkdir -p .venv/bin && ln -s PYTHON .venv/bin/python ;;
  "pip install --quiet --python .venv/bin/python -c constraints.txt -e "*)
    printf '#!/bin/bash\\nexec LRL "$@"\\n' > .venv/bin/lrl && chmod +x .venv/bin/lrl ;;
  *) exit 1 ;;
esac
"""
DATE = """\
#!/bin/bash
if [ "$*" = +%s ]; then echo $(($(DATE +%s) + ${LRL_FAKE_CLOCK:-0})); else exec DATE "$@"; fi
"""
DF = """\
#!/bin/bash
if [ -n "$LRL_FAKE_DISK" ]; then echo Avail; echo "$LRL_FAKE_DISK"; else exec DF "$@"; fi
"""
TPU = ("--name=tamil", "--zone=us-central2-b", "--project=my-project", "--type=v4-16")
SOON = ("--wait=0.02", "--poll=0.02", "--answer=60", "--grace=20")
RECIPE = ("quickstart", "folder=gs://bkt/runs")


class Cloud:
    """Holds the world of a test.

    Attributes:
      folder: with world.json, the hosts' homes, and the bucket.
    """

    def __init__(self, folder: Path, monkeypatch, lrl: str = ""):
        self.folder = folder
        for name in ("hosts", "bucket", "hostbin", "bin"):
            (folder / name).mkdir(parents=True)
        (folder / "lock").touch()
        self.faults()
        lrl = lrl or f"env PYTHONPATH={ROOT} {sys.executable} {FAKES / 'lrl.py'}"
        self._tools(lrl)
        for name in ("gcloud", "python3"):
            script = f"-I -S {FAKES / 'gcloud.py'}" if name == "gcloud" else ""
            _write(folder / "bin" / name, f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setenv("LRL_FAKE_CLOUD", str(folder))
        monkeypatch.chdir(folder)

    def _tools(self, lrl: str) -> None:
        hostbin = self.folder / "hostbin"
        for tool in TOOLS:
            path = shutil.which(tool)
            assert path, tool
            (hostbin / tool).symlink_to(path)
        uv = self.folder / "uv"
        _write(uv, UV.replace("PYTHON", sys.executable).replace("LRL", lrl))
        _write(hostbin / "python3", PYTHON.replace("cp UV", f"cp {uv}"))
        for name, text in (("date", DATE), ("df", DF)):
            real = os.path.realpath(hostbin / name)
            (hostbin / name).unlink()
            _write(hostbin / name, text.replace(name.upper(), real))

    def faults(self, *faults: dict, training: tuple[dict, ...] = ()) -> None:
        """Begins the world anew, with what will go wrong in it."""
        world = {"requests": {}, "nodes": {}, "calls": [], "ledger": [], "faults": [*faults]}
        (self.folder / "world.json").write_text(json.dumps(world))
        (self.folder / "bucket/train_faults").write_text(json.dumps(training))

    @property
    def world(self) -> dict:
        return json.loads((self.folder / "world.json").read_text())

    def change(self, **values) -> None:
        (self.folder / "world.json").write_text(json.dumps(self.world | values))

    def calls(self, *words: str) -> list[str]:
        """Returns the calls that have these words in a row, each as a line."""
        lines = [" ".join(call) for call in self.world["calls"]]
        return [line for line in lines if " ".join(words) in line]

    def launch(self, *words: str) -> int:
        """Runs `lrl launch` in this process; returns its exit code."""
        try:
            return main.main(["launch", *words])
        except SystemExit as e:  # argparse
            return int(e.code or 0)

    def watch(self, *words: str) -> int:
        return self.launch("watch", *RECIPE, *TPU, *SOON, *words)

    def machines(self) -> dict[str, int]:
        """Returns how many of each name are there by the ledger: made and not deleted."""
        count: dict[str, int] = {}
        for what, name in self.world["ledger"]:
            count[name] = count.get(name, 0) + (1 if what == "made" else -1)
        return {name: number for name, number in count.items() if number}

    def steps(self) -> list[int]:
        return [int(line) for line in (self.folder / "bucket/steps").read_text().split()]


def script(name: str, *words: str, **env: str) -> subprocess.CompletedProcess:
    """Runs a script of tpu/ as a person does."""
    return subprocess.run(
        [ROOT / "tpu" / name, *words], env=os.environ | env, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
