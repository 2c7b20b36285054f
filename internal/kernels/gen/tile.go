package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of kernels.tileArgs.
const (
	tileA = 8 * iota
	tileB
	tileC
	tileBias
	tileY
	tileARow
	tileAStep
	tileBRow
	tileCRow
	tileYRow
	tileK
	tileLast
	tileStart
	tileMasks
	tileSlope
)

// Values of tileStart.
const (
	startSum  = iota // the sum begins with c
	startBias        // with the bias
	startZero
)

// tile writes one tile of a product: c = f(start + a·b) for rows × vectors of c.
//
// Element (i, l) of a lies at a + i·aRow + l·aStep, so a may be transposed. b is
// read a row at a time. Every element of c is one chain of fused sums in the order
// of l, whatever the shape of the tile: the bits of a product do not depend on how
// it is cut.
//
// f is max(z, slope·z), an activation (slope 1: none), where y is nil; else z is
// multiplied by slope where y is not above zero, the activation's backward pass.
func tile(i isa, rows, vectors int) {
	x := begin(fmt.Sprintf("tile%dx%d_%s", rows, vectors, i.name()),
		fmt.Sprintf("computes %d rows and %d vectors of a product.", rows, vectors))
	field := x.field
	last := i.part(field(tileLast), field(tileMasks))
	sums := make([][]reg.VecVirtual, rows)
	for r := range sums {
		for range vectors {
			sums[r] = append(sums[r], i.vector())
		}
	}
	partOf := func(v int) mask {
		if v == vectors-1 {
			return last
		}
		return nil
	}
	at := func(m Mem, v int) Mem { return m.Offset(v * width(i)) }

	start := field(tileStart)
	CMPQ(start, Imm(startBias))
	JEQ(LabelRef("bias"))
	JGT(LabelRef("zero"))
	for r, c := range rowsAt(field(tileC), field(tileCRow), rows) {
		for v := range vectors {
			i.load(at(c, v), sums[r][v], partOf(v))
		}
	}
	JMP(LabelRef("multiply"))
	Label("bias")
	bias := Mem{Base: field(tileBias)}
	for v := range vectors {
		i.load(at(bias, v), sums[0][v], partOf(v))
		for r := 1; r < rows; r++ {
			VMOVAPS(sums[0][v], sums[r][v])
		}
	}
	JMP(LabelRef("multiply"))
	Label("zero")
	for r := range rows {
		for v := range vectors {
			i.zero(sums[r][v])
		}
	}

	Label("multiply")
	k := field(tileK)
	a, aRow, aStep := field(tileA), field(tileARow), field(tileAStep)
	b, bRow := field(tileB), field(tileBRow)
	as, bases := rowsAndBases(a, aRow, rows)
	TESTQ(k, k)
	JZ(LabelRef("finish"))
	Label("loop")
	row := make([]reg.VecVirtual, vectors)
	for v := range row {
		row[v] = i.vector()
		i.load(at(Mem{Base: b}, v), row[v], partOf(v))
	}
	for r := range rows {
		element := i.vector()
		VBROADCASTSS(as[r], element)
		for v := range vectors {
			VFMADD231PS(row[v], element, sums[r][v])
		}
	}
	for _, base := range bases {
		ADDQ(aStep, base)
	}
	ADDQ(bRow, b)
	DECQ(k)
	JNZ(LabelRef("loop"))

	Label("finish")
	slope := x.broadcast(i, tileSlope)
	y := field(tileY)
	TESTQ(y, y)
	JNZ(LabelRef("backward"))
	scaled := i.vector()
	for r, c := range rowsAt(field(tileC), field(tileCRow), rows) {
		for v := range vectors {
			VMULPS(slope, sums[r][v], scaled)
			VMAXPS(sums[r][v], scaled, sums[r][v]) // the last operand decides about NaN: it stays
			i.store(sums[r][v], at(c, v), partOf(v))
		}
	}
	VZEROUPPER()
	RET()

	Label("backward")
	scratch := [2]reg.VecVirtual{i.vector(), i.vector()}
	for r, m := range rowsAt(y, field(tileYRow), rows) {
		for v := range vectors {
			i.damp(sums[r][v], slope, at(m, v), partOf(v), scratch)
		}
	}
	for r, c := range rowsAt(field(tileC), field(tileCRow), rows) {
		for v := range vectors {
			i.store(sums[r][v], at(c, v), partOf(v))
		}
	}
	VZEROUPPER()
	RET()
}

// rowsAt returns the addresses of rows that are stride bytes apart.
func rowsAt(first, stride reg.GPVirtual, rows int) []Mem {
	all, _ := rowsAndBases(first, stride, rows)
	return all
}

// rowsAndBases also returns the registers that move when all addresses shall: one
// reaches five rows, by 0, 1, 2 and 4 strides and by a register of 3.
func rowsAndBases(first, stride reg.GPVirtual, rows int) (all []Mem, bases []reg.GPVirtual) {
	stride3 := GP64()
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	base := GP64()
	MOVQ(first, base)
	for r := 0; r < rows; r += 5 {
		if r > 0 {
			next := GP64()
			LEAQ(Mem{Base: base, Index: stride, Scale: 4}, next)
			ADDQ(stride, next)
			base = next
		}
		bases = append(bases, base)
		five := []Mem{
			{Base: base},
			{Base: base, Index: stride, Scale: 1},
			{Base: base, Index: stride, Scale: 2},
			{Base: base, Index: stride3, Scale: 1},
			{Base: base, Index: stride, Scale: 4},
		}
		all = append(all, five[:min(5, rows-r)]...)
	}
	return all, bases
}
