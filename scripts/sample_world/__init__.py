"""Makes the English-Korean sample text that ships with the package (lrl_jax/data/sample).

    python -m scripts.sample_world.make

grammar inflects words, lexicon and usage list them, phrases and patterns make sentences of them,
stories makes paragraphs, instruct makes tasks, corpora divides all of it into named texts, and make
writes the archive. Everything here is dedicated to the public domain (CC0 1.0).
"""
