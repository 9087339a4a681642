"""Asks judges in the words of a prompt set: those that ship, or those of a file.

    prompts = load("", "pair")                          the set `pair` of prompts.yaml
    prompts = load("korean", "pair")                    its set `pair_korean`
    prompts = load("judge_prompts.jsonl", "single")     FastChat's; FILE:NAME chooses one of several
    messages, name = messages_of(prompts, question, 1, {"a": "...", "b": "..."})

What stands in an answer is never taken for a field of the prompt: fields are filled in one pass.
"""

from collections.abc import Iterator, Mapping
import functools
from pathlib import Path
import re
from typing import Any, Literal

from etils import epath
import pydantic

from lrl_jax import storage
from lrl_jax.evaluate.judge import records
from lrl_jax.evaluate.judge.records import JudgeQuestion
from lrl_jax.recipe import plain_yaml
from lrl_jax.recipe.languages import CODE
from lrl_jax.recipe.vocab import did_you_mean
from lrl_jax.text import DataError

Kind = Literal["single", "pair"]
SHIPPED = Path(__file__).with_name("prompts.yaml")
MOST_BYTES = 1 << 22
FIELD = re.compile(r"\{([a-z]+(?:_[a-z]+)*(?:_\d)?)\}")
# Categories whose answers are right or wrong, as MT-Bench has them (arXiv 2306.05685).
WITH_REFERENCE = re.compile("math|reasoning|coding", re.IGNORECASE)
NEEDED = {"single": ({"answer"}, {"dialogue"}), "pair": ({"answer_a", "answer_b"},
          {"dialogue_a", "dialogue_b"})}  # fmt: skip


