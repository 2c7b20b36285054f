//go:build !amd64

package kernels

// Only amd64 has kernels in assembly.
func best() Level { return Go }

const none = "kernels: no assembly for this processor"

func (p *product) tiled()                                      { panic(none) }
func gather(_, _ Matrix, _ []float32, _, _ []int32, _ float32) { panic(none) }
func scatter(_, _ Matrix, _, _ []int32)                        { panic(none) }
func sumRows([]float32, Matrix)                                { panic(none) }
func adamBlocks(_, _, _, _ []float32, _ AdamStep) int          { panic(none) }
func squareBlocks(*[chains]float64, []float32) int             { panic(none) }
func transposeTiles(_, _ Matrix) (rows, cols int)              { panic(none) }
func peak(int) float64                                         { panic(none) }
func normalise(_, _, _ Matrix, _ []float32)                    { panic(none) }
func normaliseBackward(_, _, _, _ Matrix, _ []float32)         { panic(none) }
