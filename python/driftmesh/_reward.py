"""A reward is a decorated function."""

import functools
import inspect

import numpy as np

from ._serve import brief, fingerprint


def reward(function=None, /, *, objects=None, log=False, each=False, data=(), name=None):
    """Makes a function a reward that driftmesh.serve can serve.

    function   gets a list of texts, one an object, and returns as many rewards
               R > 0 (any sequence or array of numbers). Further parameters of it
               take their values from reward.params of the job.
    objects    turns the texts into what function gets, such as driftmesh.numbers.
    log        function returns log R.
    each       function gets one object (one text) and returns one reward.
    data       names of files that rewards depend on, beside the function's file:
               a worker whose files differ is found out.

    An exception, NaN, an infinite value, R <= 0 or a wrong number of values is the
    fault of the objects that caused it, and of no others.
    """
    if function is None:
        return functools.partial(reward, objects=objects, log=log, each=each, data=data, name=name)
    return Reward(function, objects, log, each, tuple(data), name or function.__name__)


class Reward:
    """What the decorator returns; call it like the function."""

    def __init__(self, function, objects, log, each, data, name, params=None):
        self._function, self._objects, self._log, self._each = function, objects, log, each
        self._data, self.name, self._params = data, name, params or {}
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        return self._function(*args, **kwargs)

    def _bind(self, params):
        try:
            inspect.signature(self._function).bind(None, **params)
        except TypeError as e:
            raise TypeError(f"reward.params does not fit {self.name}: {e}") from None
        return Reward(self._function, self._objects, self._log, self._each, self._data, self.name, params)

    def hello(self):
        return {"kind": "reward", "name": self.name, "data": fingerprint(self._function, self._data)}

    def answer(self, request):
        if request["op"] != "reward":
            raise ValueError(f"a reward cannot answer {request['op']!r}")
        return judged(request["texts"], self._values, self._log)

    def _values(self, texts):
        if self._each:
            return [self._function(t, **self._params) for t in texts]
        return self._function(self._objects(texts) if self._objects else texts, **self._params)


def judged(objects, values, log) -> dict:
    """The answer to a request for the rewards of objects, evaluated together, and
    one by one if that fails, to find whose fault it is."""
    n = len(objects)
    try:
        got = np.asarray(values(objects), dtype=np.float64)
        if got.shape != (n,):
            raise ValueError(f"{_shape(got)} for {n} objects")
        errors = []
    except Exception as e:
        if n == 1:
            return {"log_rewards": np.full(1, np.nan).tobytes(), "errors": [[0, brief(e)]]}
        alone = [judged([o], values, log) for o in objects]
        errors = [[i, text] for i, a in enumerate(alone) for _, text in a.get("errors", ())]
        return {"log_rewards": b"".join(a["log_rewards"] for a in alone), "errors": errors}
    good = np.isfinite(got) if log else np.isfinite(got) & (got > 0)
    want = "log-reward {}; want a finite number" if log else "reward {}; want a finite number above 0"
    if not good.all():
        errors = [[int(i), want.format(got[i])] for i in np.flatnonzero(~good)]
    if not log:
        got = np.log(np.where(good, got, 1.0))
    answer = {"log_rewards": np.where(good, got, np.nan).astype("<f8").tobytes()}
    if errors:
        answer["errors"] = errors
    return answer


def _shape(got) -> str:
    return f"{got.shape[0]} values" if got.ndim == 1 else f"an array of shape {got.shape}"
