package replay

import "unsafe"

// What things take on the heap of a 64-bit machine, in bytes. Arrays count with
// their whole capacity, whether it is used or not.
const (
	itemBytes = int64(unsafe.Sizeof(Item{}))
	// setBytes is a share of a Go map from a string to an int32: 25 bytes in a
	// table that may be 7/16 full just after it has doubled.
	setBytes  = 64
	nodeBytes = 8
)

// heapBytes is what the allocator hands out for n bytes: size classes are at
// most an eighth apart, and at least 8 bytes.
func heapBytes(n int) int64 {
	if n <= 0 {
		return 0
	}
	if n <= 128 {
		return int64(n+15) &^ 15
	}
	return int64(n + n/8 + 16)
}

// names holds every worker's name once, however many items are from it.
type names struct {
	known map[string]*name
	bytes int64
}

type name struct {
	text string
	uses int
}

// nameBytes is what a name takes beside its text.
const nameBytes = 128

func (n *names) take(text string) string {
	if text == "" {
		return ""
	}
	if n.known == nil {
		n.known = map[string]*name{}
	}
	have := n.known[text]
	if have == nil {
		have = &name{text: string([]byte(text))}
		n.known[have.text] = have
		n.bytes += heapBytes(len(text)) + nameBytes
	}
	have.uses++
	return have.text
}

// price is what take would add to bytes.
func (n *names) price(text string) int64 {
	if text == "" || n.known[text] != nil {
		return 0
	}
	return heapBytes(len(text)) + nameBytes
}

func (n *names) drop(text string) {
	have := n.known[text]
	if have == nil {
		return
	}
	if have.uses--; have.uses == 0 {
		delete(n.known, text)
		n.bytes -= heapBytes(len(text)) + nameBytes
	}
}

// larger lists the capacities that an array of full capacity n may have next,
// largest first: the last is as little as is worth the copying.
func larger(n int) []int {
	if n < 16 {
		return []int{16, n + 1}
	}
	return []int{2 * n, n + n/2, n + n/4, n + n/8}
}
