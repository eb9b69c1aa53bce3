//go:build linux && !amd64

package proc

// canInject: nobody has tried it on this architecture.
const canInject = false

type injected struct {
	number uintptr
	args   [4]uintptr
	anyway bool
}

func inject(int, []injected) error { return notTraced("not on this architecture") }

func noCapabilities() injected { return injected{} }
