//go:build !linux

package proc

import (
	"context"
	"os"
	"syscall"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/store"
)

// Gated is a child that waits; there is none on this system.
type Gated struct{}

// Process is a process that is being followed; there is none on this system.
type Process struct{}

// Reaper reaps inherited children; there is none on this system.
type Reaper struct{}

// Start returns ErrUnsupported.
func Start(Spec) (*Gated, error) { return nil, ErrUnsupported }

// AsUser calls do, which it can only with hive's own rights.
func AsUser[T any](_ context.Context, name string, do func() (T, error)) (T, error) {
	if name != "" {
		var none T
		return none, ErrUnsupported
	}
	return do()
}

// OpenRegular opens a file.
func OpenRegular(path string) (*os.File, error) { return os.Open(path) }

// Ask returns ErrUnsupported.
func Ask(context.Context, []string, []string) ([]byte, error) { return nil, ErrUnsupported }

// OpenOutput returns ErrUnsupported.
func OpenOutput(int) (*os.File, error) { return nil, ErrUnsupported }

// Identity returns nothing.
func (g *Gated) Identity() store.Identity { return store.Identity{} }

// Process returns nothing.
func (g *Gated) Process() *Process { return nil }

// Cgroup returns nothing.
func (g *Gated) Cgroup() string { return "" }

// UID returns NoUser.
func (g *Gated) UID() uint32 { return NoUser }

// Open returns ErrUnsupported.
func (g *Gated) Open(context.Context) (*Process, error) { return nil, ErrUnsupported }

// Abort does nothing.
func (g *Gated) Abort() {}

// Adopt returns Unknown and ErrUnsupported.
func Adopt(store.Identity) (*Process, Verdict, error) { return nil, Unknown, ErrUnsupported }

// LastExit returns an unknown exit.
func LastExit(store.Identity) store.Exit { return store.Exit{} }

// Identity returns nothing.
func (p *Process) Identity() store.Identity { return store.Identity{} }

// PID returns 0.
func (p *Process) PID() int { return 0 }

// UID returns ErrUnsupported.
func (p *Process) UID() (uint32, error) { return 0, ErrUnsupported }

// AtGate returns false.
func (p *Process) AtGate() bool { return false }

// Done returns nil.
func (p *Process) Done() <-chan struct{} { return nil }

// Exit returns an unknown exit.
func (p *Process) Exit() store.Exit { return store.Exit{} }

// Signal returns ErrUnsupported.
func (p *Process) Signal(syscall.Signal) error { return ErrUnsupported }

// Close does nothing.
func (p *Process) Close() {}

// ForwardSignals does nothing: there is no process.
func ForwardSignals(*Process) (stop func()) { return func() {} }

// Members returns ErrUnsupported.
func (t *Tree) Members(context.Context) ([]Member, error) { return nil, ErrUnsupported }

// Ended returns true: there is no process.
func (p *Process) Ended() bool { return true }

// AfterDone does nothing: there is no process.
func (p *Process) AfterDone(func()) {}

// CPUTime returns ErrUnsupported.
func (t *Tree) CPUTime(context.Context) (time.Duration, error) { return 0, ErrUnsupported }

// Meter measures trees; it cannot on this system.
type Meter struct{}

// NewMeter makes a Meter.
func NewMeter() *Meter { return &Meter{} }

// Measure returns ErrUnsupported.
func (m *Meter) Measure(context.Context, []*Tree) ([]Usage, error) { return nil, ErrUnsupported }

// Owns returns OwnerUnknown and ErrUnsupported.
func (t *Tree) Owns(context.Context, []sockets.Socket) (Ownership, error) {
	return OwnerUnknown, ErrUnsupported
}

// ListenPorts returns ErrUnsupported.
func (t *Tree) ListenPorts(context.Context, *sockets.Snapshot) ([]uint16, error) {
	return nil, ErrUnsupported
}

// Stop returns ErrUnsupported.
func (t *Tree) Stop(context.Context, store.Stop) ([]Member, error) { return nil, ErrUnsupported }

// SurveyMembers returns ErrUnsupported.
func SurveyMembers(context.Context, []*Tree) (map[int][]Member, error) { return nil, ErrUnsupported }

// Sweep returns ErrUnsupported.
func Sweep(context.Context, string, store.Secret, []uint32) ([]Orphan, error) {
	return nil, ErrUnsupported
}

// FindLiving returns ErrUnsupported.
func FindLiving(context.Context, Search) ([]Living, error) { return nil, ErrUnsupported }

// OneUser returns false.
func OneUser(uint32) bool { return false }

// Verify returns Unknown and ErrUnsupported.
func Verify(store.Identity) (Verdict, error) { return Unknown, ErrUnsupported }

// Run returns ErrUnsupported.
func Run(context.Context, Command) (Result, error) { return Result{}, ErrUnsupported }

// EndCommands returns ErrUnsupported.
func EndCommands(context.Context, string, store.Secret, bool) ([]Member, error) {
	return nil, ErrUnsupported
}

// NewReaper returns ErrUnsupported.
func NewReaper(func(pid int)) (*Reaper, error) { return nil, ErrUnsupported }

// Close does nothing.
func (r *Reaper) Close() {}

// CgroupRoot returns ErrNoCgroup.
func CgroupRoot(string) (string, error) { return "", ErrNoCgroup }

// PruneCgroups returns ErrNoCgroup.
func PruneCgroups(string) (int, error) { return 0, ErrNoCgroup }

// IsWorkersCgroup returns false.
func IsWorkersCgroup(uint64, string, []string) bool { return false }

// BootID returns ErrUnsupported.
func BootID() (string, error) { return "", ErrUnsupported }

// BootTime returns 0.
func BootTime() time.Duration { return 0 }

// KernelThread returns false.
func KernelThread(int) bool { return false }

// SelfIdentity returns ErrUnsupported.
func SelfIdentity() (store.Identity, error) { return store.Identity{}, ErrUnsupported }

// Identify returns ErrUnsupported.
func Identify(int) (store.Identity, error) { return store.Identity{}, ErrUnsupported }

// FindFeatures returns none.
func FindFeatures() Features { return Features{} }
