// Package nice lowers the scheduling priority of processes and threads, so that
// elections and commits come before training where cores are few.
package nice
