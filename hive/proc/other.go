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

// Nothing of the package works on this system. Functions return ErrUnsupported, or the
// value that means "not known"; of the types below there are no values that do anything.

type Gated struct{}

type Process struct{}

type Reaper struct{}

func Start(Spec) (*Gated, error) { return nil, ErrUnsupported }

func AsUser[T any](_ context.Context, name string, do func() (T, error)) (T, error) {
	if name != "" {
		var none T
		return none, ErrUnsupported
	}
	return do()
}

func lookApart(lookRequest) (lookAnswer, bool) { return lookAnswer{}, false }

func LookApart() {}

func ServeLooks() bool { return false }

func OpenRegular(path string) (*os.File, error) { return os.Open(path) }

func Ask(context.Context, []string, []string) ([]byte, error) { return nil, ErrUnsupported }

func OpenOutput(int) (*os.File, error) { return nil, ErrUnsupported }

func (g *Gated) Identity() store.Identity { return store.Identity{} }

func (g *Gated) Process() *Process { return nil }

func (g *Gated) Cgroup() string { return "" }

func (g *Gated) UID() uint32 { return NoUser }

func (g *Gated) Open(context.Context) (*Process, error) { return nil, ErrUnsupported }

func (g *Gated) Abort() {}

func Adopt(store.Identity) (*Process, Verdict, error) { return nil, Unknown, ErrUnsupported }

func LastExit(store.Identity) store.Exit { return store.Exit{} }

func (p *Process) Identity() store.Identity { return store.Identity{} }

func (p *Process) PID() int { return 0 }

func (p *Process) UID() (uint32, error) { return 0, ErrUnsupported }

func (p *Process) MarkMain() {}

func (p *Process) AtGate() bool { return false }

func (p *Process) Done() <-chan struct{} { return nil }

func (p *Process) Exit() store.Exit { return store.Exit{} }

func (p *Process) Signal(syscall.Signal) error { return ErrUnsupported }

func (p *Process) Close() {}

func ForwardSignals(*Process) (stop func()) { return func() {} }

func (t *Tree) Members(context.Context) ([]Member, error) { return nil, ErrUnsupported }

func (p *Process) Ended() bool { return true }

func (p *Process) AfterDone(func()) {}

func (t *Tree) CPUTime(context.Context) (time.Duration, error) { return 0, ErrUnsupported }

type Meter struct{}

func NewMeter() *Meter { return &Meter{} }

func (m *Meter) Measure(context.Context, []*Tree) ([]Usage, error) { return nil, ErrUnsupported }

func (t *Tree) Owns(context.Context, []sockets.Socket) (Ownership, error) {
	return OwnerUnknown, ErrUnsupported
}

func (t *Tree) ListenPorts(context.Context, *sockets.Snapshot) ([]uint16, error) {
	return nil, ErrUnsupported
}

func (t *Tree) Stop(context.Context, store.Stop) ([]Member, error) { return nil, ErrUnsupported }

func (t *Tree) End(context.Context, store.Stop) (Ending, error) { return Ending{}, ErrUnsupported }

func SurveyMembers(context.Context, []*Tree) (map[int][]Member, error) { return nil, ErrUnsupported }

func Sweep(context.Context, string, store.Secret, []uint32) ([]Orphan, error) {
	return nil, ErrUnsupported
}

func FindLiving(context.Context, Search) ([]Living, error) { return nil, ErrUnsupported }

func OneUser(uint32) bool { return false }

func Verify(store.Identity) (Verdict, error) { return Unknown, ErrUnsupported }

func Run(context.Context, Command) (Result, error) { return Result{}, ErrUnsupported }

func EndCommands(context.Context, string, store.Secret, bool) ([]Member, error) {
	return nil, ErrUnsupported
}

func NewReaper(func(pid int)) (*Reaper, error) { return nil, ErrUnsupported }

func (r *Reaper) Close() {}

func CgroupRoot(string) (string, error) { return "", ErrNoCgroup }

func PruneCgroups(string) (int, error) { return 0, ErrNoCgroup }

func isWorkersCgroup(uint64, string, []string) bool { return false }

func BootID() (string, error) { return "", ErrUnsupported }

func BootTime() time.Duration { return 0 }

func KernelThread(int) bool { return false }

func SelfIdentity() (store.Identity, error) { return store.Identity{}, ErrUnsupported }

func Identify(int) (store.Identity, error) { return store.Identity{}, ErrUnsupported }

func FindFeatures() Features { return Features{} }

func GateOnly() {}

func Traces() error { return ErrUnsupported }
