// Package archive keeps the terminal objects that a job was trained on, in
// Parquet segments on gocloud.dev/blob. A segment is written once, held by as
// many nodes as the job asks for, and read only once a Commit lists it.
package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	pqformat "github.com/parquet-go/parquet-go/format"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// Row is one archived object. The names of its columns are a promise to whoever
// reads segments or exports with other tools: columns are added, never renamed.
type Row struct {
	Object    string  `parquet:"object"`                      // text form
	LogReward float64 `parquet:"log_reward"`                  // log R(x), finite
	Version   int64   `parquet:"version"`                     // of the parameters that it was sampled with
	Time      int64   `parquet:"time,timestamp(microsecond)"` // when it was trained on, Unix microseconds by the learner's clock
	Worker    string  `parquet:"worker,dict"`                 // UUID of the node that sampled it
	Session   string  `parquet:"session,dict"`                // its stream
	Seq       int64   `parquet:"seq,delta"`                   // position in that stream, from 1
}

// Caps of one segment. Their product with the largest manifest is some billions
// of rows.
const (
	MaxRows  = 1 << 20
	MaxBytes = wire.MaxSegment
	// MaxText bounds the text of an object, in bytes.
	MaxText = 1 << 20
)

// ErrSegment means that bytes are not the segment that they should be.
var ErrSegment = errors.New("damaged archive segment")

// The metadata of a file.
const (
	formatKey = "driftmesh.archive"
	format    = "1"
)

// NewWriter returns a Parquet writer of rows in the form of a segment.
func NewWriter(w io.Writer) *parquet.GenericWriter[Row] {
	return parquet.NewGenericWriter[Row](w,
		parquet.Compression(&parquet.Zstd),
		parquet.KeyValueMetadata(formatKey, format),
		parquet.CreatedBy("driftmesh", "", ""), // equal rows give equal bytes in every build
		parquet.PageBufferSize(64<<10),
		parquet.MaxRowsPerRowGroup(1<<17),
	)
}

// Encode returns a segment of rows. Equal rows give equal bytes.
func Encode(rows []Row) ([]byte, error) {
	if len(rows) > MaxRows {
		return nil, fmt.Errorf("archive segment of %d rows; the cap is %d", len(rows), MaxRows)
	}
	var buf bytes.Buffer
	w := NewWriter(&buf) // one that is reset writes other bytes
	_, err := w.Write(rows)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("archive segment: %w", err)
	}
	if buf.Len() > MaxBytes {
		return nil, fmt.Errorf("archive segment of %d bytes; the cap is %d", buf.Len(), MaxBytes)
	}
	return buf.Bytes(), nil
}

// Decode calls f with every row of a segment of so many rows, in order. A row is
// f's own. Bytes that are no such segment are ErrSegment, whatever they are, and
// no more is allocated than the caps allow.
func Decode(data []byte, rows int64, f func(*Row) error) (err error) {
	defer func() { // the library trusts a file's inner lengths here and there
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrSegment, p)
		}
	}()
	if int64(len(data)) > MaxBytes || rows > MaxRows {
		return fmt.Errorf("%w: %d bytes and %d rows; the caps are %d and %d", ErrSegment, len(data), rows, MaxBytes, MaxRows)
	}
	// The footer says how long it is, and the library allocates that before a look.
	const frame = 8 // a length and the magic number, at the end; the number alone at the beginning
	if n := len(data); n < frame+frame/2 || int64(binary.LittleEndian.Uint32(data[n-frame:])) > int64(n-frame-frame/2) {
		return fmt.Errorf("%w: %d bytes have no footer", ErrSegment, n)
	}
	file, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSegment, err)
	}
	if file.NumRows() != rows {
		return fmt.Errorf("%w: %d rows; want %d", ErrSegment, file.NumRows(), rows)
	}
	if err := checkPages(file, data); err != nil {
		return err
	}
	if got, want := file.Schema().String(), schema.String(); got != want {
		return fmt.Errorf("%w: its columns are %s", ErrSegment, got)
	}
	r := parquet.NewGenericReader[Row](file)
	defer r.Close()
	batch := make([]parquet.Row, min(rows, 1024))
	read := int64(0)
	for read < rows {
		n, err := r.ReadRows(batch)
		for i, values := range batch[:n] {
			row, err := rowOf(values)
			if err != nil {
				return fmt.Errorf("%w: row %d: %w", ErrSegment, read+int64(i), err)
			}
			if err := f(&row); err != nil {
				return err
			}
		}
		read += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: after %d rows: %w", ErrSegment, read, err)
		}
		if n == 0 {
			return fmt.Errorf("%w: no progress after %d of %d rows", ErrSegment, read, rows)
		}
	}
	if read != rows {
		return fmt.Errorf("%w: it ends after %d of %d rows", ErrSegment, read, rows)
	}
	return nil
}

// schema is that of a segment; kinds are its columns', in the order of Row.
var (
	schema = parquet.SchemaOf(Row{})
	kinds  = []parquet.Kind{parquet.ByteArray, parquet.Double, parquet.Int64, parquet.Int64, parquet.ByteArray, parquet.ByteArray, parquet.Int64}
)

