package kernels

// SumRows adds the rows of src to sum: the gradient of a bias.
func SumRows(sum []float32, src Matrix) {
	src.check()
	sum = sum[:src.Cols]
	if level != Go {
		sumRows(sum, src)
		return
	}
	for i := range src.Rows {
		Axpy(1, src.Row(i), sum)
	}
}

// GatherLayer is the first layer of sparse binary features in CSR form: row i of
// dst is act(bias + the rows of table that index names between offset[i] and
// offset[i+1]), the product of a binary matrix with table without the
// multiplications.
func GatherLayer(dst, table Matrix, bias []float32, offset, index []int32, act Activation) {
	checkLists(dst, table, offset, index)
	bias = bias[:dst.Cols]
	if level != Go {
		gather(dst, table, bias, offset, index, act.slope())
	} else {
		for i := range dst.Rows {
			out := dst.Row(i)
			copy(out, bias)
			for _, f := range index[offset[i]:offset[i+1]] {
				Axpy(1, table.Row(int(f)), out)
			}
			if act == ReLU || act == LeakyReLU {
				activate(out, act.slope())
			}
		}
	}
	if act == Tanh {
		tanh(dst)
	}
}

// ScatterAdd adds row i of src to those rows of table that index names between
// offset[i] and offset[i+1]: the backward pass of GatherLayer with respect to
// table, in the order of the rows.
func ScatterAdd(table, src Matrix, offset, index []int32) {
	checkLists(src, table, offset, index)
	if level != Go {
		scatter(table, src, offset, index)
		return
	}
	for i := range src.Rows {
		row := src.Row(i)
		for _, f := range index[offset[i]:offset[i+1]] {
			Axpy(1, row, table.Row(int(f)))
		}
	}
}

// checkLists panics unless every list is within index and names rows of table.
func checkLists(data, table Matrix, offset, index []int32) {
	data.check()
	table.check()
	if data.Cols != table.Cols {
		panic("kernels: rows are not as long as those of the table")
	}
	lists := offset[:data.Rows+1]
	for i := 1; i < len(lists); i++ {
		if lists[i] < lists[i-1] {
			panic("kernels: a list that ends before it begins")
		}
	}
	for _, f := range index[lists[0]:lists[len(lists)-1]] {
		if uint(f) >= uint(table.Rows) {
			panic("kernels: a list names a row that the table lacks")
		}
	}
}
