package gate

// What hive/proc and the gate agree on.
const (
	// Arg0 is argv[0] of a process that has not executed its program yet.
	Arg0 = "hive-gate"
	// Go is the byte that opens the gate. GoNoHangup opens it too, and leaves SIGHUP
	// as it was inherited.
	Go         = 'G'
	GoNoHangup = 'H'
	// NoNewPrivs and AnotherUser are letters of the gate's first argument: set
	// no_new_privs, and leave behind what a child keeps of root when it becomes
	// another user.
	NoNewPrivs  = 'n'
	AnotherUser = 'u'
	// WaitFD is the descriptor the gate reads from, ReportFD the one it reports on.
	WaitFD   = 3
	ReportFD = 4
	// ExitNotOpened is the exit code of a gate that was not opened.
	ExitNotOpened = 125
	// ExitNotExecuted is the exit code of a gate that reported a failed step.
	ExitNotExecuted = 126
)

// ReportSize is the length of a report on ReportFD.
const ReportSize = 5

// The steps between the opening of the gate and the program.
const (
	StepArguments   = 'a'
	StepDescriptors = 'd'
	StepSignals     = 's'
	StepPrivileges  = 'p'
	StepDirectory   = 'c'
	StepExec        = 'x'
)

// Report encodes a failed step for ReportFD.
func Report(step byte, errno uint32) [ReportSize]byte {
	return [ReportSize]byte{step, byte(errno), byte(errno >> 8), byte(errno >> 16), byte(errno >> 24)}
}

// ParseReport decodes what was read from ReportFD. ok is false for anything
// but one whole report of a known step.
func ParseReport(b []byte) (step string, errno uint32, ok bool) {
	if len(b) != ReportSize {
		return "", 0, false
	}
	switch b[0] {
	case StepArguments:
		step = "arguments"
	case StepDescriptors:
		step = "close_range"
	case StepSignals:
		step = "sigaction"
	case StepPrivileges:
		step = "no_new_privs"
	case StepDirectory:
		step = "chdir"
	case StepExec:
		step = "execve"
	default:
		return "", 0, false
	}
	return step, uint32(b[1]) | uint32(b[2])<<8 | uint32(b[3])<<16 | uint32(b[4])<<24, true
}
