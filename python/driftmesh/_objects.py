"""Objects travel as texts; these turn a batch of texts into an array."""

import numpy as np

_BARE = str.maketrans("()[],;", "      ")


def numbers(texts) -> np.ndarray:
    """Objects such as "(3,0,7)" or "[0.5, 2]": an array with one row an object,
    int64 where all numbers are whole, else float64."""
    joined = " ".join(texts).translate(_BARE)
    whole = not any(c in joined for c in ".eEnN")
    flat = np.array(joined.split(), dtype=np.int64 if whole else np.float64)
    if len(texts) == 0 or flat.size % len(texts) or flat.size == 0:
        raise ValueError(f"{len(texts)} objects with {flat.size} numbers in all: want equally many each")
    return flat.reshape(len(texts), -1)


def characters(texts) -> np.ndarray:
    """Objects of equal length such as "0110" or "ACGT": an array of bytes (uint8),
    one row an object; array == ord("A") finds a letter."""
    flat = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8)
    if len(texts) == 0 or flat.size % len(texts) or any(len(t) != len(texts[0]) for t in texts):
        raise ValueError("texts of different lengths: want equally long ones")
    return flat.reshape(len(texts), -1)
