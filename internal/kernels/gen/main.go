// Command gen writes the assembly of package kernels: the same kernels for
// AVX-512 and for AVX2 with FMA. Run it with `go generate ./internal/kernels`.
package main

import (
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	all := []isa{avx512{}, avx2{}}
	if err := writeCalls("../calls_amd64.go", all); err != nil {
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
	}
	transpose8()
	Generate()
}
