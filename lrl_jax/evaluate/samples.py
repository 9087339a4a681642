"""Continues the fixed prompts of a recipe while it trains."""

from typing import Any

import jax

from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import generate
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.model import llama
from lrl_jax.recipe.languages import named
from lrl_jax.recipe.train import Prompt, Train
from lrl_jax.train.loop import Sample
from lrl_jax.vocab.tokenizer.types import Tokenizer


def sampler(
    settings: Train, cfg: llama.LlamaConfig, tokenizer: Tokenizer, mesh: jax.sharding.Mesh
) -> Sample | None:
    """Returns a function of (parameters, step) that continues the prompts; None without prompts."""
    if not settings.samples:
        return None

    def sample(params: llama.Params, step: int) -> list[dict[str, Any]]:
        del step  # decoding is greedy, so the result depends on the parameters alone
        prompts, answers = settings.samples, dict[int, str]()
        model = MeasuredModel(cfg, params, tokenizer, mesh, length=0, loss_blocks=1)
        for template in dict.fromkeys(prompt.template for prompt in prompts):
            same = [i for i, prompt in enumerate(prompts) if prompt.template == template]
            texts = generate.answers(
                model, template, [record(prompts[i]) for i in same], settings.sample_tokens,
                len(same),
            )  # fmt: skip
            answers |= zip(same, texts, strict=True)
        return [
            {"prompt": _text(prompt, tokenizer), "text": answers[i]}
            for i, prompt in enumerate(prompts)
        ]

    return sample


def record(prompt: Prompt) -> dict[str, str]:
    """Returns the record from which a template writes the prompt."""
    asked = dict.fromkeys(("text", "source", "instruction", "prompt", "inputs"), prompt.text)
    languages = prompt.model_dump(include={"source_language", "target_language"})
    return {**asked, "input": "", **named(languages, prompt.language_names)}


def _text(prompt: Prompt, tokenizer: Tokenizer) -> str:
    """Returns the text that the model reads before it answers, with control tokens by name."""
    parts = templates.prompt_parts(prompt.template, record(prompt), tokenizer)
    return "".join(part.text for part in parts)
