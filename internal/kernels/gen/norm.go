package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// normChains is as in kernels: sums along a row run in so many chains.
const normChains = 16

// Offsets of the fields of kernels.normArgs.
const (
	normDst = 8 * iota
	normBase
	normX
	normY
	normScale
	normDstRow
	normBaseRow
	normXRow
	normYRow
	normRows
	normBlocks
	normEpsilon
	normOver
)

// chains are the sums of one row; fold adds them up as kernels.fold does.
func chains(i isa) []reg.VecVirtual {
	all := make([]reg.VecVirtual, normChains/i.lanes())
	for n := range all {
		all[n] = i.vector()
	}
	return all
}

// fold adds up the chains in pairs; the sum is in the first lane of what it returns.
func fold(i isa, all []reg.VecVirtual) reg.VecVirtual {
	y, x, t := YMM(), XMM(), XMM()
	if i.lanes() == 16 {
		VEXTRACTF64X4(Imm(1), all[0], y)
		VADDPS(y, all[0].AsY(), y)
	} else {
		VADDPS(all[1], all[0], y)
	}
	VEXTRACTF128(Imm(1), y, t)
	VADDPS(t, y.AsX(), x)
	VMOVHLPS(x, x, t)
	VADDPS(t, x, x)
	VMOVSHDUP(x, t)
	VADDSS(t, x, x)
	return x
}

// walk runs body for each vector of a row: pointers to the beginnings of rows,
// and the offset of the vector within its block of normChains.
func walk(i isa, label string, blocks reg.Register, pointers []reg.GPVirtual, body func(at []reg.GPVirtual, n, offset int)) {
	left := GP64()
	MOVQ(blocks, left)
	at := make([]reg.GPVirtual, len(pointers))
	for n, p := range pointers {
		at[n] = GP64()
		MOVQ(p, at[n])
	}
	Label(label)
	for n := range normChains / i.lanes() {
		body(at, n, n*width(i))
	}
	for _, p := range at {
		ADDQ(Imm(4*normChains), p)
	}
	DECQ(left)
	JNZ(LabelRef(label))
}

// normalise writes LayerNorm of rows of whole blocks of normChains. It multiplies
// and adds in the order of the portable kernel and fuses nothing, so the bits are
// the same.
func normalise(i isa) {
	a := begin("normalise_"+i.name(), "normalises rows.")
	dst, add, x, scale := a.field(normDst), a.field(normBase), a.field(normX), a.field(normScale)
	rows, blocks := a.field(normRows), a.field(normBlocks)
	sums, value, spread := chains(i), i.vector(), i.vector()
	over := XMM()
	VMOVSS(a.at(normOver), over)
	Label("rows")
	for _, s := range sums {
		i.zero(s)
	}
	TESTQ(add, add)
	JZ(LabelRef("alone"))
	walk(i, "adds", blocks, []reg.GPVirtual{x, add}, func(at []reg.GPVirtual, n, offset int) {
		VMOVUPS(Mem{Base: at[0], Disp: offset}, value)
		VADDPS(Mem{Base: at[1], Disp: offset}, value, value)
		VMOVUPS(value, Mem{Base: at[0], Disp: offset})
		VADDPS(value, sums[n], sums[n])
	})
	ADDQ(a.at(normBaseRow), add)
	JMP(LabelRef("summed"))
	Label("alone")
	walk(i, "sums", blocks, []reg.GPVirtual{x}, func(at []reg.GPVirtual, n, offset int) {
		VADDPS(Mem{Base: at[0], Disp: offset}, sums[n], sums[n])
	})
	Label("summed")
	mean := fold(i, sums)
	VMULSS(over, mean, mean)
	VBROADCASTSS(mean, spread)
	for _, s := range sums {
		i.zero(s)
	}
	walk(i, "centres", blocks, []reg.GPVirtual{x, dst}, func(at []reg.GPVirtual, n, offset int) {
		VMOVUPS(Mem{Base: at[0], Disp: offset}, value)
		VSUBPS(spread, value, value)
		VMOVUPS(value, Mem{Base: at[1], Disp: offset})
		VMULPS(value, value, value)
		VADDPS(value, sums[n], sums[n])
	})
	variance := fold(i, sums)
	VMULSS(over, variance, variance)
	root, one := XMM(), XMM()
	VCVTSS2SD(variance, variance, root)
	VADDSD(a.at(normEpsilon), root, root)
	VSQRTSD(root, root, root)
	bits := GP64()
	MOVQ(U64(0x3ff0000000000000), bits)
	VMOVQ(bits, one)
	VDIVSD(root, one, root)
	VCVTSD2SS(root, root, root)
	VMOVSS(root, Mem{Base: scale})
	VBROADCASTSS(root, spread)
	walk(i, "scales", blocks, []reg.GPVirtual{dst}, func(at []reg.GPVirtual, n, offset int) {
		VMULPS(Mem{Base: at[0], Disp: offset}, spread, value)
		VMOVUPS(value, Mem{Base: at[0], Disp: offset})
	})
	ADDQ(a.at(normXRow), x)
	ADDQ(a.at(normDstRow), dst)
	ADDQ(Imm(4), scale)
	DECQ(rows)
	JNZ(LabelRef("rows"))
	VZEROUPPER()
	RET()
}

