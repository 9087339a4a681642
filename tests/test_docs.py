"""What the docs tell a reader to type or to open is there."""

from pathlib import Path
import re
import shlex
import string
from typing import get_args

import pytest

from lrl_jax.cli import main
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe.vocab import Extend

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "tpu/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page):
    """Each `lrl ...` of a page as (page, line, words); lines joined, NAME='...' filled in."""
    text = page.read_text().replace("\\\n", " ")
    names = dict(re.findall(r"(?ms)^    (\w+)='(.*?)'$", text))
    for line in typed(text):
        words = shlex.split(line, comments=True)
        yield page, line, [string.Template(word).safe_substitute(names) for word in words]


def typed(text):
    """The lines `lrl ...` of a page's blocks, indented or fenced, after variables or a $."""
    fenced = "\n".join(re.findall(r"(?ms)^ *```(?:bash|sh|console|text)?\n(.*?)^ *```", text))
    indented = "\n".join(re.findall(r"(?m)^(?: {4,}|\t).*", text))
    start = r"(?m)^\s*(?:\$ )?(?:\w+=\S+ )*(lrl .*)"
    return [*dict.fromkeys(re.findall(start, f"{indented}\n{fenced}"))]


def inline(page):
    """Each `lrl ...` inside of a sentence."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text())
    return [" ".join(span.split()) for span in re.findall(r"`(lrl [^`]+)`", text)]


COMMANDS = [command for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "line", "words"), COMMANDS, ids=[c for _, c, _ in COMMANDS])
def test_a_command_in_the_docs_is_one_the_program_knows(page, line, words):
    args, rest = main.parser().parse_known_args(main.verb_first(words[1:]))
    assert all("=" in word for word in rest), f"{page.name}: {rest}"
    recipe = getattr(args, "recipe", "")
    if recipe.startswith("configs/"):
        recipe_file.load(str(ROOT / recipe), rest)


def test_every_way_to_write_a_command_is_seen():
    block = "    lrl run a.yaml\n\n```bash\n$ lrl check a.yaml\nX=1 lrl data a.yaml\n```\n"
    assert typed(block) == ["lrl run a.yaml", "lrl check a.yaml", "lrl data a.yaml"]
    assert typed("see lrl run\n\n```yaml\nlrl: 1\n```\n") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_command_in_a_sentence_has_a_verb_and_options_that_there_are(page):
    verbs = main._choices().choices
    for line in inline(page):
        words = main.verb_first(line.split()[1:])
        if not re.fullmatch(r"[a-z][a-z ]*", words[0]):
            continue  # `lrl STEP`, `lrl --help`
        begun = main._beginning(words[:1])
        assert words[0] in verbs or begun, line
        if words[0] in verbs:
            options = {
                flag for action in verbs[words[0]]._actions for flag in action.option_strings
            }
            strange = {word.partition("=")[0] for word in words if word.startswith("--")} - options
            assert not strange, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?m)^\s{4}make (\w+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"(?m)^{target}:", makefile), target


def test_whoever_converts_to_gguf_finds_what_the_converter_says_and_both_ways_on():
    text = (ROOT / "docs/vocabulary.md").read_text(encoding="utf-8")
    words = " ".join(text.split("## llama.cpp\n")[1].split("\n## ")[0].split())
    assert "BPE pre-tokenizer was not recognized" in words
    kept, aware = words.split("`mark_aware`")
    assert "`pretokenizer: keep`" in kept
    assert "`get_vocab_base_pre`" in kept
    assert "transformers or vLLM" in aware
    assert get_args(Extend.model_fields["pretokenizer"].annotation) == ("keep", "mark_aware")
    assert "llama.cpp" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_product_names_no_folder_beside_the_checkout():
    for folder in ("configs", "docs", "lrl_jax", "scripts", "tpu"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".md", ".yaml", ".sh"):
                assert "../shared" not in path.read_text(encoding="utf-8"), path


def test_the_repository_names_no_machine_and_no_registry():
    hosts = ("/wor" + "k/", "pyp" + "i.org", "python" + "hosted", "registry.np" + "mjs")
    for path in ROOT.rglob("*"):
        hidden = any(part.startswith(".") or part in ("runs", "build") for part in path.parts)
        if path.is_file() and not hidden and path.suffix in (".py", ".md", ".yaml", ".toml", ".sh"):
            text = path.read_text(encoding="utf-8")
            assert not [host for host in hosts if host in text], path
