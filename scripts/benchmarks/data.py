"""The data plane beside its peers: text made into rows, rows fed to training, on one core each.

    python scripts/benchmarks/data.py [--mb 40] [--only ours,seqio] [--rounds 3] [--scale]
        [--json out.json] [--maxtext /path/to/python3.12]

Korean and English, half and half, as documents of log-normal lengths, every sentence once; the same
text, the same tokenizer, the same rows of 2048 tokens, batches of 8. Every contestant runs in
processes of its own, pinned to one core, one after the other; with --rounds they take turns at
preparing, and ratios to lrl_jax are given as the range over the turns.

PREPARED is text to rows: packed files for lrl_jax and datasets, one pass over a language for
those that make rows while they feed. FED is what a training loop gets of an endless mixture:
the median of three runs after a warm-up. Both are million tokens, without padding, in a second of
wall time / of CPU time. A contestant that is not installed is named as such.
"""

import argparse
import datetime
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import data_meter
import data_text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ONE_THREAD = (
    "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "RAYON_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
)  # fmt: skip
PACKAGES = (
    "seqio", "tensorflow", "tensorflow-text", "grain", "datasets", "tokenizers", "transformers",
    "sentencepiece", "array_record", "numpy",
)  # fmt: skip
TIMEOUT = 3600  # seconds of one phase


class Contestant(NamedTuple):
    """A row of the table: what it is called, and `module:table of phases`."""

    label: str
    where: str


CONTESTANTS = {
    "ours": Contestant("lrl_jax", "data_ours:OURS"),
    "seqio": Contestant("seqio online", "data_peers:SEQIO"),
    "seqio-split": Contestant("seqio online, long documents cut", "data_peers:SEQIO_SPLIT"),
    "grain-concat": Contestant("Grain, concat then split", "data_peers:GRAIN_CONCAT"),
    "grain-first-fit": Contestant("Grain, first fit", "data_peers:GRAIN_FIRST_FIT"),
    "datasets": Contestant("datasets, run_clm's blocks", "data_peers:DATASETS"),
    "maxtext-grain": Contestant("MaxText, grain pipeline", "data_maxtext:GRAIN"),
    "maxtext-tfds": Contestant("MaxText, tfds pipeline (no weights)", "data_maxtext:TFDS"),
    "maxtext-hf": Contestant("MaxText, hf pipeline (no weights)", "data_maxtext:HF"),
}
SCALE = {
    "ours": Contestant("lrl_jax", "data_ours:SCALE"),
    "seqio": Contestant("seqio online", "data_peers:SEQIO_SCALE"),
}


