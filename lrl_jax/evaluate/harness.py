"""Runs tasks of lm-evaluation-harness on a model of ours: the only door to `lm_eval`.

The harness makes the prompts and computes the metrics; log-probabilities and answers come from
`likelihood` and `generate`, by its conventions.
"""

from collections.abc import Iterator, Sequence
import functools
import json
import logging
import os
from pathlib import Path
import random
from typing import Any

from etils import epath
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
import numpy as np

from lrl_jax import storage, terminal
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.evaluate.zoo import files
from lrl_jax.evaluate.zoo.answers import Answers
from lrl_jax.evaluate.zoo.finished import Finished, fingerprint
from lrl_jax.evaluate.zoo.relay import Relay, follow

SEED = 1234  # of the harness; Python's own is 0 there


def run(
    model: MeasuredModel,
    tasks: Sequence[str],
    out: epath.Path,
    shots: int | None = None,
    limit: int | None = None,
    imports: Sequence[str] = (),
    batch_size: int = 8,
    chat: bool = False,
) -> dict[str, dict[str, Any]]:
    """Runs tasks, groups or tags of the harness; returns their results by name.

    Every process calls it and gets the results. Process 0 alone runs the harness. What the model
    has answered is kept in `out`, for the next run of a killed one.

    Args:
      tasks: names that the harness has, or paths of task files.
      shots: how many examples precede a question; None: as many as the task says.
      limit: how many documents of each task are read; None: all.
      imports: files and folders of Python code that task files may run (`files.refuse_code`).
      chat: whether questions are asked in the tokenizer's own chat template.

    Raises:
      ValueError: the harness is not installed, a task is not defined, or runs code unasked.
    """
    name = fingerprint(model)
    if not meshes.lead():
        return follow(model, batch_size)
    loaded = load(tasks, imports)
    from lm_eval.evaluator import evaluate

    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None or (shots is not None and task.num_fewshot != 0):
            task.set_config(key="num_fewshot", value=shots or 0)
        task.set_fewshot_seed(seed=SEED)
    random.seed(0)
    np.random.seed(SEED)
    out.mkdir(parents=True, exist_ok=True)
    finished, work = Finished(out / f"answers-{name[:16]}.jsonl"), Relay(model, batch_size)
    lm = adapter()(Answers(model, work, finished, chat))
    how = dict(bootstrap_iters=0, apply_chat_template=chat, fewshot_as_multiturn=chat)
    measured = evaluate(lm, loaded, limit=limit, **how)
    finished.flush()
    for task, items in measured["samples"].items():
        lines = [json.dumps(item, ensure_ascii=False, default=str) for item in items]
        storage.write(out / f"{task}.jsonl", "\n".join([*lines, ""]))
    return work.end({name: dict(_scores(name, measured)) for name in measured["results"]})


def load(tasks: Sequence[str], imports: Sequence[str]) -> dict[str, Any]:
    """Returns the harness's task objects, after a look at what code their files run."""
    where = files.folders(tasks)
    terminal.quiet_libraries()
    if not imports:  # metrics of the hub are code too
        os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import lm_eval.tasks
    import lm_eval.utils

    jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    jinja.filters["regex_replace"] = lm_eval.utils.regex_replace
    lm_eval.utils.env = jinja  # the harness renders what a task file says without a sandbox
    manager = lm_eval.tasks.TaskManager(include_path=[*where], include_defaults=False)
    names = [files.defined_in(Path(t)) if files.is_file(t) else t for t in tasks]
    for path in sorted({p for name in names for p in files.of_task(manager.task_index, name)}):
        files.refuse_code(path, imports)
    return manager.load(names)


def _scores(name: str, measured: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the scores of a task, by name, then how many items it has and its version."""
    for key, value in measured["results"][name].items():
        metric, _, way = key.partition(",")
        if isinstance(value, int | float) and way and not metric.endswith("_stderr"):
            yield metric if way == "none" else f"{metric} ({way})", value
    samples = measured["n-samples"].get(name)
    yield "items", samples["effective"] if samples else measured["results"][name]["sample_len"]
    yield "shots", measured["n-shot"].get(name)
    yield "version", measured["versions"].get(name)


@functools.cache
def adapter() -> type:
    """Returns the class by which the harness asks a model; made here, as lm_eval is optional."""
    from lm_eval.api.model import TemplateLM

    class HarnessModel(TemplateLM):
        """Passes what the harness asks on to `Answers`."""

        def __init__(self, answers: Answers):
            super().__init__()
            self.answers, self.max_length = answers, answers.length
            self.set_cache_hook(answers.finished)

        eot_token_id = property(lambda self: self.answers.text.tokenizer.eos_id)
        prefix_token_id = property(lambda self: self.answers.text.tokenizer.bos_id)
        tokenizer_name = property(lambda self: self.answers.text.tokenizer.fingerprint)

        def set_cache_hook(self, cache_hook):
            self.cache_hook, self.answers.keep = cache_hook, cache_hook.add_partial

        def tok_encode(self, string, add_special_tokens=None, **_):
            return self.answers.text.encode(string, add_special_tokens is not False)

        def apply_chat_template(self, chat_history, add_generation_prompt=True):
            return self.answers.text.chat(chat_history, add_generation_prompt)

        def _loglikelihood_tokens(self, requests, **_):
            texts = [text for text, *_ in requests]
            return self.answers.likelihoods(texts, [tuple(pair) for _, *pair in requests])

        def loglikelihood_rolling(self, requests, disable_tqdm=True):
            return self.answers.rolling([request.args for request in requests])

        def generate_until(self, requests, disable_tqdm=True):
            return self.answers.generated([request.args for request in requests])

    return HarnessModel
