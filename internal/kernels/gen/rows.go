package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of kernels.rowsArgs.
const (
	rowsData = 8 * iota
	rowsTable
	rowsBias
	rowsOffset
	rowsIndex
	rowsDataRow
	rowsTableRow
	rowsCount
	rowsCols
	rowsMasks
	rowsSlope
)

// chunk is how many vectors of a row are worked on at once.
const chunk = 4

// columns writes body for the columns of a row from 0 on: in chunks of whole
// vectors, then single ones, of which the last may be a part. at is the distance
// of the columns from the beginning of their row, in bytes. name makes labels
// unique.
func columns(i isa, name string, cols, masks reg.GPVirtual, body func(label string, at reg.GPVirtual, vectors int, m mask)) {
	at, left := GP64(), GP64()
	XORQ(at, at)
	MOVQ(cols, left)
	Label(name + "_chunks")
	CMPQ(left, U32(uint64(chunk*i.lanes())))
	JLT(LabelRef(name + "_single"))
	body(name+"_chunk", at, chunk, nil)
	ADDQ(U32(uint64(chunk*width(i))), at)
	SUBQ(U32(uint64(chunk*i.lanes())), left)
	JMP(LabelRef(name + "_chunks"))
	Label(name + "_single")
	TESTQ(left, left)
	JLE(LabelRef(name + "_done"))
	n := GP64()
	MOVQ(U32(uint64(i.lanes())), n)
	CMPQ(left, n)
	CMOVQLT(left, n)
	m := i.part(n, masks)
	body(name+"_part", at, 1, m)
	ADDQ(Imm(uint64(width(i))), at)
	SUBQ(Imm(uint64(i.lanes())), left)
	JMP(LabelRef(name + "_single"))
	Label(name + "_done")
}

// vectorsAt are the addresses of successive vectors.
func vectorsAt(i isa, base, at reg.Register, vectors int) []Mem {
	all := make([]Mem, vectors)
	for v := range all {
		all[v] = Mem{Base: base, Index: at, Scale: 1, Disp: v * width(i)}
	}
	return all
}

// listed writes body for every entry of a list of row numbers from..to-1 (in
// bytes, within index), with the address of that row of table.
func listed(label string, index, from, to, table, tableRow reg.GPVirtual, body func(row reg.GPVirtual)) {
	p := GP64()
	MOVQ(from, p)
	Label(label)
	CMPQ(p, to)
	JGE(LabelRef(label + "_end"))
	row := GP64()
	MOVLQSX(Mem{Base: index, Index: p, Scale: 1}, row)
	IMULQ(tableRow, row)
	ADDQ(table, row)
	body(row)
	ADDQ(Imm(4), p)
	JMP(LabelRef(label))
	Label(label + "_end")
}

// eachRow writes body for every row of data: its address, and where its list of
// row numbers begins and ends, in bytes within index.
func eachRow(x args, body func(row, from, to reg.GPVirtual)) {
	count, data, offset := x.field(rowsCount), x.field(rowsData), x.field(rowsOffset)
	Label("rows")
	TESTQ(count, count)
	JZ(LabelRef("rows_end"))
	from, to := GP64(), GP64()
	MOVLQSX(Mem{Base: offset}, from)
	MOVLQSX(Mem{Base: offset, Disp: 4}, to)
	SHLQ(Imm(2), from)
	SHLQ(Imm(2), to)
	body(data, from, to)
	ADDQ(x.at(rowsDataRow), data)
	ADDQ(Imm(4), offset)
	DECQ(count)
	JMP(LabelRef("rows"))
	Label("rows_end")
}

// gather writes the first layer of sparse binary features: every row of data is
// max(z, slope·z) of z = bias + the rows of table that its list names.
func gather(i isa) {
	x := begin("gather_"+i.name(), "computes bias + listed rows of a table, and an activation of it.")
	table, tableRow, index := x.field(rowsTable), x.field(rowsTableRow), x.field(rowsIndex)
	eachRow(x, func(row, from, to reg.GPVirtual) {
		columns(i, "gather", x.field(rowsCols), x.field(rowsMasks), func(label string, at reg.GPVirtual, vectors int, m mask) {
			sums := make([]reg.VecVirtual, vectors)
			bias := x.field(rowsBias)
			for v, from := range vectorsAt(i, bias, at, vectors) {
				sums[v] = i.vector()
				i.load(from, sums[v], m)
			}
			listed(label, index, from, to, table, tableRow, func(source reg.GPVirtual) {
				for v, from := range vectorsAt(i, source, at, vectors) {
					if m == nil {
						VADDPS(from, sums[v], sums[v])
						continue
					}
					t := i.vector()
					i.load(from, t, m)
					VADDPS(t, sums[v], sums[v])
				}
			})
			slope, scaled := x.broadcast(i, rowsSlope), i.vector()
			for v, to := range vectorsAt(i, row, at, vectors) {
				VMULPS(slope, sums[v], scaled)
				VMAXPS(sums[v], scaled, sums[v])
				i.store(sums[v], to, m)
			}
		})
	})
	VZEROUPPER()
	RET()
}

// scatter writes the backward pass of gather with respect to table: every row of
// data is added to the rows of table that its list names.
func scatter(i isa) {
	x := begin("scatter_"+i.name(), "adds rows to the listed rows of a table.")
	table, tableRow, index := x.field(rowsTable), x.field(rowsTableRow), x.field(rowsIndex)
	eachRow(x, func(row, from, to reg.GPVirtual) {
		columns(i, "scatter", x.field(rowsCols), x.field(rowsMasks), func(label string, at reg.GPVirtual, vectors int, m mask) {
			values := make([]reg.VecVirtual, vectors)
			for v, from := range vectorsAt(i, row, at, vectors) {
				values[v] = i.vector()
				i.load(from, values[v], m)
			}
			listed(label, index, from, to, table, tableRow, func(target reg.GPVirtual) {
				for v, to := range vectorsAt(i, target, at, vectors) {
					t := i.vector()
					i.load(to, t, m)
					VADDPS(values[v], t, t)
					i.store(t, to, m)
				}
			})
		})
	})
	VZEROUPPER()
	RET()
}

// sumRows writes the gradient of a bias: the rows of data are added to bias, in
// their order.
func sumRows(i isa) {
	x := begin("sumRows_"+i.name(), "adds all rows to one.")
	bias, dataRow := x.field(rowsBias), x.field(rowsDataRow)
	columns(i, "sum", x.field(rowsCols), x.field(rowsMasks), func(label string, at reg.GPVirtual, vectors int, m mask) {
		sums := make([]reg.VecVirtual, vectors)
		for v, from := range vectorsAt(i, bias, at, vectors) {
			sums[v] = i.vector()
			i.load(from, sums[v], m)
		}
		row, count := x.field(rowsData), x.field(rowsCount)
		Label(label)
		TESTQ(count, count)
		JZ(LabelRef(label + "_end"))
		for v, from := range vectorsAt(i, row, at, vectors) {
			t := i.vector()
			i.load(from, t, m)
			VADDPS(t, sums[v], sums[v])
		}
		ADDQ(dataRow, row)
		DECQ(count)
		JMP(LabelRef(label))
		Label(label + "_end")
		for v, to := range vectorsAt(i, bias, at, vectors) {
			i.store(sums[v], to, m)
		}
	})
	VZEROUPPER()
	RET()
}
