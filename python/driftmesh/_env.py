"""An environment is a class: states are values, and every method is a pure function."""

import json

import msgpack
import numpy as np

from ._reward import judged
from ._serve import fingerprint

_OPEN, _ENDED = b"\x00", b"\x01"


class Env:
    """An environment whose methods see one state at a time.

    A state is a value: a number, text, bytes, or a tuple of such, nested at will.
    Equal states are one node of the graph, however they were reached, and every
    step makes the object larger: the graph has no cycles.

    Forward action a leads from a state to another. Backward action a takes it
    back; it has one parent only. With stop = True there is one action more, which
    ends the object where it is.
    """

    actions: int  # not counting the stop action
    features: int  # of a state, as numbers from 0 to features-1 that are on or off
    max_steps: int  # longest trajectory, the stop action included
    stop = True
    # Of sequences, for models that read them: feature position*vocabulary + token
    # is on where a place holds a token.
    positions = vocabulary = 0
    data = ()  # names of files that the environment depends on

    def start(self):
        """The state in which every trajectory begins."""
        return ()

    def legal(self, state):
        """The actions that may be taken in a state that has not ended."""
        raise NotImplementedError

    def step(self, state, action):
        """The state that a legal action leads to."""
        raise NotImplementedError

    def undo(self, state, action):
        """The parent from which action led to state; None where there is none."""
        raise NotImplementedError

    def active(self, state):
        """The features that are on, ascending."""
        raise NotImplementedError

    def log_reward(self, state):
        """log R of a finished object."""
        raise NotImplementedError

    def can_stop(self, state):
        """Whether the stop action is legal."""
        return True

    def terminal(self, state):
        """Whether a state is a finished object, where there is no stop action."""
        return not self.stop and not any(True for _ in self.legal(state))

    def text(self, state):
        """The textual form of a state."""
        return json.dumps(state, separators=(",", ":"))

    def parse(self, text):
        """The state of which text is the textual form."""
        return _tuples(json.loads(text))

    # What follows serves the protocol.

    @classmethod
    def _bind(cls, params):
        return _Server(_Single(cls(**params)))


class BatchEnv:
    """An environment whose methods see n states at a time: a state is a row of
    numbers, states an array (n, width). Otherwise as Env."""

    actions: int
    features: int
    max_steps: int
    stop = True
    positions = vocabulary = 0
    data = ()

    def start(self):
        """The first state, an array (width,) whose type all states have."""
        raise NotImplementedError

    def legal(self, states):
        """bool (n, actions): what may be taken."""
        raise NotImplementedError

    def step(self, states, actions):
        """(n, width): where legal actions (n,) lead."""
        raise NotImplementedError

    def legal_back(self, states):
        """bool (n, actions): what may be taken back."""
        raise NotImplementedError

    def undo(self, states, actions):
        """(n, width): the parents from which actions led to states."""
        raise NotImplementedError

    def active(self, states):
        """bool (n, features)."""
        raise NotImplementedError

    def log_reward(self, states):
        """(n,): log R of finished objects."""
        raise NotImplementedError

    def can_stop(self, states):
        return np.ones(len(states), dtype=bool)

    def terminal(self, states):
        return np.zeros(len(states), dtype=bool) if self.stop else ~self.legal(states).any(axis=1)

    def text(self, state):
        """The textual form of one state."""
        return "(" + ",".join(map(str, state.tolist())) + ")"

    def parse(self, text):
        """The state of which text is the textual form."""
        if not (text.startswith("(") and text.endswith(")")):
            raise ValueError("want numbers in parentheses")
        return [json.loads(x) for x in text[1:-1].split(",")]

    @classmethod
    def _bind(cls, params):
        return _Server(_Batch(cls(**params)))


def _tuples(v):
    return tuple(map(_tuples, v)) if isinstance(v, list) else v


