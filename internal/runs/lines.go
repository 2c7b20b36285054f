package runs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// ErrOrder is returned when a line is appended whose version is not above that
// of the line before it.
var ErrOrder = errors.New("versions must rise from line to line")

// lines is an append-only file of JSON objects, one a line, with rising
// versions. Each append is one write, so that a crash can tear only the last
// line; opening the file cuts that line off.
type lines struct {
	file *os.File
	end  int64 // length of the file in bytes
	last int64 // version of the last line; -1 while there is none
}

// openLines opens the file, or creates it, and repairs its end.
func openLines(path string) (*lines, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	l := &lines{file: file, last: -1}
	if err := l.cut(math.MaxInt64); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return l, nil
}

// append writes v, which has that version, as the next line.
func (l *lines) append(version int64, v any) error {
	if version <= l.last {
		return fmt.Errorf("%s: %w: %d after %d", l.file.Name(), ErrOrder, version, l.last)
	}
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", l.file.Name(), err)
	}
	n, err := l.file.Write(append(line, '\n'))
	if err != nil {
		// A full disk can take half a line; the next one must not follow it.
		return errors.Join(err, l.file.Truncate(l.end))
	}
	l.end += int64(n)
	l.last = version
	return nil
}

// cut truncates the file behind the last whole line of the leading ones whose
// versions are at most keep.
func (l *lines) cut(keep int64) error {
	end, last, err := scan(io.NewSectionReader(l.file, 0, math.MaxInt64), keep, func([]byte) error { return nil })
	if err != nil {
		return err
	}
	if err := l.file.Truncate(end); err != nil {
		return err
	}
	l.end, l.last = end, last
	return nil
}

func (l *lines) sync() error  { return l.file.Sync() }
func (l *lines) close() error { return errors.Join(l.file.Sync(), l.file.Close()) }

// scan calls visit with each whole line up to version keep and returns where
// they end and the version of the last. What follows the last whole line is
// torn: it is passed over. A line that is not JSON but has others behind it
// was not torn by a crash, and is an error.
func scan(r io.Reader, keep int64, visit func(line []byte) error) (end, last int64, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	last = -1
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return end, last, nil // without its newline a line is torn
		}
		if err != nil {
			return 0, 0, err
		}
		var head struct {
			Version *int64 `json:"version"`
		}
		if err := json.Unmarshal(line, &head); err != nil || head.Version == nil {
			if _, err := in.Peek(1); errors.Is(err, io.EOF) {
				return end, last, nil // a crash can leave zeros where the data never came
			}
			return 0, 0, fmt.Errorf("line %d: %w: not an object with a version: %.60q", n, ErrCorrupt, bytes.TrimSpace(line))
		}
		if *head.Version > keep {
			return end, last, nil
		}
		if err := visit(line); err != nil {
			return 0, 0, fmt.Errorf("line %d: %w", n, err)
		}
		end += int64(len(line))
		last = *head.Version
	}
}

// readLines decodes every whole line of a file; none when there is no file.
func readLines[T any](path string) ([]T, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var out []T
	_, _, err = scan(file, math.MaxInt64, func(line []byte) error {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("%w: %v", ErrCorrupt, err)
		}
		out = append(out, v)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}