class JudgeWords(pydantic.BaseModel):
    """Holds the words of a request: for one turn, and for several ("" where it has none)."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    question: str
    dialogue: str = ""
    system: str = ""
    dialogue_system: str = ""  # "": the same as `system`
    names: tuple[str, str] = ("", "")  # of the two, where the file has one for each


class JudgePrompts(JudgeWords):
    """Holds a set of prompts: one question or several turns, with and without a reference."""

    name: str = ""
    kind: Kind
    language: str = pydantic.Field("eng_Latn", pattern=CODE)
    scale: tuple[float, float] = (1, 10)
    labels: Mapping[str, str] = {"user": "User", "assistant": "Assistant"}
    with_reference: JudgeWords | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> "JudgePrompts":
        if not self.scale[0] < self.scale[1]:
            raise ValueError(f"scale {self.scale}: want the lowest rating, then the highest")
        if {*self.labels} != {"user", "assistant"}:
            raise ValueError(f"labels {[*self.labels]}: want `user` and `assistant`")
        for words in filter(None, (self, self.with_reference)):
            _check_fields(words.question, self.kind, 0)
            if words.dialogue:
                _check_fields(words.dialogue, self.kind, 1)
        return self


def _check_fields(template: str, kind: Kind, several: int) -> None:
    """Raises ValueError for a template that does not show the judge what it is to judge."""
    fields = {*FIELD.findall(template)}
    shown = {re.sub(r"_\d$", "", field) for field in fields}
    asked = NEEDED[kind][several]
    if not (asked <= fields or {name.replace("dialogue", "answer") for name in asked} <= shown):
        wanted = ", ".join(f"{{{name}}}" for name in sorted(asked))
        raise ValueError(f"the template {template[:60]!r}... lacks {wanted}")


# ---------------------------------------------------------------------------- loading
def load(name: str, kind: Kind) -> JudgePrompts:
    """Returns a set of prompts by its name, or from a file.

    Args:
      name: "" for the set that is called as the kind, the end of another's name (`korean`), or a
        file, ours in YAML or FastChat's judge_prompts.jsonl; FILE:NAME where it has several.

    Raises:
      ValueError: no such set, or one that does not show what is to be judged.
    """
    file, _, chosen = name.rpartition(":") if re.search(r"\.\w+:[^/]+$", name) else (name, "", "")
    if "/" in file or epath.Path(file).suffix in (".yaml", ".yml", ".jsonl", ".json"):
        sets = [prompts for prompts in _of_file(file) if prompts.kind == kind]
        if chosen:
            sets = [prompts for prompts in sets if prompts.name == chosen]
        if not sets:
            raise ValueError(f"--prompt {name}: has no prompts of the kind {kind!r}")
        return sets[0]
    shipped = {prompts.name: prompts for prompts in _of_file(str(SHIPPED))}
    full = "_".join(filter(None, (kind, name)))
    if full not in shipped:
        names = [n.removeprefix(kind).strip("_") for n, p in shipped.items() if p.kind == kind]
        there = ", ".join(filter(None, names))
        raise ValueError(
            f"--prompt {name!r}: no such prompts{did_you_mean(name, names)}; there are {there}, "
            "and any file of yours"
        )
    return shipped[full]


def _of_file(path: str) -> list[JudgePrompts]:
    if not epath.Path(path).exists():
        raise ValueError(f"--prompt {path}: no such file")
    if path.endswith((".yaml", ".yml")):
        try:
            source = storage.read_bytes(path, MOST_BYTES).decode()
            tree = plain_yaml.parse(source, "prompt file")
        except ValueError as e:
            raise DataError(f"{path}: {e}") from None
        if not isinstance(tree, dict):
            raise DataError(f"{path}: want names of prompt sets, each with kind and question")
        return [_made(path, name, fields) for name, fields in tree.items()]
    return [*_of_fastchat(path)]


def _made(path: str, name: Any, fields: Any) -> JudgePrompts:
    if not isinstance(fields, dict):
        raise DataError(f"{path}: {name}: want fields such as kind, system and question")
    try:
        return JudgePrompts.model_validate({"name": str(name), **fields})
    except pydantic.ValidationError as e:
        error = e.errors()[0]
        where = ".".join(map(str, error["loc"]))
        raise DataError(f"{path}: {name}: {where}: {error['msg']}") from None


def _of_fastchat(path: str) -> Iterator[JudgePrompts]:
    """Yields a set for each prompt of FastChat's that is neither mathematical nor of turns.

    The others of a set are told by their names: pair-v2, pair-v2-multi-turn, pair-math-v1,
    pair-math-v1-multi-turn.
    """
    prompts = {str(record.get("name", where)): record for where, record in records.records(path)}
    for name, record in prompts.items():
        kind = {"single": "single", "pairwise": "pair"}.get(str(record.get("type")))
        if kind is None or "math" in name or "multi-turn" in name:
            continue
        family = name.partition("-")[0]
        math = next((n for n in prompts if n.startswith(f"{family}-math") and "turn" not in n), "")
        words = _words(name, prompts)
        more = {"with_reference": _words(math, prompts)} if math else {}
        yield _made(path, name, {"kind": kind, **words, **more})


def _words(name: str, prompts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    turns = f"{name}-multi-turn"
    dialogue = prompts.get(turns, {})
    return {
        "system": prompts[name].get("system_prompt", ""),
        "dialogue_system": dialogue.get("system_prompt", ""),
        "question": prompts[name].get("prompt_template", ""),
        "dialogue": dialogue.get("prompt_template", ""),
        "names": (name, turns),
    }


# ---------------------------------------------------------------------------- rendering
def uses_reference(prompts: JudgePrompts, question: JudgeQuestion, turn: int) -> bool:
    """Tells whether a turn is judged beside its reference."""
    wanted = prompts.with_reference is not None and needs_reference(question)
    return wanted and bool(question.reference(turn))


def needs_reference(question: JudgeQuestion) -> bool:
    """Tells whether a question is one of those that are judged beside a reference."""
    return bool(WITH_REFERENCE.search(question.category))


def messages_of(
    prompts: JudgePrompts,
    question: JudgeQuestion,
    turn: int,
    answers: Mapping[str, tuple[str, ...]],
) -> tuple[list[dict[str, str]], str]:
    """Returns the messages that ask a judge about a turn, and the name of their prompt.

    Args:
      turn: counted from 1; the answers before it are shown too.
      answers: "" -> the turns of a model; of two models, "a" and "b" -> theirs.

    Raises:
      ValueError: the prompts are for fewer turns.
    """
    words = prompts.with_reference if uses_reference(prompts, question, turn) else None
    words = words or prompts
    template = words.question if turn == 1 else words.dialogue
    fields = _fields(prompts, question, turn, answers)
    lacking = [name for name in FIELD.findall(template) if name not in fields]
    shows = re.search(rf"dialogue|_{turn}\}}", template)
    if not template or lacking or (turn > 1 and not shows):
        raise ValueError(
            f"prompt {prompts.name!r}: is not for turn {turn} of question {question.id}"
            + (f" (it has no {lacking[0]})" if lacking else "")
        )
    filled = FIELD.sub(lambda match: fields[match[1]], template)
    said = {"system": _system(prompts, words, turn), "user": filled}
    name = words.names[turn > 1] or _name(prompts, words is not prompts, turn)
    return [{"role": role, "content": text} for role, text in said.items() if text], name


def _system(prompts: JudgePrompts, words: JudgeWords, turn: int) -> str:
    """Returns what instructs the judge: the most special of what there is."""
    own = [text for each in (words, prompts) for text in (each.dialogue_system, each.system)]
    texts = own if turn > 1 else own[1::2]
    return next(filter(None, texts), "")


def _name(prompts: JudgePrompts, with_reference: bool, turn: int) -> str:
    more = ["with_reference"] * with_reference + ["dialogue"] * (turn > 1)
    return ".".join([prompts.name, *more])


def _fields(
    prompts: JudgePrompts,
    question: JudgeQuestion,
    turn: int,
    answers: Mapping[str, tuple[str, ...]],
) -> dict[str, str]:
    """Returns what the fields of templates stand for, ours and FastChat's."""
    turns = range(1, turn + 1)
    labels = prompts.labels
    dialogue = functools.partial(_dialogue, labels["user"], labels["assistant"], question, turn)
    fields = {"question": question.turns[turn - 1], "reference": question.reference(turn)}
    fields |= {f"question_{n}": question.turns[n - 1] for n in turns}
    fields |= {f"ref_answer_{n}": question.reference(n) for n in turns}
    fields["reference_dialogue"] = dialogue(question.references)
    for side, said in answers.items():
        end = f"_{side}" if side else ""
        fields[f"answer{end}"] = said[turn - 1]
        fields[f"dialogue{end}"] = dialogue(said)
        fields |= {f"answer{end}_{n}": said[n - 1] for n in turns}
    return fields


def _dialogue(
    user: str, assistant: str, question: JudgeQuestion, turn: int, answers: tuple[str, ...]
) -> str:
    said = zip(question.turns[:turn], answers, strict=False)
    return "\n\n".join(f"{user}: {asked}\n\n{assistant}: {answer}" for asked, answer in said)
