"""Says what data is worth that is read again and again (arXiv 2305.16264, section 3.1).

    effective_epochs(4.0)              # 3.73: four epochs teach as much as 3.73 times fresh data
    effective_tokens(1e6, 4e6)         # 3.73e6

Reading U unique tokens 1 + R times is worth D' = U + U R* (1 - exp(-R / R*)) tokens that are all
new: a token read again after R repetitions is worth exp(-R / R*) of a new one. R* = 15.387756 is
the paper's fit over runs of up to 9 billion parameters (`rd_star` in the README of
github.com/huggingface/datablations; Table 1 of the paper rounds it to 15.39).
"""

import math

R_STAR = 15.387756  # repetitions after which one more is worth 1/e of fresh data
EPOCHS = 1 + R_STAR  # epochs up to which every token is worth at least 1/e of a new one


def effective_epochs(epochs: float) -> float:
    """Returns how many epochs' worth of new data this many epochs of the same data are worth.

    >>> round(effective_epochs(0.5), 3), round(effective_epochs(4), 3), round(effective_epochs(1e9))
    (0.5, 3.726, 16)
    """
    repeats = max(epochs - 1, 0.0)
    return min(epochs, 1.0) - R_STAR * math.expm1(-repeats / R_STAR)


def effective_tokens(unique: float, tokens: float) -> float:
    """Returns how many new tokens are worth as much as `tokens` read of `unique` different ones.

    >>> effective_tokens(100, 60), round(effective_tokens(100, 400), 1)
    (60.0, 372.6)
    """
    if unique <= 0:
        raise ValueError(f"{unique:g} unique tokens; want more than 0")
    return unique * effective_epochs(tokens / unique)


def worth(epochs: float) -> float:
    """Returns what one more token is worth beside a new one, after this many epochs.

    >>> worth(0.3), round(worth(4), 3), round(worth(EPOCHS), 3)
    (1.0, 0.823, 0.368)
    """
    return math.exp(-max(epochs - 1, 0.0) / R_STAR)
