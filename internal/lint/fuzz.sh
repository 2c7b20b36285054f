#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time, one after another.
# Fails if any of them found an input that fails, after all have had their turn.
set -u
time=${1:-30s}
cd "$(dirname "$0")/../.." || exit 1
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0
for pkg in $(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do
  for target in $(grep -rhoE '^func Fuzz[A-Za-z0-9_]+' "$pkg"/*_test.go | awk '{print $2}' | sort -u); do
    echo "== $pkg $target"
    if ! go test "$pkg" -run '^$' -fuzz "^${target}\$" -fuzztime "$time" -fuzzminimizetime 1x >"$out" 2>&1; then
      # Go reports the end of the time, when it falls into an execution, as a
      # failure without an input ("context deadline exceeded").
      if grep -q 'context deadline exceeded' "$out" && ! grep -qE 'Failing input|failure while testing' "$out"; then
        continue
      fi
      cat "$out"
      failed=1
    fi
    tail -n 2 "$out" | head -n 1
  done
done
exit "$failed"