def main() -> None:
    """Prints a table, and what cannot stand in one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=40, help="most megabytes of each language")
    parser.add_argument("--seconds", type=float, default=5, help="of one run of feeding")
    parser.add_argument("--rounds", type=int, default=1, help="turns of preparing")
    parser.add_argument("--only", default=",".join(CONTESTANTS))
    parser.add_argument("--maxtext", default="", help="a Python that has MaxText")
    parser.add_argument("--scale", action="store_true", help="132 datasets as well; takes minutes")
    parser.add_argument("--scale-files", type=int, default=132)
    parser.add_argument("--scale-rows", type=int, default=1000, help="of each of these datasets")
    parser.add_argument("--json", type=Path, help="where to leave every figure")
    parser.add_argument("--scratch", type=Path, help="a folder to work in and keep")
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := sorted(set(names) - set(CONTESTANTS)):
        parser.error(f"no contestant {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.scratch or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = measure(args, names, folder)
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if any("failed" in phase for found in report["found"].values() for phase in found.values()):
        sys.exit(1)


# ---------------------------------------------------------------------------- running
def measure(args: argparse.Namespace, names: list[str], folder: Path) -> dict:
    """Makes the text and runs every contestant on it."""
    say(f"making {args.mb:g} MB of each language, or as much as there is")
    for name in ("text", "tiny", "tokenizer"):
        (folder / name).mkdir(exist_ok=True)
    texts, tiny = data_text.write(folder / "text", folder / "tiny", args.mb)
    tokenizer = data_text.write_tokenizer(folder / "tokenizer")
    rows = []
    if args.scale:
        (folder / "rows").mkdir(exist_ok=True)
        rows = data_text.write_rows(folder / "rows", args.scale_files, args.scale_rows)
    setting = data_meter.Setting(
        texts=texts,
        tiny=tiny,
        tokenizer=str(folder / "tokenizer"),
        scratch="",
        length=2048,
        batch=8,
        seconds=args.seconds,
        cpu=max(os.sched_getaffinity(0)),
        started=0,
        rows=rows,
    )
    counts = {name: data_text.count(paths, setting.model) for name, paths in texts.items()}
    found = {name: run(CONTESTANTS[name], setting, folder, args.maxtext) for name in names}
    report = {
        "about": about(args.maxtext),
        "text": {"real": data_text.real(), "tokenizer": tokenizer, "counts": counts},
        "found": found,
        "turns": turns(found, args.rounds, setting, folder, args.maxtext),
        "scale": {
            name: run(one, setting, folder, "")
            for name, one in SCALE.items()
            if args.scale and name in names
        },
    }  # fmt: skip
    report["about"]["load after"] = os.getloadavg()[0]
    return report


def run(one: Contestant, setting: data_meter.Setting, folder: Path, maxtext: str) -> dict:
    """Every phase of a contestant, until one says that something is not installed."""
    module, table = one.where.split(":")
    scratch = folder / f"{module}.{table}"
    scratch.mkdir(exist_ok=True)
    found: dict[str, dict] = {}
    for phase in ("prepare", "feed", "hosts"):
        say(f"{one.label}: {phase}")
        found[phase] = _child(one.where, phase, setting, scratch, maxtext)
        if found[phase].keys() & {"missing", "failed"}:
            break
    return {phase: facts for phase, facts in found.items() if facts}


def turns(
    found: dict, rounds: int, setting: data_meter.Setting, folder: Path, maxtext: str
) -> list[dict]:
    """What each contestant took to prepare in every turn, those of `found` first."""
    able = {name: facts for name, facts in found.items() if _whole(facts)}
    every = [{name: facts["prepare"] for name, facts in able.items()}]
    for number in range(1, rounds):
        taken = {}
        for name in able:
            where = CONTESTANTS[name].where
            scratch = folder / f"{where.replace(':', '.')}.{number}"  # empty: nothing is there yet
            scratch.mkdir(exist_ok=True)
            say(f"{CONTESTANTS[name].label}: prepare, turn {number + 1}")
            taken[name] = _child(where, "prepare", setting, scratch, maxtext)
        every.append(taken)
    return every


def _child(
    where: str, phase: str, setting: data_meter.Setting, scratch: Path, maxtext: str
) -> dict:
    python = maxtext if where.startswith("data_maxtext") and maxtext else sys.executable
    if not Path(python).exists():
        return {"missing": f"no file {python}"}
    given, out = scratch / "setting.json", scratch / f"{phase}.json"
    facts = vars(setting) | {"scratch": str(scratch), "started": time.time()}
    given.write_text(json.dumps(facts))
    out.unlink(missing_ok=True)
    load = os.getloadavg()[0]
    try:
        done = subprocess.run(
            [python, str(HERE / "data_meter.py"), where, phase, str(given), str(out)],
            env=_environment(scratch), capture_output=True, text=True, timeout=TIMEOUT,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": f"{phase} took more than {TIMEOUT:,} seconds"}
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    found = json.loads(out.read_text())
    return found | {"load": load} if found else {}


def _environment(scratch: Path) -> dict[str, str]:
    threads = dict.fromkeys(ONE_THREAD, "1")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(scratch / "hf")}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "false"}
    path = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **threads, **offline, **quiet, **path}


# ---------------------------------------------------------------------------- showing
COLUMNS = (
    "", "prepared ko", "prepared en", "both", "fed", "fill", "lost", "ko", "state", "first",
    "memory",
)  # fmt: skip


def show(report: dict) -> None:
    """Prints everything."""
    about, counts = report["about"], report["text"]["counts"]
    print(f"{about['date']}, {about['commit']}, {about['cpu']}, Python {about['python']}")
    print(f"load {about['load before']:.1f} before, {about['load after']:.1f} after")
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    kind = "real sentences" if report["text"]["real"] else "made sentences"
    print(f"documents of {kind}; the tokenizer is {report['text']['tokenizer']}")
    for name, one in counts.items():
        print(f"  {name}: {one['bytes'] / 1e6:.1f} MB, {one['docs']:,} documents, "
              f"{one['tokens'] / 1e6:.2f} million tokens")  # fmt: skip
    print("\nMillion tokens a second of wall time / of CPU time, on one core:")
    table([COLUMNS, *(line(name, found, counts) for name, found in report["found"].items())])
    print("lost: tokens of the text in no row; ko: share of tokens where half is asked for;")
    print("state: bytes of a checkpoint; first: seconds to the first batch from the start of the")
    print("process, and of CPU; memory: peak of preparing / feeding, MB")
    for name, found in report["found"].items():
        if said := found.get("hosts", {}).get("hosts"):
            print(f"{CONTESTANTS[name].label}: {said}")
    targets(report["found"], report["turns"])
    if report["scale"]:
        scale(report["scale"])


def line(name: str, found: dict, counts: dict) -> tuple[str, ...]:
    """A row of the table."""
    label = CONTESTANTS[name].label
    for facts in found.values():
        if said := facts.get("missing") or facts.get("failed"):
            how = "not installed" if "missing" in facts else "failed"
            return label, f"{how}: {said}"
    made, feed = found["prepare"], found["feed"]
    rates = [rate([made[language]]) for language in counts]
    both = rate([made[language] for language in counts])
    want = sum(one["tokens"] for one in counts.values())
    lost = 1 - sum(made[language]["tokens"] for language in counts) / want
    return (
        label, *(pair(one) for one in rates), pair(both), pair((feed["wall"], feed["cpu"])),
        f"{feed['fill']:.4f}", f"{lost:.2%}", f"{feed['korean']:.3f}",
        "none" if feed["state"] is None else f"{feed['state']:,}",
        f"{feed['first']:.1f} / {feed['first_cpu']:.1f}",
        f"{made['rss'] / 1e6:,.0f} / {feed['rss'] / 1e6:,.0f}",
    )  # fmt: skip


def rate(languages: list[dict]) -> tuple[float, float]:
    """Tokens a second of wall time and of CPU time."""
    tokens = sum(one["tokens"] for one in languages)
    wall, cpu = (sum(one[name] for one in languages) for name in ("wall", "cpu"))
    return tokens / wall, tokens / cpu


def pair(rates: tuple[float, float]) -> str:
    """Million a second of wall time / of CPU time."""
    return " / ".join(f"{one / 1e6:.2f}" for one in rates)


def table(lines: list[tuple[str, ...]]) -> None:
    """Prints columns that line up; a row that says something else stands as it is."""
    whole = [one for one in lines if len(one) == len(lines[0])]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    for one in lines:
        head = f"  {one[0]:<{widths[0]}}"
        rest = zip(one[1:], widths[1:], strict=False) if one in whole else [(one[1], 0)]
        print("  ".join([head, *(f"{text:>{width}}" for text, width in rest)]))


def targets(found: dict, taken: list[dict]) -> None:
    """Prints how lrl_jax stands to its peers: each as the range over the turns, by CPU time."""
    ours, seqio = (_whole(found.get(name, {})) for name in ("ours", "seqio"))
    if ours and seqio:
        ways = [ours["feed"][way] / seqio["feed"][way] for way in ("wall", "cpu")]
        print(f"packed rows fed beside seqio that tokenises and packs while it feeds: "
              f"{ways[0]:.1f} / {ways[1]:.1f} times")  # fmt: skip
    for name in found if ours else ():
        for language in data_text.LANGUAGES if name != "ours" and name in taken[0] else ():
            times = ratios(taken, name, language)
            print(f"prepared beside {CONTESTANTS[name].label}, {language}: "
                  f"{min(times):.2f} to {max(times):.2f} times, {len(times)} turns")  # fmt: skip


def ratios(taken: list[dict], name: str, language: str) -> list[float]:
    """How many times the tokens a CPU second of a peer lrl_jax prepares, in each turn of both."""
    pairs = [
        [turn.get(who, {}).get(language) for who in ("ours", name)] for turn in taken
    ]  # fmt: skip
    return [rate([ours])[1] / rate([theirs])[1] for ours, theirs in pairs if ours and theirs]


def _whole(found: dict) -> dict:
    bad = any(facts.keys() & {"missing", "failed"} for facts in found.values())
    return {} if bad else found


def scale(found: dict) -> None:
    """Prints what many small datasets cost."""
    print("\nMany small datasets (--scale-files of --scale-rows instructions):")
    for name, one in found.items():
        label = SCALE[name].label
        if not _whole(one):
            print(f"  {label}: {one}")
            continue
        made = one.get("prepare", {}).get("all")
        how = f"prepared in {made['wall']:.1f} s / {made['cpu']:.1f} s of CPU, " if made else ""
        feed = one["feed"]
        print(f"  {label}: {how}first batch after {feed['first']:.1f} s / "
              f"{feed['first_cpu']:.1f} s of CPU, "
              f"{feed['rss'] / 1e6:,.0f} MB, state {feed['state']:,} bytes, fed "
              f"{pair((feed['wall'], feed['cpu']))} Mtok/s")  # fmt: skip


# ---------------------------------------------------------------------------- where and when
def say(what: str) -> None:
    """Tells the one who waits."""
    print(what, file=sys.stderr, flush=True)


def about(maxtext: str) -> dict:
    """Where and when this was."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    versions = _versions(sys.executable, *PACKAGES)
    if Path(maxtext).is_file():
        versions |= _versions(maxtext, "maxtext")
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": f"{model or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "load before": os.getloadavg()[0],
        "versions": versions,
    }


def _versions(python: str, *names: str) -> dict[str, str]:
    """The versions of packages that a Python has; those it lacks are left out."""
    code = (
        "import importlib.metadata as m, sys\n"
        "have = {d.name: d.version for d in m.distributions()}\n"
        "print(*(f'{name} {have[name]}' for name in sys.argv[1:] if name in have), sep='\\n')"
    )
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


if __name__ == "__main__":
    main()
