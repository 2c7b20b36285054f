package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
)

// metadataKey is the one header key that is not a tensor.
const metadataKey = "__metadata__"

// info is a tensor's entry in the header.
type info struct {
	DType   DType   `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"` // begin and end, from the end of the header
}

// Write writes f to w. Equal files give equal bytes: tensors keep their order,
// metadata is sorted by key.
func Write(w io.Writer, f File) error {
	header, err := f.header()
	if err != nil {
		return err
	}
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(header)))
	if _, err := w.Write(length[:]); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range f.Tensors {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile replaces the file at path by f, as a whole or not at all.
func WriteFile(path string, f File) error {
	return atomicfile.Write(path, 0o644, func(w io.Writer) error { return Write(w, f) })
}

// header returns the JSON header, written by hand because the order of a Go
// map cannot follow that of the tensors. It is padded with spaces so that the
// data begins at a multiple of eight bytes.
func (f *File) header() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	entry := func(key string, value any) error {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		for i, part := range []any{key, value} {
			if i == 1 {
				b.WriteByte(':')
			}
			text, err := json.Marshal(part)
			if err != nil {
				return err
			}
			b.Write(text)
		}
		return nil
	}
	if len(f.Metadata) > 0 {
		if err := entry(metadataKey, f.Metadata); err != nil { // maps are marshalled sorted
			return nil, err
		}
	}
	seen := map[string]bool{metadataKey: true}
	offset := int64(0)
	for _, t := range f.Tensors {
		if seen[t.Name] {
			return nil, fmt.Errorf("tensor %q: the name is taken", t.Name)
		}
		seen[t.Name] = true
		if err := t.check(); err != nil {
			return nil, err
		}
		end := offset + int64(len(t.Data))
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		if err := entry(t.Name, info{DType: t.DType, Shape: shape, Offsets: []int64{offset, end}}); err != nil {
			return nil, err
		}
		offset = end
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > MaxHeader {
		return nil, fmt.Errorf("header of %d bytes; at most %d can be read back", b.Len(), MaxHeader)
	}
	return b.Bytes(), nil
}
