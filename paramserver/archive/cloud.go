//go:build cloud

package archive

import (
	_ "gocloud.dev/blob/gcsblob" // gs://
	_ "gocloud.dev/blob/s3blob"  // s3://
)

// The drivers of object stores would double the size of the binary.
func init() { schemes = append(schemes, "s3", "gs") }