// normaliseBackward is the backward pass: x are the gradients, y the normalised rows.
func normaliseBackward(i isa) {
	a := begin("normaliseBackward_"+i.name(), "is the backward pass of normalise.")
	dst, base, grad, y, scale := a.field(normDst), a.field(normBase), a.field(normX), a.field(normY), a.field(normScale)
	rows, blocks := a.field(normRows), a.field(normBlocks)
	sums, products, value, t := chains(i), chains(i), i.vector(), i.vector()
	mean, along, factor, over := i.vector(), i.vector(), i.vector(), XMM()
	VMOVSS(a.at(normOver), over)
	Label("rows")
	for n := range sums {
		i.zero(sums[n])
		i.zero(products[n])
	}
	walk(i, "sums", blocks, []reg.GPVirtual{grad, y}, func(at []reg.GPVirtual, n, offset int) {
		VMOVUPS(Mem{Base: at[0], Disp: offset}, value)
		VADDPS(value, sums[n], sums[n])
		VMULPS(Mem{Base: at[1], Disp: offset}, value, value)
		VADDPS(value, products[n], products[n])
	})
	for _, c := range []struct {
		chains []reg.VecVirtual
		to     reg.VecVirtual
	}{{sums, mean}, {products, along}} {
		s := fold(i, c.chains)
		VMULSS(over, s, s)
		VBROADCASTSS(s, c.to)
	}
	VBROADCASTSS(Mem{Base: scale}, factor)
	step := func(at []reg.GPVirtual, offset int) {
		VMULPS(Mem{Base: at[1], Disp: offset}, along, t)
		VMOVUPS(Mem{Base: at[0], Disp: offset}, value)
		VSUBPS(mean, value, value)
		VSUBPS(t, value, value)
		VMULPS(factor, value, value)
	}
	TESTQ(base, base)
	JZ(LabelRef("alone"))
	walk(i, "adds", blocks, []reg.GPVirtual{grad, y, dst, base}, func(at []reg.GPVirtual, _, offset int) {
		step(at, offset)
		VADDPS(Mem{Base: at[3], Disp: offset}, value, value)
		VMOVUPS(value, Mem{Base: at[2], Disp: offset})
	})
	ADDQ(a.at(normBaseRow), base)
	JMP(LabelRef("done"))
	Label("alone")
	walk(i, "writes", blocks, []reg.GPVirtual{grad, y, dst}, func(at []reg.GPVirtual, _, offset int) {
		step(at, offset)
		VMOVUPS(value, Mem{Base: at[2], Disp: offset})
	})
	Label("done")
	ADDQ(a.at(normXRow), grad)
	ADDQ(a.at(normYRow), y)
	ADDQ(a.at(normDstRow), dst)
	ADDQ(Imm(4), scale)
	DECQ(rows)
	JNZ(LabelRef("rows"))
	VZEROUPPER()
	RET()
}
