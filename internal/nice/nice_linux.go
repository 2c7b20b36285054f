package nice

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Process lowers the priority of this process to n, 0 to 19; 0 leaves it.
func Process(n int) error {
	if n == 0 {
		return nil
	}
	return unix.Setpriority(unix.PRIO_PROCESS, 0, n)
}

// Goroutine gives the calling goroutine a thread of its own with priority n,
// for the rest of its life: the thread ends with it.
func Goroutine(n int) error {
	runtime.LockOSThread()
	return unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), n)
}
