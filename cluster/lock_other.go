//go:build !unix

package cluster

import (
	"errors"
	"os"
)

// lockDir refuses: without a lock that dies with its process, two nodes could
// share one identity.
func lockDir(string) (*os.File, error) { return nil, errors.ErrUnsupported }
