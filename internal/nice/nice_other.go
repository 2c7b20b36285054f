//go:build !linux

package nice

// Process does nothing: only Linux has priorities that suit processes and
// threads alike.
func Process(int) error { return nil }

// Goroutine does nothing, as Process.
func Goroutine(int) error { return nil }