// rowOf returns the row of values that are one of each column. The library's own
// way from values to a struct believes each value to be of its column's kind, and
// takes numbers for addresses where a damaged page left some of another kind.
func rowOf(values parquet.Row) (Row, error) {
	if len(values) != len(kinds) {
		return Row{}, fmt.Errorf("%d values; want %d", len(values), len(kinds))
	}
	for i, v := range values {
		if v.Column() != i || v.Kind() != kinds[i] {
			return Row{}, fmt.Errorf("value %d is of column %d and kind %v; want %v", i, v.Column(), v.Kind(), kinds[i])
		}
	}
	row := Row{
		Object: string(values[0].ByteArray()), LogReward: values[1].Double(), Version: values[2].Int64(), Time: values[3].Int64(),
		Worker: string(values[4].ByteArray()), Session: string(values[5].ByteArray()), Seq: values[6].Int64(),
	}
	return row, row.check()
}

// checkPages bounds what the pages of a file claim to hold once unpacked, by what
// the columns say and by what each page says itself: the library allocates that
// much before it unpacks one.
func checkPages(file *parquet.File, data []byte) error {
	total, paged := int64(0), int64(0)
	for _, g := range file.Metadata().RowGroups {
		for _, c := range g.Columns {
			m := &c.MetaData
			if m.TotalUncompressedSize < 0 || m.NumValues < 0 || m.NumValues > MaxRows {
				return fmt.Errorf("%w: a column of %d values in %d bytes", ErrSegment, m.NumValues, m.TotalUncompressedSize)
			}
			if total += m.TotalUncompressedSize; total > 8*MaxBytes {
				return fmt.Errorf("%w: columns of over %d bytes", ErrSegment, 8*MaxBytes)
			}
			from := m.DataPageOffset
			if m.DictionaryPageOffset > 0 {
				from = min(from, m.DictionaryPageOffset)
			}
			to := from + m.TotalCompressedSize
			if from < 0 || to < from || to > int64(len(data)) {
				return fmt.Errorf("%w: a column from byte %d to %d of %d", ErrSegment, from, to, len(data))
			}
			if err := checkColumn(data[from:to], &paged); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxWindow is the largest window of a compressed page, as zstd's levels use it.
const maxWindow = 8 << 20

// checkColumn walks the headers of a column's pages and adds up what they claim.
func checkColumn(pages []byte, total *int64) error {
	for len(pages) > 0 {
		r := bytes.NewReader(pages)
		var h pqformat.PageHeader
		if err := thrift.NewDecoder(new(thrift.CompactProtocol).NewReader(r)).Decode(&h); err != nil {
			return fmt.Errorf("%w: page header: %w", ErrSegment, err)
		}
		if h.CompressedPageSize < 0 || h.UncompressedPageSize < 0 || int64(h.CompressedPageSize) > int64(r.Len()) {
			return fmt.Errorf("%w: a page of %d bytes, %d unpacked, where %d are left", ErrSegment, h.CompressedPageSize, h.UncompressedPageSize, r.Len())
		}
		if *total += int64(h.UncompressedPageSize); *total > 8*MaxBytes {
			return fmt.Errorf("%w: pages of over %d bytes", ErrSegment, 8*MaxBytes)
		}
		page := pages[len(pages)-r.Len():][:h.CompressedPageSize]
		if h.DataPageHeaderV2.Valid {
			v2 := &h.DataPageHeaderV2.V
			levels := int64(v2.RepetitionLevelsByteLength) + int64(v2.DefinitionLevelsByteLength)
			if v2.RepetitionLevelsByteLength < 0 || v2.DefinitionLevelsByteLength < 0 || levels > int64(len(page)) {
				return fmt.Errorf("%w: levels of %d bytes in a page of %d", ErrSegment, levels, len(page))
			}
			page = page[levels:]
		}
		// The frame has a claim of its own, by which its decoder allocates.
		var frame zstd.Header
		if err := frame.Decode(page); err == nil && (frame.FrameContentSize > uint64(h.UncompressedPageSize) || frame.WindowSize > maxWindow) {
			return fmt.Errorf("%w: a frame of %d bytes with a window of %d in a page of %d", ErrSegment, frame.FrameContentSize, frame.WindowSize, h.UncompressedPageSize)
		}
		pages = pages[len(pages)-r.Len()+int(h.CompressedPageSize):]
	}
	return nil
}

func (r *Row) check() error {
	switch {
	case r.Object == "" || len(r.Object) > MaxText:
		return fmt.Errorf("an object's text of %d bytes", len(r.Object))
	case r.Seq < 1 || r.Session == "":
		return fmt.Errorf("trajectory %d of session %q", r.Seq, r.Session)
	case math.IsNaN(r.LogReward) || math.IsInf(r.LogReward, 0):
		return fmt.Errorf("log-reward %v", r.LogReward)
	}
	return nil
}
