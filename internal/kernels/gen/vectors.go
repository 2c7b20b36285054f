package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of kernels.adamArgs; the coefficients are float32.
const (
	adamP = 8 * iota
	adamGrad
	adamM
	adamV
	adamBlocks
	adamFloats
)

// adam writes a step of Adam over blocks of 16 parameters. It multiplies and adds
// in the order of the portable kernel and fuses nothing, so the bits are the same.
func adam(i isa) {
	x := begin("adam_"+i.name(), "makes a step of Adam.")
	p, grad, m, v := x.field(adamP), x.field(adamGrad), x.field(adamM), x.field(adamV)
	blocks := x.field(adamBlocks)
	coefficient := func(n int) reg.VecVirtual { return x.broadcast(i, adamFloats+4*n) }
	beta1, beta2, c1, c2 := coefficient(0), coefficient(1), coefficient(2), coefficient(3)
	rate, scale, eps, gradScale := coefficient(4), coefficient(5), coefficient(6), coefficient(7)
	Label("blocks")
	TESTQ(blocks, blocks)
	JZ(LabelRef("end"))
	for off := 0; off < 64; off += width(i) {
		g, mi, vi, t := i.vector(), i.vector(), i.vector(), i.vector()
		VMULPS(Mem{Base: grad, Disp: off}, gradScale, g)
		VMULPS(Mem{Base: m, Disp: off}, beta1, mi)
		VMULPS(g, c1, t)
		VADDPS(t, mi, mi)
		VMOVUPS(mi, Mem{Base: m, Disp: off})
		VMULPS(g, g, g)
		VMULPS(g, c2, g)
		VMULPS(Mem{Base: v, Disp: off}, beta2, vi)
		VADDPS(g, vi, vi)
		VMOVUPS(vi, Mem{Base: v, Disp: off})
		VSQRTPS(vi, vi)
		VMULPS(scale, vi, vi)
		VADDPS(eps, vi, vi)
		VMULPS(rate, mi, mi)
		VDIVPS(vi, mi, mi)
		VMOVUPS(Mem{Base: p, Disp: off}, t)
		VSUBPS(mi, t, t)
		VMOVUPS(t, Mem{Base: p, Disp: off})
	}
	for _, at := range []reg.GPVirtual{p, grad, m, v} {
		ADDQ(Imm(64), at)
	}
	DECQ(blocks)
	JMP(LabelRef("blocks"))
	Label("end")
	VZEROUPPER()
	RET()
}

// Offsets of the fields of kernels.squaresArgs.
const (
	squaresX = 8 * iota
	squaresBlocks
	squaresSums
)

// sumSquares writes the sums of the squares of 32 interleaved columns of blocks
// of 32 numbers, in float64 and in order.
func sumSquares(i isa) {
	x := begin("sumSquares_"+i.name(), "adds up squares in 32 chains.")
	data, blocks, sums := x.field(squaresX), x.field(squaresBlocks), x.field(squaresSums)
	wide := width(i) / 8 // float64 lanes
	chains := make([]reg.VecVirtual, 32/wide)
	for n := range chains {
		chains[n] = i.vector()
		i.zero(chains[n])
	}
	Label("blocks")
	TESTQ(blocks, blocks)
	JZ(LabelRef("end"))
	for n, c := range chains {
		t := i.vector()
		VCVTPS2PD(Mem{Base: data, Disp: 4 * wide * n}, t)
		VMULPD(t, t, t)
		VADDPD(t, c, c)
	}
	ADDQ(U32(128), data)
	DECQ(blocks)
	JMP(LabelRef("blocks"))
	Label("end")
	for n, c := range chains {
		VMOVUPD(c, Mem{Base: sums, Disp: width(i) * n})
	}
	VZEROUPPER()
	RET()
}

// Offsets of the fields of kernels.transposeArgs.
const (
	transposeDst = 8 * iota
	transposeSrc
	transposeDstRow
	transposeSrcRow
	transposeTiles
)

// transpose8 writes the transposition of successive tiles of 8 × 8 of eight rows.
func transpose8() {
	x := begin("transpose8_avx2", "transposes tiles of 8 × 8, side by side in the source.")
	dst, src := x.field(transposeDst), x.field(transposeSrc)
	dstRow, srcRow := x.field(transposeDstRow), x.field(transposeSrcRow)
	tiles, step := x.field(transposeTiles), GP64()
	MOVQ(dstRow, step)
	SHLQ(Imm(3), step)
	Label("tiles")
	TESTQ(tiles, tiles)
	JZ(LabelRef("end"))
	var r, t [8]reg.VecVirtual
	for n, m := range rowsAt(src, srcRow, 8) {
		r[n], t[n] = YMM(), YMM()
		VMOVUPS(m, r[n])
	}
	for n := 0; n < 8; n += 2 { // pairs of rows
		VUNPCKLPS(r[n+1], r[n], t[n])
		VUNPCKHPS(r[n+1], r[n], t[n+1])
	}
	for n := 0; n < 8; n += 4 { // fours
		VSHUFPS(U8(0x44), t[n+2], t[n], r[n])
		VSHUFPS(U8(0xee), t[n+2], t[n], r[n+1])
		VSHUFPS(U8(0x44), t[n+3], t[n+1], r[n+2])
		VSHUFPS(U8(0xee), t[n+3], t[n+1], r[n+3])
	}
	for n := range 4 { // halves
		VPERM2F128(U8(0x20), r[n+4], r[n], t[n])
		VPERM2F128(U8(0x31), r[n+4], r[n], t[n+4])
	}
	for n, m := range rowsAt(dst, dstRow, 8) {
		VMOVUPS(t[n], m)
	}
	ADDQ(Imm(32), src)
	ADDQ(step, dst)
	DECQ(tiles)
	JMP(LabelRef("tiles"))
	Label("end")
	VZEROUPPER()
	RET()
}

// Offsets of the fields of kernels.peakArgs.
const (
	peakRounds = 8 * iota
	peakValue
)

// peakChains is how many fused sums run beside each other in peak: more than hide
// the time that one takes.
const peakChains = 12

// peak writes nothing but fused sums on registers: the rate that no product exceeds.
func peak(i isa) {
	x := begin("peak_"+i.name(), "makes rounds of independent fused sums.")
	rounds, value := x.field(peakRounds), x.broadcast(i, peakValue)
	sums := make([]reg.VecVirtual, peakChains)
	for n := range sums {
		sums[n] = i.vector()
		i.zero(sums[n])
	}
	Label("rounds")
	for _, s := range sums {
		VFMADD231PS(value, value, s)
	}
	DECQ(rounds)
	JNZ(LabelRef("rounds"))
	VZEROUPPER()
	RET()
}
