package archive

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"gocloud.dev/blob"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// schemes of buckets that this build can open, besides file.
var schemes []string

// CheckURL refuses what no bucket of this build can be.
func CheckURL(field, text string) error {
	u, err := url.Parse(text)
	want := "file:///absolute/folder"
	for _, s := range schemes {
		want += ", " + s + "://bucket"
	}
	if len(schemes) == 0 {
		want += " (a build with -tags cloud also opens s3://bucket and gs://bucket)"
	}
	switch {
	case err != nil, u.Scheme == "file" && (u.Host != "" || !filepath.IsAbs(u.Path)), u.Scheme != "file" && (!slices.Contains(schemes, u.Scheme) || u.Host == ""):
		return fielderr.New(field, text, want)
	}
	return nil
}

// OpenBucket opens the segments of a cluster in a bucket that all its nodes
// share: a folder of a network file system (file:///mnt/archive), or with the
// build tag cloud an object store. Clusters may share a bucket.
func OpenBucket(ctx context.Context, text, clusterID string) (*Store, error) {
	if err := CheckURL("archive", text); err != nil {
		return nil, err
	}
	if folder, ok := strings.CutPrefix(text, "file://"); ok {
		path, err := url.PathUnescape(folder)
		if err != nil {
			return nil, fielderr.New("archive", text, "a folder")
		}
		s, err := openFolder(filepath.Join(path, clusterID))
		if s != nil {
			s.shared = true
		}
		return s, err
	}
	bucket, err := blob.OpenBucket(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", text, err)
	}
	s := &Store{bucket: blob.PrefixedBucket(bucket, clusterID+"/"), shared: true}
	if ok, err := s.bucket.IsAccessible(ctx); err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("archive %s: the bucket is not there or not accessible", text), err, s.Close())
	}
	return s, nil
}
