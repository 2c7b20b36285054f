//go:build unix

package fanout

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// private refuses a folder that another user could write to or put another one
// in the place of. dir is absolute and free of links.
func private(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		mode := info.Mode()
		switch {
		case !info.IsDir():
			return fmt.Errorf("%s is not a folder", at)
		case int(owner.Uid) != os.Getuid() && (at == dir || owner.Uid != 0):
			return fmt.Errorf("%s belongs to user %d, this is user %d; choose another folder with --cache", at, owner.Uid, os.Getuid())
		case mode.Perm()&0o022 != 0 && (at == dir || mode&os.ModeSticky == 0):
			return fmt.Errorf("others may write to %s (mode %o); run chmod go-w %s, or choose another folder with --cache", at, mode.Perm(), at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
