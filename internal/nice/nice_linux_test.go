package nice

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGoroutineLowersOneThreadOnly(t *testing.T) {
	runtime.LockOSThread() // the goroutine gets another thread
	defer runtime.UnlockOSThread()
	before, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The system call returns 20 - nice.
	done := make(chan int)
	go func() {
		if err := Goroutine(15); err != nil {
			t.Error(err)
		}
		p, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
		if err != nil {
			t.Error(err)
		}
		done <- 20 - p
	}()
	if n := <-done; n < 15 {
		t.Errorf("the goroutine's thread has nice %d, want 15", n)
	}
	if after, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || after != before {
		t.Errorf("this thread went from %d to %d (%v)", 20-before, 20-after, err)
	}
}
