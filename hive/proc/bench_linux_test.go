package proc_test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
)

const benchProgram = "/bin/true"

// BenchmarkSpawnDirect is the floor: fork and exec of the program itself, with
// the same files and session, until its end is known.
func BenchmarkSpawnDirect(b *testing.B) {
	null, err := os.Open(os.DevNull)
	require.NoError(b, err)
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(b.TempDir(), "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(b, err)
	defer log.Close()
	b.ReportAllocs()
	var took []time.Duration
	defer func() { reportMedian(b, took) }()
	for b.Loop() {
		begun := time.Now()
		pid, err := syscall.ForkExec(benchProgram, []string{benchProgram}, &syscall.ProcAttr{
			Env: os.Environ(), Files: []uintptr{null.Fd(), log.Fd(), log.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
		if err != nil {
			b.Fatal(err)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
}

// reportMedian reports the p50: the mean is that of the machine's other work.
func reportMedian(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
}

// BenchmarkSpawnGated is the same through the gate; target: at most 2 ms more.
func BenchmarkSpawnGated(b *testing.B) { benchGated(b, "") }

// BenchmarkSpawnGatedCgroup makes and removes a cgroup too.
func BenchmarkSpawnGatedCgroup(b *testing.B) { benchGated(b, "leaf") }

func benchGated(b *testing.B, cgroup string) {
	spec := proc.Spec{
		Argv: []string{benchProgram}, Env: proc.Environ(os.Environ(), nil), Cgroup: cgroup,
		Log: filepath.Join(b.TempDir(), "log"), StateID: "benchmark", LeaseID: "l", WorkerID: "w",
	}
	b.Cleanup(func() { _, _ = proc.PruneCgroups(spec.StateID) })
	b.ReportAllocs()
	var took []time.Duration
	defer func() { reportMedian(b, took) }()
	for b.Loop() {
		begun := time.Now()
		g, err := proc.Start(spec)
		if err != nil {
			b.Fatal(err)
		}
		p, err := g.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		<-p.Done()
		took = append(took, time.Since(begun))
		if cgroup != "" {
			_, _ = proc.PruneCgroups(spec.StateID)
		}
	}
}

// BenchmarkAdopt is what recovery does for each living worker.
func BenchmarkAdopt(b *testing.B) {
	spec := newSpec(b, "")
	spec.Argv = []string{"/bin/sleep", "1000"}
	p, _ := run(b, spec)
	id := p.Identity()
	b.ReportAllocs()
	for b.Loop() {
		q, verdict, err := proc.Adopt(id)
		if verdict != proc.Alive {
			b.Fatal(err)
		}
		q.Close()
	}
}

// BenchmarkMembers is one survey of all processes of this machine for one worker.
func BenchmarkMembers(b *testing.B) {
	spec := newSpec(b, "")
	spec.Argv = []string{"/bin/sleep", "1000"}
	_, tree := run(b, spec)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tree.Members(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
