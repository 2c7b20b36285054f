// Package datafile reads what a user brings along: tables of texts and numbers, as
// CSV (plain or gzipped) or Parquet, lists of lines, and data sets of objects. Files are read whole; how
// large they may be is checked before anything of that size is allocated, and every
// fault names the file, the line and the field.
package datafile

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	// MaxBytes is the largest file, packed and unpacked.
	MaxBytes = 256 << 20
	// MaxRows is the most rows of a table, or lines of a list.
	MaxRows = 4 << 20
	// maxText is the longest text of a row.
	maxText = 1 << 16
)

// Error is a fault of a file.
type Error struct {
	File  string
	Line  int    // from 1, the header being line 1 of a CSV, or row of a Parquet file; 0: of the whole
	Field string // column; "" for none
	Fault string
}

func (e *Error) Error() string {
	out := e.File
	if e.Line > 0 {
		out += fmt.Sprintf(":%d", e.Line)
	}
	if e.Field != "" {
		out += ": " + e.Field
	}
	return out + ": " + e.Fault
}

// File is a file that was read.
type File struct {
	Name   string
	Data   []byte
	SHA256 string // of Data, in hex
}

// Read reads a file of at most MaxBytes. Faults are *Error.
func Read(path string) (*File, error) {
	info, err := os.Stat(path) // first: opening a pipe waits for its writer
	switch {
	case err != nil:
		return nil, unread(path, err)
	case !info.Mode().IsRegular():
		return nil, &Error{File: path, Fault: "not a regular file"}
	case info.Size() > MaxBytes:
		return nil, &Error{File: path, Fault: fmt.Sprintf("%d bytes; at most %d are read", info.Size(), MaxBytes)}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unread(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, &Error{File: path, Fault: err.Error()}
	}
	return New(path, data), nil
}

// unread is an error of the file system, whose text names the file once.
func unread(path string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &Error{File: path, Fault: err.Error()}
}

// New is a file whose bytes are there already.
func New(name string, data []byte) *File {
	sum := sha256.Sum256(data)
	return &File{Name: name, Data: data, SHA256: hex.EncodeToString(sum[:])}
}

// Check compares the file with the hash that it should have, in hex; "" is any. The
// error says what is right.
func (f *File) Check(sum string) error {
	if sum != "" && !strings.EqualFold(sum, f.SHA256) {
		return fmt.Errorf("the SHA-256 of %s, which is %s", f.Name, f.SHA256)
	}
	return nil
}

// text is the content, unpacked if it is gzipped, without a byte order mark.
func (f *File) text() ([]byte, error) {
	data, err := f.unpacked()
	return bytes.TrimPrefix(data, []byte("\ufeff")), err
}

func (f *File) unpacked() ([]byte, error) {
	if !bytes.HasPrefix(f.Data, []byte{0x1f, 0x8b}) {
		return f.Data, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(f.Data))
	if err != nil {
		return nil, &Error{File: f.Name, Fault: "gzip: " + err.Error()}
	}
	data, err := io.ReadAll(io.LimitReader(z, MaxBytes+1))
	if err != nil {
		return nil, &Error{File: f.Name, Fault: "gzip: " + err.Error()}
	}
	if len(data) > MaxBytes {
		return nil, &Error{File: f.Name, Fault: fmt.Sprintf("over %d bytes when unpacked", MaxBytes)}
	}
	return data, nil
}

// Lines are the lines of a text, without blanks around them, empty ones left out.
func (f *File) Lines() ([]string, error) {
	rows, err := f.list()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, row := range rows {
		out = append(out, row.Text)
	}
	return out, nil
}

// list is Lines with their numbers.
func (f *File) list() ([]Row, error) {
	data, err := f.text()
	if err != nil {
		return nil, err
	}
	var out []Row
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		switch {
		case len(out) == MaxRows:
			return nil, &Error{File: f.Name, Fault: fmt.Sprintf("more than %d lines", MaxRows)}
		case len(line) > maxText:
			return nil, &Error{File: f.Name, Line: n, Fault: fmt.Sprintf("%d bytes; at most %d are read", len(line), maxText)}
		}
		out = append(out, Row{Text: line, Line: n})
	}
	return out, nil
}
