package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is a set of vector instructions. Vectors hold lanes() float32; a part of
// one, at the right edge of a matrix, is loaded and stored through a mask.
type isa interface {
	name() string
	lanes() int
	vector() reg.VecVirtual
	tiles() []shape
	// part makes the mask of the first n lanes, n in a register from 1 to
	// lanes(); masks is the address of lanes() times −1 and as many zeros.
	part(n, masks reg.Register) mask
	load(from Mem, to reg.VecVirtual, m mask)
	store(from reg.VecVirtual, to Mem, m mask)
	zero(v reg.VecVirtual)
	// damp multiplies the lanes of v by slope where y is not above zero.
	// scratch holds nothing that is needed.
	damp(v, slope reg.VecVirtual, y Mem, m mask, scratch [2]reg.VecVirtual)
}

// mask selects lanes; nil selects all.
type mask reg.Register

// shape is that of a tile of the result of a product, which stays in registers.
type shape struct{ rows, vectors int }

func width(i isa) int { return 4 * i.lanes() }

type avx512 struct{}

func (avx512) name() string           { return "avx512" }
func (avx512) lanes() int             { return 16 }
func (avx512) vector() reg.VecVirtual { return ZMM() }

// tiles: 28 of 32 registers hold sums in the largest ones, 2 a row of b and 2 an
// element of a.
func (avx512) tiles() (all []shape) {
	for r := 1; r <= 14; r++ {
		all = append(all, shape{r, 1}, shape{r, 2})
	}
	for r := 1; r <= 6; r++ {
		all = append(all, shape{r, 4})
	}
	return all
}

func (avx512) part(n, _ reg.Register) mask {
	bits, k := GP64(), K()
	MOVQ(I32(-1), bits)
	BZHIQ(n, bits, bits)
	KMOVW(bits.As32(), k)
	return k
}

func (avx512) load(from Mem, to reg.VecVirtual, m mask) {
	if m == nil {
		VMOVUPS(from, to)
		return
	}
	VMOVUPS_Z(from, m, to)
}

func (avx512) store(from reg.VecVirtual, to Mem, m mask) {
	if m == nil {
		VMOVUPS(from, to)
		return
	}
	VMOVUPS(from, m, to)
}

func (avx512) zero(v reg.VecVirtual) { VPXORD(v, v, v) }

func (a avx512) damp(v, slope reg.VecVirtual, y Mem, m mask, scratch [2]reg.VecVirtual) {
	a.zero(scratch[0])
	k := K()
	if m == nil {
		VCMPPS(U8(zeroNotBelow), y, scratch[0], k)
	} else {
		VCMPPS(U8(zeroNotBelow), y, scratch[0], m, k)
	}
	VMULPS(slope, v, k, v)
}

// zeroNotBelow is the predicate a ≥ b, false when unordered, of a = 0.
const zeroNotBelow = 0x1d

type avx2 struct{}

func (avx2) name() string           { return "avx2" }
func (avx2) lanes() int             { return 8 }
func (avx2) vector() reg.VecVirtual { return YMM() }

// tiles: 12 of 16 registers hold sums in the largest one; the rest are a row of
// b, an element of a and a mask.
func (avx2) tiles() (all []shape) {
	for r := 1; r <= 6; r++ {
		all = append(all, shape{r, 1}, shape{r, 2})
	}
	return all
}

func (avx2) part(n, masks reg.Register) mask {
	at, m := GP64(), YMM()
	MOVQ(U32(8), at)
	SUBQ(n, at)
	VMOVUPS(Mem{Base: masks, Index: at, Scale: 4}, m)
	return m
}

func (avx2) load(from Mem, to reg.VecVirtual, m mask) {
	if m == nil {
		VMOVUPS(from, to)
		return
	}
	VMASKMOVPS(from, m, to)
}

func (avx2) store(from reg.VecVirtual, to Mem, m mask) {
	if m == nil {
		VMOVUPS(from, to)
		return
	}
	VMASKMOVPS(from, m, to)
}

func (avx2) zero(v reg.VecVirtual) { VXORPS(v, v, v) }

func (a avx2) damp(v, slope reg.VecVirtual, y Mem, m mask, scratch [2]reg.VecVirtual) {
	off, t := scratch[0], scratch[1]
	a.load(y, t, m)
	a.zero(off)
	VCMPPS(U8(zeroNotBelow), t, off, off)
	VMULPS(slope, v, t)
	VBLENDVPS(off, t, v, v)
}

// args is the argument of a kernel: the address of a struct of 8-byte fields, of
// which the assembler need not know the type.
type args struct{ x reg.Register }

// begin starts a function with that argument.
func begin(name, doc string) args {
	TEXT(name, 0, "func(x *byte)")
	Doc(name + " " + doc)
	Pragma("noescape")
	return args{Load(Param("x"), GP64())}
}

// field loads a field into a register.
func (a args) field(offset int) reg.GPVirtual {
	r := GP64()
	MOVQ(a.at(offset), r)
	return r
}

func (a args) at(offset int) Mem { return Mem{Base: a.x, Disp: offset} }

// broadcast loads a float32 field into all lanes.
func (a args) broadcast(i isa, offset int) reg.VecVirtual {
	v := i.vector()
	VBROADCASTSS(a.at(offset), v)
	return v
}
