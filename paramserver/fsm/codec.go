package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"

	"github.com/driftmesh/driftmesh/internal/piecewise"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/internal/shape"
)

// Bytes 0, 1 and 2 of an encoded command are the format version, the feature
// level that the command needs, and its kind; the msgpack body follows.
const (
	// FormatVersion is the layout of commands that this build writes.
	FormatVersion = 1

	commandHeader = 3
)

// Caps of one command, checked before allocation.
const (
	// MaxEntry bounds one log entry in bytes, since level 2: a larger command
	// goes in Chunks, see Split. Large entries keep heartbeats waiting.
	MaxEntry = 4 << 20
	// MaxWhole bounds a command in one log entry, as level 1 writes them; the
	// log itself refuses entries above 64 MiB.
	MaxWhole = 48 << 20
	// MaxState bounds Params and Private of a job together, bytes.
	MaxState = 256 << 20
	// MaxCommand bounds an encoded command in bytes, however it travels: a
	// Commit of MaxState with its marks, best objects and segments.
	MaxCommand = MaxState + 32<<20
	// maxList bounds the marks or objects of one command, and the elements of
	// every list inside a snapshot section.
	maxList = shape.MaxList
)

var (
	// ErrUnknownCommand says that a log entry was written by a newer build.
	// The replica must stop: skipping it would make it differ from the others.
	ErrUnknownCommand = errors.New("unknown command in the log")
	// ErrMalformed says that bytes are not a command or snapshot section.
	ErrMalformed = errors.New("malformed encoding")
	// ErrTooLarge says that a command exceeds MaxCommand.
	ErrTooLarge = errors.New("command too large")
)

// kinds numbers the commands; a number is never used again.
var kinds = [...]reflect.Type{
	1:  reflect.TypeFor[Init](),
	2:  reflect.TypeFor[CreateJob](),
	3:  reflect.TypeFor[Grant](),
	4:  reflect.TypeFor[Commit](),
	5:  reflect.TypeFor[OpenSession](),
	6:  reflect.TypeFor[ExpireSession](),
	7:  reflect.TypeFor[SetStatus](),
	8:  reflect.TypeFor[Chunk](),
	9:  reflect.TypeFor[SetShare](),
	10: reflect.TypeFor[Compact](),
	11: reflect.TypeFor[Note](),
	12: reflect.TypeFor[Activate](),
}

// kindOf returns the number of a command and the command by value; 0 if it is none.
func kindOf(cmd any) (int, any) {
	v := reflect.ValueOf(cmd)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	for k, t := range kinds {
		if t != nil && v.IsValid() && v.Type() == t {
			return k, v.Interface()
		}
	}
	return 0, nil
}

// Encode writes a command, given by value or by pointer, at the lowest level
// that has all of it. Equal commands have equal bytes. It fails with
// ErrUnknownCommand for another type or a level above Supported, and with
// ErrTooLarge above MaxCommand bytes.
func Encode(cmd any) ([]byte, error) {
	kind, v := kindOf(cmd)
	if kind == 0 {
		return nil, fmt.Errorf("%w: %T is not a command", ErrUnknownCommand, cmd)
	}
	level := Level(v)
	if level > Supported() {
		return nil, fmt.Errorf("%w: %T needs feature level %d; this build has %d", ErrUnknownCommand, cmd, level, Supported())
	}
	size := 0
	switch c := v.(type) {
	case Commit:
		size = len(c.Params) + len(c.Private) + 64*len(c.Marks) + 1024
	case Chunk:
		size = len(c.Data) + chunkOverhead
	}
	buf := bytes.NewBuffer(make([]byte, 0, size)) // Grow would write zeros first
	buf.Write([]byte{FormatVersion, level, byte(kind)})
	if err := encodeBody(buf, v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", cmd, err)
	}
	if buf.Len() > MaxCommand {
		return nil, fmt.Errorf("%w: %T of %d bytes; the cap is %d", ErrTooLarge, cmd, buf.Len(), MaxCommand)
	}
	return buf.Bytes(), nil
}

