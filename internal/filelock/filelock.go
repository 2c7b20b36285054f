// Package filelock keeps a second process out of a folder. The kernel lets go of
// a lock when its process ends, however it ends, so a crash leaves none behind.
package filelock

import "errors"

// ErrHeld says that another process holds the lock.
var ErrHeld = errors.New("in use by another process")
