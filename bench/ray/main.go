// Command ray compares Driftmesh with Ray on one machine in one run: `make
// bench-ray` calls it. docs/RAY.md says what is compared and how.
//
// Its other commands are the processes of a measurement, which the first one
// starts: samplers that do not sample, followers that do not train.
package main

import (
	"maps"
	"os"

	"github.com/driftmesh/driftmesh/bench/parts"
)

func main() {
	commands := maps.Clone(parts.Commands)
	commands["compare"] = runCompare
	os.Exit(parts.Main(os.Args[1:], commands, "ray", "compare"))
}
