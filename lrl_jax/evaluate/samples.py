"""What the fixed prompts of a recipe give while it trains."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from lrl_jax.data import templates
from lrl_jax.evaluate import generate
from lrl_jax.model import llama
from lrl_jax.recipe import Prompt, Train
from lrl_jax.vocab.tokenizer import Tokenizer

Sample = Callable[[llama.Params, int], Sequence[Mapping[str, Any]]]


def sampler(
    settings: Train, cfg: llama.LlamaConfig, tokenizer: Tokenizer, mesh: jax.sharding.Mesh
) -> Sample | None:
    """A function of (parameters, step) that continues the prompts; None when there are none."""
    if not settings.samples:
        return None
    prompts = [prompt_text(prompt) for prompt in settings.samples]

    def sample(params: llama.Params, step: int) -> list[dict[str, Any]]:
        del step  # greedy: what comes out depends on the parameters alone
        texts = generate.generate(
            cfg, params, tokenizer, prompts, settings.sample_tokens, mesh, len(prompts)
        )
        return [{"prompt": p, "text": t} for p, t in zip(prompts, texts, strict=True)]

    return sample


def prompt_text(prompt: Prompt) -> str:
    """What the model reads before it answers.

    >>> prompt_text(Prompt(text="Once"))
    'Once'
    """
    if prompt.template == "plain":
        return prompt.text
    record = {
        "source": prompt.text,
        "instruction": prompt.text,
        "input": "",
        "source_language": prompt.source_language,
        "target_language": prompt.target_language,
    }
    return templates.prompt(prompt.template, record)
