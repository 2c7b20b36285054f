package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/nice"
)

// bare is what the machine makes of sleeping alone: the rate of as many
// goroutines as there are slots, in one process at the workers' priority, each of
// which sleeps for the delay again and again. What a mesh reaches of it, it
// loses itself; what that lacks of slots/delay, the timers and the machine's other
// load take.
type bare struct {
	Slots int     `json:"slots"`
	Rate  float64 `json:"rate"` // sleeps per second
}

// workerNice is the default of `driftmesh worker --nice`.
const workerNice = 10

// sleepAlone is the child process: it sleeps and prints the bare rate as JSON.
func sleepAlone(slots int, delay, length time.Duration) error {
	if err := nice.Process(workerNice); err != nil {
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0.0
	for range slots {
		wg.Go(func() {
			began, n := time.Now(), 0
			for t := time.NewTimer(delay); ; t.Reset(delay) {
				<-t.C
				if n++; time.Since(began) >= length {
					break
				}
			}
			rate := float64(n) / time.Since(began).Seconds()
			mu.Lock()
			defer mu.Unlock()
			total += rate
		})
	}
	wg.Wait()
	return json.NewEncoder(os.Stdout).Encode(bare{slots, total})
}

// sleepBeside runs that process.
func sleepBeside(ctx context.Context, slots int, delayMS float64, length time.Duration) (bare, error) {
	self, err := os.Executable()
	if err != nil {
		return bare{}, err
	}
	out, err := exec.CommandContext(ctx, self, "-bare", strconv.Itoa(slots), "-delays", fmt.Sprint(delayMS), "-interval", length.String()).Output()
	if err != nil {
		return bare{}, fmt.Errorf("bare sleeps: %w", err)
	}
	var b bare
	err = json.Unmarshal(out, &b)
	return b, err
}