class _Single:
    """Env, n states at a time. Rows are pairs (ended, state)."""

    def __init__(self, env):
        self.env, self.turn = env, 0
        self.start = (False, env.start())

    def pack(self, rows):
        return [(_ENDED if ended else _OPEN) + msgpack.packb(s, use_bin_type=True) for ended, s in rows]

    def unpack(self, states):
        return [(s[:1] == _ENDED, msgpack.unpackb(s[1:], use_list=False, raw=False)) for s in states]

    def columns(self, rows):
        e, n = self.env, len(rows)
        forward = np.zeros((n, e.actions + bool(e.stop)), dtype=np.uint8)
        backward = np.zeros((n, e.actions), dtype=np.uint8)
        terminal, active, offsets = np.zeros(n, dtype=np.uint8), [], [0]
        for i, (ended, s) in enumerate(rows):
            terminal[i] = ended or not e.stop and bool(e.terminal(s))
            if not terminal[i]:
                legal = list(e.legal(s))
                if legal and not 0 <= min(legal) <= max(legal) < e.actions:
                    raise ValueError(f"legal({s!r}) gives {legal}; want actions from 0 to {e.actions - 1}")
                forward[i, legal] = 1
                if e.stop:
                    forward[i, e.actions] = bool(e.can_stop(s))
            if not ended:
                backward[i] = [e.undo(s, a) is not None for a in range(e.actions)]
            active.extend(e.active(s))
            offsets.append(len(active))
        return forward, backward, terminal, active, offsets, [e.text(s) for _, s in rows]

    def check(self, rows, backward):
        """Holds undo against step, by one action of each state: with parents that are
        none the backward policy is wrong, and so is what is learned."""
        e = self.env
        for (_, s), back in zip(self.unpack(self.pack(rows)), backward):  # as Driftmesh holds them
            back = np.flatnonzero(back)
            if len(back) == 0:
                continue
            self.turn += 1
            a = int(back[self.turn % len(back)])
            (_, parent), = self.unpack(self.pack([(False, e.undo(s, a))]))
            if a not in list(e.legal(parent)) or self.pack([(False, e.step(parent, a))]) != self.pack([(False, s)]):
                raise ValueError(f"undo({s!r}, {a}) gives {parent!r}, from which action {a} does not lead back; want None where there is no parent")

    def step(self, rows, actions):
        stop = self.env.actions if self.env.stop else -1
        return [(True, s) if a == stop else (False, self.env.step(s, a)) for (_, s), a in zip(rows, actions.tolist())]

    def undo(self, rows, actions):
        return [(False, s if ended else self.env.undo(s, a)) for (ended, s), a in zip(rows, actions.tolist())]

    def parse(self, texts):
        return [(bool(self.env.stop), self.env.parse(t)) for t in texts]

    def log_rewards(self, rows):
        return [self.env.log_reward(s) for _, s in rows]


class _Batch:
    """BatchEnv with the same face. Rows are a pair of arrays (ended, states)."""

    def __init__(self, env):
        self.env, self.turn = env, 0
        first = np.asarray(env.start())
        if first.ndim != 1:
            raise ValueError(f"start() has shape {first.shape}; want (width,)")
        self.dtype, self.width = first.dtype, first.shape[0]
        self.start = (np.zeros(1, dtype=bool), first[None, :])

    def pack(self, rows):
        ended, states = rows
        states = np.ascontiguousarray(states, dtype=self.dtype)
        return [(_ENDED if e else _OPEN) + s.tobytes() for e, s in zip(ended, states)]

    def unpack(self, states):
        ended = np.array([s[:1] == _ENDED for s in states], dtype=bool)
        flat = np.frombuffer(b"".join(s[1:] for s in states), dtype=self.dtype)
        return ended, flat.reshape(len(states), self.width)

    def columns(self, rows):
        e, (ended, states) = self.env, rows
        terminal = ended | (np.zeros(len(states), dtype=bool) if e.stop else np.asarray(e.terminal(states), dtype=bool))
        forward = np.asarray(e.legal(states), dtype=bool)
        if e.stop:
            forward = np.column_stack([forward, np.asarray(e.can_stop(states), dtype=bool)])
        backward = np.asarray(e.legal_back(states), dtype=bool) & ~ended[:, None]
        on = np.asarray(e.active(states), dtype=bool)
        offsets = np.concatenate([[0], np.cumsum(on.sum(axis=1))])
        return (forward & ~terminal[:, None], backward, terminal, np.nonzero(on)[1], offsets, [e.text(s) for s in states])

    def check(self, rows, backward):
        """As of Env."""
        e, some = self.env, backward.any(axis=1)
        if not some.any():
            return
        self.turn += 1
        states, back = rows[1][some], backward[some]
        order = np.roll(np.arange(e.actions), self.turn)
        actions = order[back[:, order].argmax(axis=1)].astype(np.int32)  # the first, from another one every time
        parents = np.array(e.undo(states, actions), dtype=self.dtype)
        legal = np.asarray(e.legal(parents), dtype=bool)[np.arange(len(actions)), actions]
        back_again = np.array(states)
        back_again[legal] = e.step(parents[legal], actions[legal])
        wrong = ~legal | (back_again != states).any(axis=1)
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(f"undo of {e.text(states[i])} by {actions[i]} gives {e.text(parents[i])}, from which action {actions[i]} does not lead back; legal_back says what may be undone")

    def step(self, rows, actions):
        ended, states = rows
        ends = (actions == self.env.actions) if self.env.stop else np.zeros(len(actions), dtype=bool)
        out = np.array(states, dtype=self.dtype)
        if not ends.all():
            out[~ends] = self.env.step(states[~ends], actions[~ends])
        return ends, out

    def undo(self, rows, actions):
        ended, states = rows
        out = np.array(states, dtype=self.dtype)
        if not ended.all():
            out[~ended] = self.env.undo(states[~ended], actions[~ended])
        return np.zeros(len(states), dtype=bool), out

    def parse(self, texts):
        rows = np.array([self.env.parse(t) for t in texts], dtype=self.dtype)
        if rows.shape != (len(texts), self.width):
            raise ValueError(f"{rows.shape[-1]} numbers; want {self.width}")
        return np.full(len(texts), bool(self.env.stop)), rows

    def log_rewards(self, rows):
        return self.env.log_reward(rows[1])


