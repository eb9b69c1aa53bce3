package procread

import "golang.org/x/sys/unix"

// threadID is the kernel's number of the calling thread (gettid(2)).
func threadID() int32 { return int32(unix.Gettid()) }
