//go:build !unix

package filelock

import (
	"errors"
	"fmt"
	"os"
)

// Acquire refuses: without a lock that dies with its process, two processes
// could share one folder.
func Acquire(path string) (*os.File, error) {
	return nil, fmt.Errorf("lock %s: %w", path, errors.ErrUnsupported)
}
