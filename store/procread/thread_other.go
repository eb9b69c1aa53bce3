//go:build !linux

package procread

// threadID needs Linux.
func threadID() int32 { return 0 }
