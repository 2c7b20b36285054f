package kernels

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// best are the best kernels of this processor.
func best() Level {
	x := &cpu.X86
	switch {
	case x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX2 && x.HasFMA && x.HasBMI2:
		return AVX512
	case x.HasAVX2 && x.HasFMA && x.HasBMI2:
		return AVX2
	}
	return Go
}

// masks is −1 for as many lanes as the widest vector that needs it has, and then 0.
var masks = [16]int32{-1, -1, -1, -1, -1, -1, -1, -1}

// tileArgs is what gen/tile.go reads.
type tileArgs struct {
	a, b, c, bias, y              *float32
	aRow, aStep, bRow, cRow, yRow int // bytes
	k, last                       int
	start                         start
	masks                         *[16]int32
	slope                         float32
}

const (
	// innerBlock is how far a product goes along its sums before it comes to the
	// next tile: that many rows of a and b stay in the second-level cache.
	innerBlock = 256
	// outerBlock is how many rows of the result are done before the next columns.
	outerBlock = 112
)

// tiled is a product in assembly.
func (p *product) tiled() {
	k := p.inner()
	if k <= innerBlock { // the same without its copies, which weigh more than a small product
		for i := 0; i < p.dst.Rows; i += outerBlock {
			p.rows(i, min(i+outerBlock, p.dst.Rows))
		}
		return
	}
	for l := 0; ; l += innerBlock {
		part := *p
		part.b = p.b.SliceRows(l, min(l+innerBlock, k))
		if p.turned {
			part.a = p.a.SliceRows(l, min(l+innerBlock, k))
		} else {
			part.a = p.a.SliceCols(l, min(l+innerBlock, k))
		}
		if l > 0 {
			part.start = fromDst
		}
		done := l+innerBlock >= k
		if !done {
			part.slope, part.y = 1, Matrix{}
		}
		for i := 0; i < p.dst.Rows; i += outerBlock {
			part.rows(i, min(i+outerBlock, p.dst.Rows))
		}
		if done {
			return
		}
	}
}

// rows computes rows from..to-1 of the result, a panel of columns after the other.
func (p *product) rows(from, to int) {
	x := tileArgs{
		aRow: 4 * p.a.Stride, aStep: 4, bRow: 4 * p.b.Stride, cRow: 4 * p.dst.Stride, yRow: 4 * p.y.Stride,
		k: p.b.Rows, start: p.start, masks: &masks, slope: p.slope,
	}
	if p.turned {
		x.aRow, x.aStep = x.aStep, x.aRow
	}
	lanes, most := 16, &tileRows_avx512
	if level == AVX2 {
		lanes, most = 8, &tileRows_avx2
	}
	for j := 0; j < p.dst.Cols; {
		left := p.dst.Cols - j
		vectors := 1
		switch {
		case left > 2*lanes && to-from <= most[4]:
			vectors = 4
		case left > lanes:
			vectors = 2
		}
		cols := min(vectors*lanes, left)
		vectors = (cols + lanes - 1) / lanes
		if vectors == 3 {
			vectors, cols = 2, 2*lanes
		}
		x.last = cols - (vectors-1)*lanes
		if p.b.Rows > 0 {
			x.b = &p.b.Data[j]
		}
		if p.start == fromBias {
			x.bias = &p.bias[j]
		}
		tiles := (to - from + most[vectors] - 1) / most[vectors]
		for t := range tiles { // of equal heights, as nearly as possible
			i, end := from+t*(to-from)/tiles, from+(t+1)*(to-from)/tiles
			x.c = &p.dst.Data[i*p.dst.Stride+j]
			if p.b.Rows > 0 {
				if p.turned {
					x.a = &p.a.Data[i]
				} else {
					x.a = &p.a.Data[i*p.a.Stride]
				}
			}
			if p.y.Data != nil {
				x.y = &p.y.Data[i*p.y.Stride+j]
			}
			if level == AVX512 {
				callTile_avx512(end-i, vectors, (*byte)(unsafe.Pointer(&x)))
			} else {
				callTile_avx2(end-i, vectors, (*byte)(unsafe.Pointer(&x)))
			}
		}
		j += cols
	}
}

// rowsArgs is what gen/rows.go reads.
type rowsArgs struct {
	data, table, bias *float32
	offset, index     *int32
	dataRow, tableRow int // bytes
	count, cols       int
	masks             *[16]int32
	slope             float32
}

func first[T any](s []T) *T {
	if len(s) == 0 {
		return nil
	}
	return &s[0]
}

func gather(dst, table Matrix, bias []float32, offset, index []int32, slope float32) {
	x := rowsArgs{
		data: first(dst.Data), table: first(table.Data), bias: first(bias), offset: first(offset), index: first(index),
		dataRow: 4 * dst.Stride, tableRow: 4 * table.Stride, count: dst.Rows, cols: dst.Cols, masks: &masks, slope: slope,
	}
	if level == AVX512 {
		gather_avx512((*byte)(unsafe.Pointer(&x)))
	} else {
		gather_avx2((*byte)(unsafe.Pointer(&x)))
	}
}

func scatter(table, src Matrix, offset, index []int32) {
	x := rowsArgs{
		data: first(src.Data), table: first(table.Data), offset: first(offset), index: first(index),
		dataRow: 4 * src.Stride, tableRow: 4 * table.Stride, count: src.Rows, cols: src.Cols, masks: &masks,
	}
	if level == AVX512 {
		scatter_avx512((*byte)(unsafe.Pointer(&x)))
	} else {
		scatter_avx2((*byte)(unsafe.Pointer(&x)))
	}
}