// Decode reads a command and returns it by value (an Init, a Commit, …). Its large
// blobs are parts of data, which must not be written to any more. ErrUnknownCommand means a newer build wrote it,
// ErrMalformed that the bytes are no command, ErrTooLarge what it says.
func Decode(data []byte) (any, error) {
	if len(data) > MaxCommand {
		return nil, fmt.Errorf("%w: %d bytes; the cap is %d", ErrTooLarge, len(data), MaxCommand)
	}
	if err := checkHeader(data); err != nil {
		return nil, err
	}
	level, kind := data[1], int(data[2])
	v := reflect.New(kinds[kind])
	if err := decodeCommand(data[commandHeader:], v.Interface()); err != nil {
		return nil, fmt.Errorf("%s: %w", kinds[kind].Name(), err)
	}
	cmd := v.Elem().Interface()
	// A build of a lower level would refuse what its level does not have; so
	// must every other, or replicas would judge the entry differently.
	if needs := Level(cmd); needs > level {
		return nil, fmt.Errorf("%w: a %s of feature level %d is marked %d", ErrMalformed, kinds[kind].Name(), needs, level)
	}
	return cmd, nil
}

// Carries says whether an encoded command is one of cmd's type, by its header:
// the cheap look at what came from elsewhere.
func Carries(encoded []byte, cmd any) bool {
	kind, _ := kindOf(cmd)
	return kind != 0 && checkHeader(encoded) == nil && int(encoded[2]) == kind
}

// checkHeader fails with ErrUnknownCommand for what a newer build wrote and
// with ErrMalformed for what is no command.
func checkHeader(data []byte) error {
	if len(data) < commandHeader || data[0] == 0 {
		return fmt.Errorf("%w: no command header", ErrMalformed)
	}
	format, level, kind := data[0], data[1], int(data[2])
	switch {
	case format > FormatVersion:
		return fmt.Errorf("%w: format %d; this build reads up to %d", ErrUnknownCommand, format, FormatVersion)
	case level > Supported():
		return fmt.Errorf("%w: feature level %d; this build has %d", ErrUnknownCommand, level, Supported())
	case kind >= len(kinds) || kinds[kind] == nil:
		return fmt.Errorf("%w: kind %d", ErrUnknownCommand, kind)
	}
	return nil
}

// encodeBody writes the one msgpack form that both commands and snapshot
// sections use: structs as maps in field order, integers in their shortest form.
func encodeBody(buf *bytes.Buffer, v any) error {
	enc := msgpack.NewEncoder(piecewise.Writer{W: buf})
	enc.UseCompactInts(true)
	return enc.Encode(v)
}

// decodeCommand is decodeBody that copies no large blob.
func decodeCommand(body []byte, into any) error {
	if err := checkShape(body); err != nil {
		return err
	}
	var blobs []*[]byte
	keys := ""
	switch c := into.(type) {
	case *Commit:
		keys, blobs = "ps", []*[]byte{&c.Params, &c.Private}
	case *Chunk:
		keys, blobs = "d", []*[]byte{&c.Data}
	}
	rest, lifted, ok := lift(body, keys)
	if !ok {
		return decodeShaped(body, into)
	}
	if err := decodeShaped(rest, into); err != nil {
		return err
	}
	for i, b := range blobs {
		if lifted[i] != nil {
			*b = lifted[i]
		}
	}
	return nil
}

// decodeBody reads what encodeBody wrote. checkShape goes first because the
// msgpack decoder allocates whole slices by their declared length.
func decodeBody(body []byte, into any) error {
	if err := checkShape(body); err != nil {
		return err
	}
	return decodeShaped(body, into)
}

// decodeShaped decodes what checkShape accepted.
func decodeShaped(body []byte, into any) error {
	dec := msgpack.NewDecoder(piecewise.Reader{Scanner: bytes.NewReader(body)})
	dec.DisallowUnknownFields(true)
	dec.DisableAllocLimit(true) // every length lies within body; growing in steps would copy large blobs many times
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return nil
}
