"""Words of three letters, written from left to right, without a stop action."""

import math

import driftmesh


class Words(driftmesh.Env):
    actions, features, max_steps, stop = 4, 12, 3, False
    positions, vocabulary = 3, 4

    def start(self):
        return ""

    def legal(self, word):
        return range(4) if len(word) < 3 else ()

    def step(self, word, letter):
        return word + "ACGT"[letter]

    def undo(self, word, letter):
        return word[:-1] if word.endswith("ACGT"[letter]) else None

    def active(self, word):
        return [4 * i + "ACGT".index(c) for i, c in enumerate(word)]

    def log_reward(self, word):
        return math.log(1 + word.count("G"))

    def text(self, word):
        return word

    def parse(self, text):
        return text


driftmesh.serve(Words)
