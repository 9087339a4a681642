"""Makes what is compared: shortened quickstart runs, refusals, lowered steps, a resumed run."""

import json
from pathlib import Path
import shutil
import signal
import time

from scripts.same_as import bad_inputs
from scripts.same_as.trees import Side, SideFailedError, last_line

# The two recipes of `make quickstart`, their stages cut to 60 steps (`align` has but 40) of fewer
# rows, so that both sides run in minutes.
BASE_RECIPE = ("quickstart_base", ["train.stages.0.steps=60"])
RECIPE = (
    "quickstart",
    [
        "train.stages.1.steps=60",
        "train.stages.2.steps=60",
        "evaluate.translation.eng_kor.limit=32",
    ],
)
SHORTER = ["train.batch_size=8", "train.log_every=5"]
CUT_AT = 75  # steps of quickstart after which BASE's run is stopped: amid its second stage
STOPPED = 75  # exit code of a run that was asked to stop, and has saved
MACHINE = "v5e-4"  # compiled for where a recipe names no machine
# A recipe whose tokenizer is downloaded is lowered with one of the same kind that is trained.
WITHOUT_DOWNLOADS = {
    "real_llama2_tokenizer": [
        "base.tokenizer=",
        "vocab={method: train, text: [any.txt], size: 40000}",
    ]
}


def quickstart(base: Side, work: Side, resumed: Path) -> None:
    """Runs quickstart on both sides; BASE's is stopped on its way, copied, and goes on."""
    for side in (base, work):
        _run(side, BASE_RECIPE)
    _stop_amid(base)
    shutil.copytree(base.folder / "runs", resumed / "runs")
    for side in (base, work):
        _run(side, RECIPE)


def resumption(base: Side, work: Side, resumed: Path) -> None:
    """Goes on with the copy of the run that BASE began."""
    del base
    work.lrl(_arguments(work, RECIPE), resumed, resumed / "log.txt")


def refusals(base: Side, work: Side, resumed: Path) -> None:
    """Gives both command lines the same bad inputs, and notes what each says."""
    del resumed
    for side in (base, work):
        folder = side.folder / "refusals"
        arguments = bad_inputs.write(folder / "inputs")
        _inside(side, "refusals", folder, arguments)


def lowered(base: Side, work: Side, resumed: Path) -> None:
    """Lowers the steps of every recipe on both sides, as `lrl fit` would before it compiles."""
    del resumed
    for side in (base, work):
        recipes = sorted(path.stem for path in (side.checkout / "configs").glob("*.yaml"))
        commands = {
            name: ["fit", side.recipe(name), "--json", *WITHOUT_DOWNLOADS.get(name, [])]
            for name in recipes
        }
        on_machine = {name: [*command, "--on", MACHINE] for name, command in commands.items()}
        _inside(side, "lowered", side.folder / "lowered", [commands, on_machine])


def _inside(side: Side, task: str, folder: Path, arguments: object) -> None:
    """Calls inside.py with arguments in a file; it leaves texts in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "arguments.json"
    listed.write_text(json.dumps(arguments, indent=1))
    side.inside([task, str(listed), str(folder)], folder / "inputs", side.folder / f"{task}.log")


def _arguments(side: Side, recipe: tuple[str, list[str]]) -> list[str]:
    name, overrides = recipe
    return ["run", side.recipe(name), *overrides, *SHORTER]


def _run(side: Side, recipe: tuple[str, list[str]]) -> None:
    side.lrl(_arguments(side, recipe), side.folder, side.folder / f"{recipe[0]}.log")


def _stop_amid(side: Side) -> None:
    """Runs quickstart until it has noted enough steps, and asks it to stop.

    Raises:
      SideFailedError: it ended otherwise.
    """
    log = side.folder / "quickstart.log"
    metrics = side.folder / "runs/quickstart/train/metrics.jsonl"
    process = side.start(_arguments(side, RECIPE), side.folder, log)
    while process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= CUT_AT:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.1)
    if (code := process.wait()) != STOPPED:
        raise SideFailedError(
            f"{side.name}: quickstart, asked to stop after step {CUT_AT}, ended with {code} "
            f"instead of {STOPPED}: {last_line(log)}"
        )
