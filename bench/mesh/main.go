// Command mesh measures what the mesh itself costs: ingest, publication, commits and
// their share of training. `make bench-mesh` calls it; docs/MESHCOST.md says what
// is measured and how.
package main

import (
	"maps"
	"os"

	"github.com/driftmesh/driftmesh/bench/parts"
)

var commands = maps.Clone(parts.Commands)

func init() { commands["run"], commands["voter"] = runBench, runVoter }

func main() { os.Exit(run(os.Args[1:])) }

// run executes one command line; a voter reads its standard input itself.
func run(args []string) int { return parts.Main(args, commands, "mesh", "run", "voter") }
