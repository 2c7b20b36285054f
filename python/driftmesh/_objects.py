"""Objects travel as texts; these turn a batch of texts into an array."""

import re

import numpy as np

_BARE = str.maketrans("()[],;", "      ")
_NAME = re.compile(r"(?<!\S)[A-Za-z_]\w*=")  # of a condition


def numbers(texts) -> np.ndarray:
    """Objects such as "(3,0,7)" or "[0.5, 2]": an array with one row an object,
    int64 where all numbers are whole, else float64. The condition of an object such
    as "beta=0.25 (3,0)" is its first number, and the array is float64 then."""
    joined = " ".join(texts).translate(_BARE)
    named = "=" in joined
    if named:
        joined = _NAME.sub("", joined)
    whole = not named and not any(c in joined for c in ".eEnN")
    try:
        flat = np.array(joined.split(), dtype=np.int64 if whole else np.float64)
    except ValueError as e:
        bad = next((t for t in texts if not _numeric(t)), "")
        raise ValueError(
            f"the object {bad[:80]!r} is not made of numbers: want texts such as '(3,0,7)', '[0.5, 2]' or "
            "'beta=0.25 (3,0)'; characters takes texts of letters"
        ) from e
    if len(texts) == 0 or flat.size % len(texts) or flat.size == 0:
        raise ValueError(f"{len(texts)} objects with {flat.size} numbers in all: want equally many each")
    return flat.reshape(len(texts), -1)


def _numeric(text) -> bool:
    try:
        np.array(_NAME.sub("", text.translate(_BARE)).split(), dtype=np.float64)
    except ValueError:
        return False
    return True


def characters(texts) -> np.ndarray:
    """Objects of equal length such as "0110" or "ACGT": an array of bytes (uint8),
    one row an object; array == ord("A") finds a letter."""
    flat = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8)
    if len(texts) == 0 or flat.size % len(texts) or any(len(t) != len(texts[0]) for t in texts):
        raise ValueError("texts of different lengths: want equally long ones")
    return flat.reshape(len(texts), -1)
