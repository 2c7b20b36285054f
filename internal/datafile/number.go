package datafile

import (
	"fmt"
	"math"
	"math/big"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// Bounds of decimal numbers: the most digits that a column may have after the point,
// and the longest number in bytes (the format's 38 digits need 16).
const (
	maxScale   = 38
	maxDecimal = 32
)

// numbers reads the values of a column, or says what is in it instead. A column's
// stored integers are its numbers only if its logical type does not say otherwise:
// a decimal 0.70 is stored as 70.
func numbers(t parquet.Type) (func(parquet.Value) float64, string) {
	logical := t.LogicalType()
	if logical == nil {
		return plain, ""
	}
	switch l := logical.Value.(type) {
	case *format.DecimalType:
		if l.Scale < 0 || l.Scale > maxScale {
			return nil, fmt.Sprintf("decimals with %d digits after the point", l.Scale)
		}
		return func(v parquet.Value) float64 { return decimal(v, l.Scale) }, ""
	case *format.IntType:
		if !l.IsSigned {
			return unsigned, ""
		}
		return plain, ""
	case *format.NullType: // has no values
		return plain, ""
	}
	return nil, logical.String()
}

func plain(v parquet.Value) float64 {
	switch v.Kind() {
	case parquet.Int32:
		return float64(v.Int32())
	case parquet.Int64:
		return float64(v.Int64())
	case parquet.Float:
		return float64(v.Float())
	case parquet.Double:
		return v.Double()
	}
	return math.NaN()
}

func unsigned(v parquet.Value) float64 {
	switch v.Kind() {
	case parquet.Int32:
		return float64(v.Uint32())
	case parquet.Int64:
		return float64(v.Uint64())
	}
	return math.NaN()
}

// decimal is the float64 nearest to the stored integer / 10^scale, as for the same
// number in a CSV.
func decimal(v parquet.Value, scale int32) float64 {
	stored := new(big.Int)
	switch v.Kind() {
	case parquet.Int32:
		stored.SetInt64(int64(v.Int32()))
	case parquet.Int64:
		stored.SetInt64(v.Int64())
	case parquet.FixedLenByteArray, parquet.ByteArray: // two's complement, the highest byte first
		b := v.ByteArray()
		if len(b) == 0 || len(b) > maxDecimal {
			return math.NaN()
		}
		stored.SetBytes(b)
		if b[0]&0x80 != 0 {
			stored.Sub(stored, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
	default:
		return math.NaN()
	}
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	x, _ := new(big.Rat).SetFrac(stored, unit).Float64()
	return x
}
