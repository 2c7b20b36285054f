// Package piecewise hashes and copies large byte strings in pieces. A goroutine
// cannot be stopped inside one copy or one block of a hash; while the garbage
// collector waits for one that takes a tenth of a second, the whole process
// stands still, and raft takes its node for dead.
package piecewise

import (
	"crypto/sha256"
	"io"
)

// Size is the most bytes of a piece: a millisecond's work.
const Size = 1 << 20

// Sum256 is sha256.Sum256.
func Sum256(b []byte) (sum [sha256.Size]byte) {
	if len(b) <= Size {
		return sha256.Sum256(b)
	}
	h := sha256.New()
	Write(h, b) // a hash never fails
	h.Sum(sum[:0])
	return sum
}

// Write is w.Write.
func Write(w io.Writer, b []byte) (n int, err error) {
	for {
		piece := b[:min(len(b), Size)]
		m, err := w.Write(piece)
		n += m
		if err != nil {
			return n, err
		}
		if b = b[len(piece):]; len(b) == 0 {
			return n, nil
		}
	}
}

// Writer writes in pieces to another one.
type Writer struct{ W io.Writer }

// Write implements io.Writer.
func (w Writer) Write(b []byte) (int, error) { return Write(w.W, b) }

// Scanner is what a decoder reads from a byte string; bytes.Reader is one.
type Scanner interface {
	io.Reader
	io.ByteScanner
}

// Reader reads in pieces from another one.
type Reader struct{ Scanner }

// Read implements io.Reader: at most Size bytes at a time.
func (r Reader) Read(b []byte) (int, error) { return r.Scanner.Read(b[:min(len(b), Size)]) }
