"""A Modelfile's Go template gives what the chat template renders, or there is none, in words."""

import json
import re

import pytest
import released_bases

from lrl_jax.data.templates import sandbox
from lrl_jax.hf.gguf import modelfile
from lrl_jax.hf.gguf.modelfile import Turns, UnsayableError, conversation

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
ACTION = re.compile(r'\{\{ ((?:"(?:\\.|[^"\\])*"|[^"}])*?) \}\}', re.DOTALL)


def run_go(template: str, messages: list[dict[str, str]]) -> str:
    """Runs the few actions of Go templates that ours consist of, as text/template does.

    Text between actions would be printed; there is none.
    """
    assert ACTION.sub("", template) == ""
    out = []
    for i, message in enumerate(messages):
        taken, depth = [], 0  # of each open `if`: whether a branch was taken, and is being run
        for action in ACTION.findall(template):
            running = all(now for _, now in taken)
            if action.startswith("range"):
                assert action == "range $i, $m := .Messages"
            elif action.startswith("if "):
                holds = running and _holds(action[3:], i, message)
                taken.append((holds, holds))
            elif action.startswith("else if "):
                before = taken.pop()[0]
                holds = not before and _holds(action[8:], i, message)
                taken.append((before or holds, holds))
            elif action == "end":
                if taken:
                    taken.pop()
                else:
                    depth += 1
            elif running:
                out.append(message["content"] if action == ".Content" else json.loads(action))
        assert (taken, depth) == ([], 1)
    return "".join(out)


def _holds(condition: str, i: int, message: dict[str, str]) -> bool:
    if condition == "eq $i 0":
        return i == 0
    return condition == f'eq .Role "{message["role"]}"'


def renderer(source: str):
    template = sandbox.compiled(source)
    return lambda messages: template.render([*messages], True, NAMES)


SOURCES = {
    "llama3": released_bases.LLAMA3,
    "phi3": released_bases.PHI3,
    "mistral": released_bases.MISTRAL,
    "gemma": released_bases.GEMMA,
    "qwen": released_bases.QWEN,
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_go_template_of_released_models_gives_what_they_render(name):
    render = renderer(SOURCES[name])
    go = modelfile.go_template(modelfile.turns(render, "<s>"))
    talks = [("", "a"), ("", "a\n\nb", 'c "d"', "{{ .Content }}"), ("Be brief", "a", "b", "c")]
    for talk in talks[: 2 if name in ("gemma", "mistral") else 3]:
        messages = conversation(*talk)
        assert run_go(go, messages) == render(messages).removeprefix("<s>")


def test_a_template_that_moves_the_system_message_is_refused_in_words():
    with pytest.raises(UnsayableError, match=r"messages in another order|otherwise"):
        modelfile.turns(renderer(released_bases.LLAMA2.replace("\n", "")), "<s>")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ messages[0]['content'] }}", "changes messages, or leaves some out"),
        ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "changes messages"),
        (
            "{% for m in messages %}{{ loop.length }}{{ m['content'] }}{% endfor %}",
            "writes a question otherwise after an answer",
        ),
    ],
)
def test_a_template_that_is_no_row_of_messages_is_refused_in_words(source, says):
    with pytest.raises(UnsayableError, match=says):
        modelfile.turns(renderer(source))
    page, why = modelfile.modelfile("x.gguf", renderer(source), "", ["</s>"], 7)
    assert says in why
    assert page.splitlines()[1].startswith("# No TEMPLATE: ")


def test_quotes_and_braces_in_a_template_end_nothing():
    made = Turns('"""{{ x }}', None, ('say """', '"\n'), ("", '\\"""'))
    page, why = modelfile.modelfile("x.gguf", made.render, "", ['a"b', "c\nd", '"'], 7)
    assert not why
    head, template, rest = page.split('"""', 2)
    assert head == "FROM ./x.gguf\nTEMPLATE "
    messages = conversation("", 'a"""b', "c", "d")
    assert run_go(template, messages) == made.render(messages)
    assert rest.splitlines() == [
        "",
        "# The template has no place for a system message.",
        'PARAMETER stop """a"b"""',
        'PARAMETER stop """c',
        'd"""',
        "# No stop: '\"'",
        "PARAMETER num_ctx 7",
    ]


def test_tokens_that_end_an_answer_are_stops_once_each():
    def render(messages):
        raise ValueError("no template here")

    page, why = modelfile.modelfile("x.gguf", render, "", ["</s>", "<|im_end|>", "</s>"], 512)
    assert why == "no template here"
    assert page.count("PARAMETER stop") == 2
    assert page.endswith('PARAMETER stop "<|im_end|>"\nPARAMETER num_ctx 512\n')
