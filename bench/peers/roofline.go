package main

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// hiddenWidth is that of both hidden layers.
const hiddenWidth = 256

// flops is what the products of an update take for one state: those of the hidden
// layer and of the heads, once forward and twice backward. The first layer adds up
// a few rows and is not counted.
func (g grid) flops() float64 {
	heads := float64(2*g.Dim + 1)
	return 3 * 2 * hiddenWidth * (hiddenWidth + heads)
}

// sgemm is the rate of (batch × 256)·(256 × 256) on all cores of this process at
// once, each with matrices of its own, in GFLOP/s: the best of some windows.
func sgemm(batch int) (rate float64) {
	const windows, window = 20, 2 * time.Millisecond
	rates := make([]float64, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for core := range rates {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(core)))
			dense := func(rows int) kernels.Matrix {
				m := kernels.Dense(rows, hiddenWidth, make([]float32, rows*hiddenWidth))
				for i := range m.Data {
					m.Data[i] = float32(r.NormFloat64())
				}
				return m
			}
			x, w, out, bias := dense(batch), dense(hiddenWidth), dense(batch), make([]float32, hiddenWidth)
			for range windows {
				begin, n := time.Now(), 0
				for ; time.Since(begin) < window; n++ {
					kernels.Layer(out, x, w, bias, kernels.ReLU)
				}
				rates[core] = max(rates[core], 2e-9*float64(n*batch*hiddenWidth*hiddenWidth)/time.Since(begin).Seconds())
			}
		})
	}
	all.Wait()
	for _, v := range rates {
		rate += v
	}
	return rate
}

// roofline is the least time in milliseconds that the products of an update take,
// if all ran at the rate of one, over what the update took; by round.
func (e *entry) roofline() (share []float64) {
	s := e.Sides[ours]
	if s == nil || len(s.Sgemm) != len(s.MS) {
		return nil
	}
	for i, ms := range s.MS {
		share = append(share, s.States[i]*e.Grid.flops()/s.Sgemm[i]/1e6/ms)
	}
	return share
}
