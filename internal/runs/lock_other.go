//go:build !unix

package runs

import "os"

// lock opens the lock file; systems without flock get no exclusion.
func lock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
}
