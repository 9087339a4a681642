"""Bring a Llama to your language, on TPU pods or GPUs, and take it back to Hugging Face."""

__version__ = "0.1.0"