func sumRows(sum []float32, src Matrix) {
	x := rowsArgs{data: first(src.Data), bias: first(sum), dataRow: 4 * src.Stride, count: src.Rows, cols: src.Cols, masks: &masks}
	if level == AVX512 {
		sumRows_avx512((*byte)(unsafe.Pointer(&x)))
	} else {
		sumRows_avx2((*byte)(unsafe.Pointer(&x)))
	}
}

// adamArgs is what gen/vectors.go reads.
type adamArgs struct {
	p, grad, m, v  *float32
	blocks         int
	beta1, beta2   float32
	c1, c2         float32
	rate, scale    float32
	eps, gradScale float32
}

// adamBlocks makes the step of the first parameters and returns how many.
func adamBlocks(p, grad, m, v []float32, s AdamStep) int {
	const block = 16
	n := len(p) / block
	x := adamArgs{
		p: first(p), grad: first(grad), m: first(m), v: first(v), blocks: n,
		beta1: s.Beta1, beta2: s.Beta2, c1: 1 - s.Beta1, c2: 1 - s.Beta2,
		rate: s.Rate, scale: s.VScale, eps: s.Epsilon, gradScale: s.GradScale,
	}
	if level == AVX512 {
		adam_avx512((*byte)(unsafe.Pointer(&x)))
	} else {
		adam_avx2((*byte)(unsafe.Pointer(&x)))
	}
	return n * block
}

// squaresArgs is what gen/vectors.go reads.
type squaresArgs struct {
	x      *float32
	blocks int
	sums   *float64
}

// squareBlocks adds the squares of the first numbers into their chains and returns
// how many.
func squareBlocks(sums *[chains]float64, data []float32) int {
	n := len(data) / chains
	x := squaresArgs{x: first(data), blocks: n, sums: &sums[0]}
	if level == AVX512 {
		sumSquares_avx512((*byte)(unsafe.Pointer(&x)))
	} else {
		sumSquares_avx2((*byte)(unsafe.Pointer(&x)))
	}
	return n * chains
}

// normArgs is what gen/norm.go reads.
type normArgs struct {
	dst, base, x, y, scale      *float32
	dstRow, baseRow, xRow, yRow int // bytes
	rows, blocks                int
	epsilon                     float64
	over                        float32
}

func normalise(dst, x, add Matrix, scale []float32) {
	a := normArgs{
		dst: &dst.Data[0], base: first(add.Data), x: &x.Data[0], scale: &scale[0],
		dstRow: 4 * dst.Stride, baseRow: 4 * add.Stride, xRow: 4 * x.Stride,
		rows: x.Rows, blocks: x.Cols / normChains, epsilon: NormEpsilon, over: 1 / float32(x.Cols),
	}
	if level == AVX512 {
		normalise_avx512((*byte)(unsafe.Pointer(&a)))
	} else {
		normalise_avx2((*byte)(unsafe.Pointer(&a)))
	}
}

func normaliseBackward(dst, base, grad, y Matrix, scale []float32) {
	a := normArgs{
		dst: &dst.Data[0], base: first(base.Data), x: &grad.Data[0], y: &y.Data[0], scale: &scale[0],
		dstRow: 4 * dst.Stride, baseRow: 4 * base.Stride, xRow: 4 * grad.Stride, yRow: 4 * y.Stride,
		rows: y.Rows, blocks: y.Cols / normChains, over: 1 / float32(y.Cols),
	}
	if level == AVX512 {
		normaliseBackward_avx512((*byte)(unsafe.Pointer(&a)))
	} else {
		normaliseBackward_avx2((*byte)(unsafe.Pointer(&a)))
	}
}

// transposeArgs is what gen/vectors.go reads.
type transposeArgs struct {
	dst, src       *float32
	dstRow, srcRow int // bytes
	tiles          int
}

// transposeTiles transposes whole tiles of 8 × 8 and returns how many rows and
// columns of src they cover.
func transposeTiles(dst, src Matrix) (rows, cols int) {
	const side = 8
	dst.check()
	src.check()
	rows, cols = src.Rows/side*side, src.Cols/side*side
	if cols > 0 && dst.Rows < cols || dst.Cols < rows {
		panic("kernels: shapes of a transposition do not fit")
	}
	for i := 0; i < rows && cols > 0; i += side {
		x := transposeArgs{
			dst: &dst.Data[i], src: &src.Data[i*src.Stride],
			dstRow: 4 * dst.Stride, srcRow: 4 * src.Stride, tiles: cols / side,
		}
		transpose8_avx2((*byte)(unsafe.Pointer(&x)))
	}
	return rows, cols
}

// peakArgs is what gen/vectors.go reads.
type peakArgs struct {
	rounds int
	value  float32
}

// peakChains is as in gen/vectors.go.
const peakChains = 12

func peak(rounds int) (flops float64) {
	x := peakArgs{rounds: rounds, value: 0x1p-60}
	lanes := 16
	if level == AVX512 {
		peak_avx512((*byte)(unsafe.Pointer(&x)))
	} else {
		peak_avx2((*byte)(unsafe.Pointer(&x)))
		lanes = 8
	}
	return 2 * float64(rounds) * float64(peakChains*lanes)
}