class _Server:
    """Answers requests about states that Driftmesh holds as bytes."""

    def __init__(self, face):
        self.face, self.env = face, face.env

    def hello(self):
        e = self.env
        for field in ("actions", "features", "max_steps"):
            if not isinstance(getattr(e, field, None), (int, np.integer)):
                raise TypeError(f"{type(e).__name__}.{field} is {getattr(e, field, None)!r}; want an integer")
        packed = self.face.pack(self.face.start if isinstance(self.face, _Batch) else [self.face.start])
        if self.face.pack(self.face.unpack(packed)) != packed:
            raise TypeError("start() does not survive packing: states are numbers, texts, bytes and tuples of them")
        return {
            "kind": "env", "name": type(e).__name__, "data": fingerprint(type(e), e.data),
            "spec": {
                "actions": int(e.actions), "stop": bool(e.stop), "features": int(e.features), "max_steps": int(e.max_steps),
                "positions": int(e.positions), "vocabulary": int(e.vocabulary),
            },
        } | self.nodes(self.face.unpack(packed))

    def answer(self, request):
        op = request["op"]
        if op == "parse":
            return self.nodes(self._parse(request["texts"]))
        if op == "reward":
            return judged(request["states"], lambda states: self.face.log_rewards(self.face.unpack(states)), log=True)
        rows = self.face.unpack(request["states"])
        actions = np.frombuffer(request["actions"], dtype="<i4")
        if op == "step":
            return self.checked(self.face.step(rows, actions))
        if op == "undo":
            return self.checked(self.face.undo(rows, actions))
        raise ValueError(f"an environment cannot answer {op!r}")

    def checked(self, rows):
        answer = self.nodes(rows)
        self.face.check(rows, np.frombuffer(answer["backward"], dtype=np.uint8).reshape(-1, self.env.actions).astype(bool))
        return answer

    def nodes(self, rows):
        forward, backward, terminal, active, offsets, texts = self.face.columns(rows)
        return {
            "states": self.face.pack(rows),
            "forward": np.asarray(forward, dtype=np.uint8).tobytes(),
            "backward": np.asarray(backward, dtype=np.uint8).tobytes(),
            "terminal": np.asarray(terminal, dtype=np.uint8).tobytes(),
            "active": np.asarray(active, dtype="<i4").tobytes(),
            "offsets": np.asarray(offsets, dtype="<i4").tobytes(),
            "texts": texts,
        }

    def _parse(self, texts):
        """A text is an object when its state can be walked back to the start, when
        the very same steps lead there again, and when it is written like that."""
        rows = self.face.parse(texts)
        packed = self.face.pack(rows)
        for text, state in zip(texts, packed):
            self._walk(text, state)
        return self.face.unpack(packed)

    def _walk(self, text, state):
        wrong = ValueError(f"{text[:80]!r} is no object of {type(self.env).__name__}")
        start = self.face.pack(self.face.unpack(self.face.pack(self.face.start if isinstance(self.face, _Batch) else [self.face.start])))[0]
        nobody = np.array([0], dtype=np.int32)
        at, taken = [state], []
        node = self.nodes(self.face.unpack(at))
        if node["terminal"] != b"\x01" or node["texts"][0] != text:
            raise wrong
        if self.env.stop:
            at = self.face.pack(self.face.undo(self.face.unpack(at), nobody))
            taken.append(self.env.actions)
        while at[0] != start:
            back = np.flatnonzero(np.frombuffer(self.nodes(self.face.unpack(at))["backward"], dtype=np.uint8))
            if len(back) == 0:
                raise wrong
            if len(taken) >= self.env.max_steps:
                raise ValueError(f"max_steps is {self.env.max_steps}, and {text[:80]!r} is further from the start")
            taken.append(int(back[0]))
            at = self.face.pack(self.face.undo(self.face.unpack(at), back[:1].astype(np.int32)))
        for a in reversed(taken):
            if not self.nodes(self.face.unpack(at))["forward"][a]:
                raise wrong
            at = self.face.pack(self.face.step(self.face.unpack(at), np.array([a], dtype=np.int32)))
        if at != [state]:
            raise wrong
