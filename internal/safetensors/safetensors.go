// Package safetensors reads and writes the safetensors format: eight bytes of
// little-endian header length, a JSON header, and the tensors' data without
// gaps (https://huggingface.co/docs/safetensors, "Format"). It knows the
// element types that Driftmesh stores.
package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrFormat marks content that is not a well-formed safetensors file, or one
// with element types that this package does not know.
var ErrFormat = errors.New("not a valid safetensors file")

// DType is the type of a tensor's elements, little-endian.
type DType string

// The element types that can be stored.
const (
	F32 DType = "F32"
	F64 DType = "F64"
	I64 DType = "I64"
	U8  DType = "U8"
)

// Size returns the bytes of one element, 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case F32:
		return 4
	case F64, I64:
		return 8
	case U8:
		return 1
	}
	return 0
}

// Tensor is a named array in row-major order. An empty Shape is a scalar.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte // little-endian, DType.Size() × the product of Shape
}

// File is the content of one file. Tensors are in the order of their data.
type File struct {
	Tensors  []Tensor
	Metadata map[string]string // nil when there is none
}

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	for _, t := range f.Tensors {
		if t.Name == name {
			return t, true
		}
	}
	return Tensor{}, false
}

// FromFloat32 makes a tensor of float32 values; their number must be the
// product of shape, which is checked when the tensor is written.
func FromFloat32(name string, shape []int, values []float32) Tensor {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return Tensor{Name: name, DType: F32, Shape: slices.Clone(shape), Data: data}
}

// FromFloat64 makes a tensor of float64 values; shapes as in FromFloat32.
func FromFloat64(name string, shape []int, values []float64) Tensor {
	data := make([]byte, 0, 8*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
	}
	return Tensor{Name: name, DType: F64, Shape: slices.Clone(shape), Data: data}
}

// FromInt64 makes a tensor of int64 values; shapes as in FromFloat32.
func FromInt64(name string, shape []int, values []int64) Tensor {
	data := make([]byte, 0, 8*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint64(data, uint64(v))
	}
	return Tensor{Name: name, DType: I64, Shape: slices.Clone(shape), Data: data}
}

// FromBytes makes a one-dimensional tensor of bytes. It keeps the slice.
func FromBytes(name string, values []byte) Tensor {
	return Tensor{Name: name, DType: U8, Shape: []int{len(values)}, Data: values}
}

// Float32 returns the elements of an F32 tensor.
func (t Tensor) Float32() ([]float32, error) {
	if err := t.is(F32); err != nil {
		return nil, err
	}
	out := make([]float32, len(t.Data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
	}
	return out, nil
}

// Float64 returns the elements of an F64 tensor.
func (t Tensor) Float64() ([]float64, error) {
	if err := t.is(F64); err != nil {
		return nil, err
	}
	out := make([]float64, len(t.Data)/8)
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:]))
	}
	return out, nil
}

// Int64 returns the elements of an I64 tensor.
func (t Tensor) Int64() ([]int64, error) {
	if err := t.is(I64); err != nil {
		return nil, err
	}
	out := make([]int64, len(t.Data)/8)
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
	}
	return out, nil
}

// Bytes returns the elements of a U8 tensor, not copied.
func (t Tensor) Bytes() ([]byte, error) {
	if err := t.is(U8); err != nil {
		return nil, err
	}
	return t.Data, nil
}

func (t Tensor) is(want DType) error {
	if t.DType != want {
		return fmt.Errorf("tensor %q holds %s, not %s", t.Name, t.DType, want)
	}
	return nil
}

// check says whether type, shape and data agree.
func (t Tensor) check() error {
	size, err := byteSize(t.DType, t.Shape)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	if size != int64(len(t.Data)) {
		return fmt.Errorf("tensor %q: %w: %s of shape %v takes %d bytes, its data has %d", t.Name, ErrFormat, t.DType, t.Shape, size, len(t.Data))
	}
	return nil
}

// byteSize is the length of a tensor's data, with every product checked.
func byteSize(dtype DType, shape []int) (int64, error) {
	size := int64(dtype.Size())
	if size == 0 {
		return 0, fmt.Errorf("%w: element type %q is not one of F32, F64, I64, U8", ErrFormat, string(dtype))
	}
	empty := false
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("%w: negative dimension in shape %v", ErrFormat, shape)
		}
		if d == 0 {
			empty = true
			continue
		}
		if int64(d) > math.MaxInt64/size {
			return 0, fmt.Errorf("%w: shape %v is too large", ErrFormat, shape)
		}
		size *= int64(d)
	}
	if empty {
		return 0, nil
	}
	return size, nil
}
