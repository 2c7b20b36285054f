package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// CodecName is the gRPC content-subtype of mesh messages.
const CodecName = "msgpack"

// gRPC finds codecs by content-subtype in a table that may be written during
// initialisation only.
func init() { encoding.RegisterCodecV2(Codec{}) }

// Codec is the gRPC codec of mesh messages: Marshal and Unmarshal of this
// package, with their caps and errors.
type Codec struct{}

// Name implements encoding.CodecV2.
func (Codec) Name() string { return CodecName }

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := Marshal(v)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if n := data.Len(); n > MaxFrame {
		return fmt.Errorf("%w: %d bytes, the cap is %d", ErrTooLarge, n, MaxFrame)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return Unmarshal(buf.ReadOnlyData(), v)
}
