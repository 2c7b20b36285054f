package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"unicode/utf8"
)

// Limits of what is read, checked before anything of that size is allocated.
const (
	MaxHeader  = 16 << 20 // bytes of JSON
	MaxTensors = 1 << 16
	MaxRank    = 16
)

// Decode reads a whole file from memory. The tensors' data are slices of b.
func Decode(b []byte) (File, error) {
	if len(b) < 8 {
		return File{}, fmt.Errorf("%w: %d bytes are too few for a header length", ErrFormat, len(b))
	}
	n, err := headerLength(b[:8], int64(len(b)))
	if err != nil {
		return File{}, err
	}
	f, offsets, err := decodeHeader(b[8:8+n], int64(len(b))-8-n)
	if err != nil {
		return File{}, err
	}
	f.slice(b[8+n:], offsets)
	return f, nil
}

// ReadFile reads the file at path. The header is checked against the file's
// size before the data is read.
func ReadFile(path string) (File, error) {
	file, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return File{}, err
	}
	f, err := Read(file, stat.Size())
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Read reads a file of exactly size bytes from r.
func Read(r io.Reader, size int64) (File, error) {
	var length [8]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return File{}, short(err, "the header length")
	}
	n, err := headerLength(length[:], size)
	if err != nil {
		return File{}, err
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return File{}, short(err, "the header")
	}
	f, offsets, err := decodeHeader(header, size-8-n)
	if err != nil {
		return File{}, err
	}
	data := make([]byte, size-8-n)
	if _, err := io.ReadFull(r, data); err != nil {
		return File{}, short(err, "the data")
	}
	f.slice(data, offsets)
	return f, nil
}

func short(err error, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends within %s", ErrFormat, what)
	}
	return err
}

func headerLength(b []byte, size int64) (int64, error) {
	n := binary.LittleEndian.Uint64(b)
	if n > MaxHeader {
		return 0, fmt.Errorf("%w: header of %d bytes; at most %d are read", ErrFormat, n, MaxHeader)
	}
	if int64(n) > size-8 {
		return 0, fmt.Errorf("%w: header of %d bytes in a file of %d", ErrFormat, n, size)
	}
	return int64(n), nil
}

// decodeHeader checks the header against the length of the data and returns
// the tensors in the order of their data, still without it, and their offsets.
func decodeHeader(header []byte, dataLen int64) (File, [][2]int64, error) {
	var f File
	type placed struct {
		Tensor
		at [2]int64
	}
	var tensors []placed
	seen := map[string]bool{}
	err := eachEntry(header, func(key string, value json.RawMessage) error {
		if seen[key] {
			return fmt.Errorf("%w: the header has %q twice", ErrFormat, key)
		}
		seen[key] = true
		if key == metadataKey {
			if err := json.Unmarshal(value, &f.Metadata); err != nil {
				return fmt.Errorf("%w: metadata: %v", ErrFormat, err)
			}
			return nil
		}
		if len(tensors) == MaxTensors {
			return fmt.Errorf("%w: more than %d tensors", ErrFormat, MaxTensors)
		}
		in, err := decodeInfo(value, dataLen)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", key, err)
		}
		tensors = append(tensors, placed{Tensor{Name: key, DType: in.DType, Shape: in.Shape}, [2]int64(in.Offsets)})
		return nil
	})
	if err != nil {
		return File{}, nil, err
	}
	slices.SortStableFunc(tensors, func(a, b placed) int {
		for i := range a.at {
			if a.at[i] != b.at[i] {
				return int(min(1, max(-1, a.at[i]-b.at[i])))
			}
		}
		return 0
	})
	// Without gaps and overlaps every byte belongs to exactly one tensor, so
	// nothing can hide in the file.
	var offsets [][2]int64
	end := int64(0)
	for _, t := range tensors {
		if t.at[0] != end {
			return File{}, nil, fmt.Errorf("tensor %q: %w: its data begins at %d; the data before it ends at %d", t.Name, ErrFormat, t.at[0], end)
		}
		end = t.at[1]
		f.Tensors = append(f.Tensors, t.Tensor)
		offsets = append(offsets, t.at)
	}
	if end != dataLen {
		return File{}, nil, fmt.Errorf("%w: the tensors take %d bytes, the file has %d", ErrFormat, end, dataLen)
	}
	return f, offsets, nil
}

// eachEntry walks the header's keys in order. encoding/json would keep the
// last of two equal keys in silence; here the caller sees both.
func eachEntry(header []byte, visit func(key string, value json.RawMessage) error) error {
	if !utf8.Valid(header) {
		return fmt.Errorf("%w: the header is not UTF-8", ErrFormat)
	}
	if len(header) == 0 || header[0] != '{' {
		return fmt.Errorf("%w: the header does not begin with {", ErrFormat)
	}
	dec := json.NewDecoder(bytes.NewReader(header))
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("%w: header: %v", ErrFormat, err)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return fmt.Errorf("%w: header: %v", ErrFormat, err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("%w: header: %v", ErrFormat, err)
		}
		if err := visit(key.(string), value); err != nil { // the keys of a JSON object are strings
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("%w: header: %v", ErrFormat, err)
	}
	if rest := bytes.Trim(header[dec.InputOffset():], " "); len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes after the header's end", ErrFormat, len(rest))
	}
	return nil
}

func decodeInfo(value json.RawMessage, dataLen int64) (info, error) {
	var in info
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return info{}, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if len(in.Offsets) != 2 || in.Shape == nil {
		return info{}, fmt.Errorf("%w: want dtype, shape and data_offsets [begin, end]", ErrFormat)
	}
	if len(in.Shape) > MaxRank {
		return info{}, fmt.Errorf("%w: %d dimensions; at most %d are read", ErrFormat, len(in.Shape), MaxRank)
	}
	size, err := byteSize(in.DType, in.Shape)
	if err != nil {
		return info{}, err
	}
	begin, end := in.Offsets[0], in.Offsets[1]
	if begin < 0 || end < begin || end > dataLen {
		return info{}, fmt.Errorf("%w: data_offsets [%d, %d] in %d bytes of data", ErrFormat, begin, end, dataLen)
	}
	if end-begin != size {
		return info{}, fmt.Errorf("%w: %s of shape %v takes %d bytes, data_offsets give it %d", ErrFormat, in.DType, in.Shape, size, end-begin)
	}
	return in, nil
}

// slice gives every tensor its part of the data.
func (f *File) slice(data []byte, offsets [][2]int64) {
	for i := range f.Tensors {
		begin, end := offsets[i][0], offsets[i][1]
		f.Tensors[i].Data = data[begin:end:end]
	}
}
