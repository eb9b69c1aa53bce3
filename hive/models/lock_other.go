//go:build !linux

package models

import "os"

// lockDir is only on Linux more than a promise.
func lockDir(*os.File) (bool, error) { return true, nil }
