// Package program writes programs that a test then runs.
package program

import (
	"os"
	"syscall"
)

// Write is os.WriteFile for a file that is executed afterwards. A child that this
// process forks meanwhile would have the file open for writing until its own execve,
// and the kernel executes nothing that somebody may write to (ETXTBSY, execve(2)); so
// nothing is forked as long as it is open. Safe for concurrent use.
func Write(path string, content []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, mode)
}
