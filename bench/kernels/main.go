// Command kernels holds the products of package kernels against the processor's
// peak, its memory, and OpenBLAS, on one core:
//
//	make bench-kernels
//
// Each rate is the best of many short windows: what the code can do, for a
// neighbour on a shared machine only ever slows it down. The two sides take turns.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

const width = 256

var sizes = []int{16, 256, 1024}

func main() {
	seconds := flag.Float64("seconds", 1, "time of each measurement")
	rounds := flag.Int("rounds", 3, "turns of both sides; the best counts")
	python := flag.String("python", "", "interpreter with NumPy; without it OpenBLAS is left out")
	flag.Parse()
	if err := run(*seconds, *rounds, *python); err != nil {
		fmt.Fprintln(os.Stderr, "bench-kernels:", err)
		os.Exit(1)
	}
}

// blasReport is what openblas.py prints.
type blasReport struct {
	Library string             `json:"library"`
	Rates   map[string]float64 `json:"rates"`
}

func run(seconds float64, rounds int, python string) error {
	runtime.GOMAXPROCS(1)
	window := time.Duration(seconds * float64(time.Second))
	peak, bandwidth := 0.0, 0.0
	ours := map[string]float64{}
	blas := blasReport{Rates: map[string]float64{}}
	for range rounds {
		peak = max(peak, best(window/2, func() float64 { return kernels.Peak(1 << 16) }))
		bandwidth = max(bandwidth, stream(window/2))
		for _, m := range sizes {
			for name, f := range products(m) {
				key := fmt.Sprintf("%s %d", name, m)
				ours[key] = max(ours[key], best(window/4, f))
			}
		}
		if python == "" {
			continue
		}
		r, err := openBLAS(python, seconds)
		if err != nil {
			return err
		}
		blas.Library = r.Library
		for m, v := range r.Rates {
			blas.Rates[m] = max(blas.Rates[m], v)
		}
	}
	fmt.Printf("kernels: %s   peak of fused sums: %.1f GFLOP/s   copy: %.1f GB/s   OpenBLAS: %s\n\n", kernels.Used(), peak, bandwidth, blas.Library)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "m × 256 × 256\tlayer\tof peak\tbackward\tweights\thead (16)\tOpenBLAS\tlayer / OpenBLAS\t")
	for _, m := range sizes {
		get := func(name string) float64 { return ours[fmt.Sprintf("%s %d", name, m)] }
		other := blas.Rates[strconv.Itoa(m)]
		fmt.Fprintf(w, "%d\t%.1f\t%.0f %%\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t\n",
			m, get("layer"), 100*get("layer")/peak, get("backward"), get("weights"), get("head"), other, get("layer")/other)
	}
	fmt.Fprintln(w)
	return w.Flush()
}

// best is the highest rate in GFLOP/s of windows of about a millisecond.
func best(d time.Duration, f func() (flops float64)) (rate float64) {
	for until := time.Now().Add(d); time.Now().Before(until); {
		begin, flops := time.Now(), 0.0
		for time.Since(begin) < time.Millisecond {
			flops += f()
		}
		rate = max(rate, flops/time.Since(begin).Seconds()/1e9)
	}
	return rate
}

// stream is the rate of a copy that no cache holds, read and written bytes.
func stream(d time.Duration) (rate float64) {
	const size = 128 << 20
	src, dst := make([]byte, size), make([]byte, size)
	for until := time.Now().Add(d); ; {
		begin := time.Now()
		copy(dst, src)
		rate = max(rate, 2*size/time.Since(begin).Seconds()/1e9)
		if time.Now().After(until) {
			return rate
		}
	}
}

// products are those of a training step for a batch of m states.
func products(m int) map[string]func() float64 {
	r := rand.New(rand.NewPCG(1, 2))
	dense := func(rows, cols int) kernels.Matrix {
		d := kernels.Dense(rows, cols, make([]float32, rows*cols))
		for i := range d.Data {
			d.Data[i] = float32(r.NormFloat64())
		}
		return d
	}
	x, y, w, head := dense(m, width), dense(m, width), dense(width, width), dense(width, 16)
	out, logits, dw, bias := dense(m, width), dense(m, 16), dense(width, width), make([]float32, width)
	flops := 2 * float64(m) * width * width
	return map[string]func() float64{
		"layer":    func() float64 { kernels.Layer(out, x, w, bias, kernels.ReLU); return flops },
		"backward": func() float64 { kernels.LayerBackward(out, x, w, y, kernels.ReLU, false); return flops },
		"weights":  func() float64 { kernels.MulTN(dw, x, y); return flops },
		"head": func() float64 {
			kernels.Layer(logits, x, head, bias, kernels.Linear)
			return 2 * float64(m) * width * 16
		},
	}
}

func openBLAS(python string, seconds float64) (r blasReport, err error) {
	args := []string{"bench/kernels/openblas.py", fmt.Sprint(seconds / 4)}
	for _, m := range sizes {
		args = append(args, strconv.Itoa(m))
	}
	cmd := exec.Command(python, args...)
	cmd.Env = append(os.Environ(), "OPENBLAS_NUM_THREADS=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%s: %w", cmd, err)
	}
	return r, json.Unmarshal(out, &r)
}
