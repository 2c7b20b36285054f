package chaos

import "time"

// PSS is the proportional set size of a process, in bytes: memory that n
// processes share counts 1/n in each.
func PSS(pid int) (int64, error) { return pss(pid) }

// CPUTime is what a process has used of the processor, in steps of 10 ms.
func CPUTime(pid int) (time.Duration, error) { return cpuTime(pid) }
