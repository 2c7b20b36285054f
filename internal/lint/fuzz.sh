#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time, one after another.
set -eu
time=${1:-30s}
cd "$(dirname "$0")/../.."
grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r pkg; do
  grep -rhoE '^func Fuzz[A-Za-z0-9_]+' "$pkg"/*_test.go | awk '{print $2}' | sort -u | while read -r target; do
    echo "== $pkg $target"
    go test "$pkg" -run '^$' -fuzz "^${target}\$" -fuzztime "$time"
  done
done
