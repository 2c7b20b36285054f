package clock

import (
	"context"
	"time"
)

// Rest waits for d, or fails with ctx's error when that ends first.
func Rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
