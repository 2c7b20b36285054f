//go:build unix

package main

import "syscall"

// setNice lowers the priority of this process.
func setNice(n int) error {
	if n == 0 {
		return nil
	}
	return syscall.Setpriority(syscall.PRIO_PROCESS, 0, n)
}
