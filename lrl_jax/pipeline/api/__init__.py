"""The names that Python code imports from `lrl_jax` itself; docs/python.md shows them at work."""
