package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"
)

// Bytes 0, 1 and 2 of an encoded command are the format version, the feature
// level that introduced the command, and its kind; the msgpack body follows.
const (
	// FormatVersion is the layout of commands and snapshots that this build writes.
	FormatVersion = 1
	// FeatureLevel is the newest semantics that this build understands. Adding
	// a command, or a field to one, needs a new level.
	FeatureLevel = 1

	commandHeader = 3
)

// Caps of one command, checked before allocation.
const (
	// MaxCommand bounds an encoded command in bytes; the log itself refuses
	// entries above 64 MiB.
	MaxCommand = 48 << 20
	// maxList bounds the marks or objects of one command, and the elements of
	// every list inside a snapshot section.
	maxList = 1 << 16
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
	1: reflect.TypeFor[Init](),
	2: reflect.TypeFor[CreateJob](),
	3: reflect.TypeFor[Grant](),
	4: reflect.TypeFor[Commit](),
	5: reflect.TypeFor[OpenSession](),
	6: reflect.TypeFor[ExpireSession](),
	7: reflect.TypeFor[SetStatus](),
}

// Encode writes a command, given by value or by pointer. Equal commands have
// equal bytes. It fails with ErrUnknownCommand for another type and with
// ErrTooLarge above MaxCommand bytes.
func Encode(cmd any) ([]byte, error) {
	v := reflect.ValueOf(cmd)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	kind := 0
	for k, t := range kinds {
		if t != nil && v.IsValid() && v.Type() == t {
			kind = k
		}
	}
	if kind == 0 {
		return nil, fmt.Errorf("%w: %T is not a command", ErrUnknownCommand, cmd)
	}
	var buf bytes.Buffer
	if c, ok := v.Interface().(Commit); ok {
		buf.Grow(len(c.Params) + len(c.Private) + 64*len(c.Marks) + 1024)
	}
	buf.Write([]byte{FormatVersion, FeatureLevel, byte(kind)})
	if err := encodeBody(&buf, v.Interface()); err != nil {
		return nil, fmt.Errorf("encode %T: %w", cmd, err)
	}
	if buf.Len() > MaxCommand {
		return nil, fmt.Errorf("%w: %T of %d bytes; the cap is %d", ErrTooLarge, cmd, buf.Len(), MaxCommand)
	}
	return buf.Bytes(), nil
}

// Decode reads a command and returns it by value (an Init, a Commit, …); its
// blobs do not alias data. ErrUnknownCommand means a newer build wrote it,
// ErrMalformed that the bytes are no command, ErrTooLarge what it says.
func Decode(data []byte) (any, error) {
	if len(data) > MaxCommand {
		return nil, fmt.Errorf("%w: %d bytes; the cap is %d", ErrTooLarge, len(data), MaxCommand)
	}
	if len(data) < commandHeader || data[0] == 0 {
		return nil, fmt.Errorf("%w: no command header", ErrMalformed)
	}
	format, level, kind := data[0], data[1], int(data[2])
	switch {
	case format > FormatVersion:
		return nil, fmt.Errorf("%w: format %d; this build reads up to %d", ErrUnknownCommand, format, FormatVersion)
	case level > FeatureLevel:
		return nil, fmt.Errorf("%w: feature level %d; this build has %d", ErrUnknownCommand, level, FeatureLevel)
	case kind >= len(kinds) || kinds[kind] == nil:
		return nil, fmt.Errorf("%w: kind %d", ErrUnknownCommand, kind)
	}
	v := reflect.New(kinds[kind])
	if err := decodeBody(data[commandHeader:], v.Interface()); err != nil {
		return nil, fmt.Errorf("%s: %w", kinds[kind].Name(), err)
	}
	return v.Elem().Interface(), nil
}

// encodeBody writes the one msgpack form that both commands and snapshot
// sections use: structs as maps in field order, integers in their shortest form.
func encodeBody(buf *bytes.Buffer, v any) error {
	enc := msgpack.NewEncoder(buf)
	enc.UseCompactInts(true)
	return enc.Encode(v)
}

// decodeBody reads what encodeBody wrote. checkShape goes first because the
// msgpack decoder allocates whole slices by their declared length.
func decodeBody(body []byte, into any) error {
	if err := checkShape(body); err != nil {
		return err
	}
	dec := msgpack.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields(true)
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return nil
}
