//go:build !amd64

package twinsha

const available = false

func twin(left *[8]uint32, l *byte, right *[8]uint32, r *byte, blocks int) { panic("not here") }
