// Command gen writes the assembly of package kernels: the same kernels for
// AVX-512 and for AVX2 with FMA. Run it with `go generate ./internal/kernels`.
package main

import (
	"flag"
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
)

// calls is beside the flags of package build, which parses them all.
var calls = flag.String("calls", "", "file of the functions that call tiles")

func main() {
	all := []isa{avx512{}, avx2{}}
	flag.Parse()
	if err := writeCalls(*calls, all); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ConstraintExpr("amd64")
	for _, i := range all {
		for _, s := range i.tiles() {
			tile(i, s.rows, s.vectors)
		}
		gather(i)
		scatter(i)
		sumRows(i)
		adam(i)
		sumSquares(i)
		normalise(i)
		normaliseBackward(i)
		peak(i)
	}
	transpose8()
	Generate()
}
