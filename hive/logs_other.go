//go:build !linux

package hive

import (
	"errors"
	"os"
)

func collapseHead(*os.File, int64) error { return errors.ErrUnsupported }

func collapseUnit(string) int64 { return 0 }

func dataIn(_ *os.File, size int64) (first, amount int64) { return 0, size }

func freeIn(string) (free int64, known bool) { return 0, false }
