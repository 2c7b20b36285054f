package twinsha

// twin hashes as many blocks of 64 bytes, at least one, of two messages.
//
//go:noescape
func twin(left *[8]uint32, l *byte, right *[8]uint32, r *byte, blocks int)

func cpuid(leaf uint32) (ax, bx, cx uint32)

// available says whether the processor has what twin needs.
var available = func() bool {
	leaves, _, _ := cpuid(0)
	if leaves < 7 {
		return false
	}
	_, _, features := cpuid(1)
	_, more, _ := cpuid(7)
	const ssse3, sse41, sha = 1 << 9, 1 << 19, 1 << 29
	return features&ssse3 != 0 && features&sse41 != 0 && more&sha != 0
}()
