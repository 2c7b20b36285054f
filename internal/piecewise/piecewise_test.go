package piecewise_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"github.com/driftmesh/driftmesh/internal/piecewise"
)

// most notes the longest call that reaches it, and fails after some bytes.
type most struct {
	longest, left int
	bytes.Buffer
}

var errFull = errors.New("full")

func (m *most) Write(b []byte) (int, error) {
	m.longest = max(m.longest, len(b))
	if m.left -= len(b); m.left < 0 {
		return 0, errFull
	}
	return m.Buffer.Write(b)
}

func TestPieces(t *testing.T) {
	for _, n := range []int{0, 1, piecewise.Size - 1, piecewise.Size, piecewise.Size + 1, 3*piecewise.Size + 7} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * i >> 3)
		}
		if piecewise.Sum256(b) != sha256.Sum256(b) {
			t.Errorf("another hash of %d bytes", n)
		}
		w := &most{left: n}
		if m, err := (piecewise.Writer{W: w}).Write(b); m != n || err != nil || !bytes.Equal(w.Bytes(), b) || w.longest > piecewise.Size {
			t.Errorf("%d bytes: wrote %d in pieces of up to %d, %v", n, m, w.longest, err)
		}
		out := make([]byte, n)
		r := piecewise.Reader{Scanner: bytes.NewReader(b)}
		if m, _ := r.Read(make([]byte, n)); m > piecewise.Size {
			t.Errorf("read %d bytes at once", m)
		}
		r = piecewise.Reader{Scanner: bytes.NewReader(b)}
		if _, err := io.ReadFull(r, out); err != nil || !bytes.Equal(out, b) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	w := &most{left: 2 * piecewise.Size}
	if n, err := piecewise.Write(w, make([]byte, 3*piecewise.Size)); n != 2*piecewise.Size || !errors.Is(err, errFull) {
		t.Errorf("a full writer took %d, %v", n, err)
	}
}
