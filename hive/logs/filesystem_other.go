//go:build !linux

package logs

import (
	"errors"
	"math"
	"os"
)

func collapseHead(*os.File, int64) error { return errors.ErrUnsupported }

func collapseUnit(string) int64 { return 0 }

func nextData(_ *os.File, at int64) int64 { return at }

func nextHole(*os.File, int64) int64 { return math.MaxInt64 }

func allocated(fi os.FileInfo) int64 { return fi.Size() }

func dataIn(_ *os.File, end int64) (first, amount int64) { return 0, end }

func freeSpace(string) (free int64, known bool) { return 0, false }
