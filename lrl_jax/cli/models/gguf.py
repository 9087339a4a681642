"""Writes an export as a GGUF file for llama.cpp and Ollama: `lrl export ... --gguf f16`.

lrl export tamil.yaml --gguf q8_0           # the step export if it is due, then the file
lrl export runs/tamil --gguf f16            # a run that has exported already
lrl export FOLDER --gguf f16 --texts my.txt # any Hugging Face folder that was exported
"""

import argparse
from collections.abc import Sequence
import contextlib

from etils import epath

from lrl_jax import storage
from lrl_jax.data.read import plain
from lrl_jax.data.templates import sandbox, tokenizer_chat
from lrl_jax.hf import load
from lrl_jax.hf.gguf import contents, file, modelfile, proof
from lrl_jax.pipeline import export, models
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Export
from lrl_jax.train.checkpoint import VerificationError

PROMPTS = 20  # lines of the texts that are asked through the chat template as well


def is_folder(args: argparse.Namespace) -> bool:
    """Tells whether the arguments name a folder to write as GGUF, and not a recipe."""
    return bool(args.gguf) and epath.Path(args.recipe).is_dir()


def of_folder(args: argparse.Namespace) -> None:
    """Writes the folder that the arguments name, or the export of the run that they name."""
    if args.overrides or args.redo or args.step:
        raise ValueError(
            f"{args.recipe}: is a folder, which is written as it is; leave out --redo, --step and "
            "overrides, or name the recipe"
        )
    run = models.run_at(args.recipe)
    if run is not None:
        of_run(args, run)
        return
    lines = [line for line in plain.lines(*args.texts) if line.strip()]
    folder = epath.Path(args.recipe)
    name = folder.parent.name if folder.name == "export" else folder.name
    _write(folder, args, name, lines[: Export().gate_lines])


def of_run(args: argparse.Namespace, run: Run) -> None:
    """Writes the export of a run; the texts are those of the export's gate."""
    if args.texts:
        raise ValueError("--texts: a recipe has its own in export.gate_on; leave it out")
    if not models.exported(run):
        raise ValueError(
            f"{run.folder}: has not exported a whole model, and llama.cpp wants one; run "
            "`lrl export` with export.form: merged"
        )
    _write(run.at("export"), args, run.recipe.name, export.texts(run.recipe))


def _write(folder: epath.Path, args: argparse.Namespace, name: str, lines: Sequence[str]) -> None:
    """Writes the file and its Modelfile, and says what was proved."""
    file.require()
    if storage.is_remote(folder):
        raise ValueError(f"{folder}: copy it here first; GGUF files are written from local folders")
    out = epath.Path(args.out) if args.out else folder.with_name(f"{folder.name}-gguf")
    storage.refuse_odd(str(out), writes=True)
    storage.check_writable(out)
    given = contents.source(folder)
    render = _renderer(given)
    path = out / f"{name}-{args.gguf.upper()}.gguf"
    prompts: list[str] = []
    with contextlib.suppress(ValueError):  # the Modelfile says why a template is refused
        prompts += [render(modelfile.conversation("", line)) for line in lines[:PROMPTS]]
    try:
        made = file.write(folder, path, args.gguf, lines, prompts, name)
    except proof.UnprovedError as e:
        raise VerificationError(str(e)) from None
    for note in made.notes:
        say(f"gguf: note: {note}")
    say(
        f"gguf: {path}: read back equal: {made.pieces:,} pieces ({made.spare} rows without one), "
        f"{made.merges:,} merges, {made.tensors} tensors ({made.exact} bit for bit); "
        f"llama.cpp's rules give the same ids on {made.texts:,} texts"
    )
    why = _write_modelfile(out / "Modelfile", path.name, given, render)
    say(f"gguf: {out / 'Modelfile'}: {why or 'with the chat template'}; ollama create {name} -f it")


def _write_modelfile(
    path: epath.Path, gguf: str, given: contents.GgufSource, render: modelfile.Render
) -> str:
    """Writes a Modelfile; returns why it has no template, or nothing."""
    words = given.vocabulary
    eos = words.ids["eos_token_id"]
    ends = [*load.ends(given.folder, len(words.pieces)), eos, words.ids.get("eot_token_id", eos)]
    bos = words.pieces[words.ids["bos_token_id"]] if words.add_bos else ""
    stops = [words.pieces[i] for i in ends]
    page, why = modelfile.modelfile(gguf, render, bos, stops, given.positions)
    path.write_text(page)
    return why


def _renderer(given: contents.GgufSource) -> modelfile.Render:
    """Returns what renders the folder's chat template in the sandbox.

    It raises ValueError where there is no template, or one that is refused.
    """
    names = tokenizer_chat.special_names(given.tokenizer)

    def render(messages: Sequence[modelfile.Message]) -> str:
        if not given.vocabulary.template:
            raise ValueError("the model has no chat template")
        template = sandbox.compiled(given.vocabulary.template)
        return template.render([*messages], True, names)

    return render
