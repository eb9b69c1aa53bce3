package doctor_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/doctor"
	"rbeehive/hive/host"
	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// checkNames are the checks, in their order: scripts compare them.
var checkNames = []string{
	"range", "ports", "forbidden", "squatters", "unleased", "draining", "configuration", "wanted", "quarantined", "unverified", "members",
	"file", "disk", "origin", "clock",
	"kernel", "cgroup", "ptrace", "hidepid", "systemd", "init", "descriptors", "tasks",
}

func seen[T any](v T) doctor.Fact[T] { return doctor.Fact[T]{Value: v} }

func failed[T any](why string) doctor.Fact[T] { return doctor.Fact[T]{Err: errors.New(why)} }

// healthy are the facts of a hive and a machine with which nothing is wrong.
func healthy() *doctor.Facts {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	return &doctor.Facts{
		Now: now, DataDir: "/var/lib/hive", AuditInterval: 30 * time.Second,
		Range: alloc.Range{First: 8080, Last: 9999}, Reserved: []alloc.Range{{First: 7835, Last: 7835}},
		Survey: seen(alloc.Survey{
			Range: alloc.Range{First: 8080, Last: 9999}, Total: 1920, Free: 1918, Leased: 2,
			Holders: []sockets.Holder{{Port: 8080, Kind: "worker", PID: 10, Program: "hive"}},
		}),
		Leases:  seen([]store.Lease{{Port: 8080, State: store.LeaseHeld, WorkerID: "w-1"}, {Port: 8081, State: store.LeaseReleasing}}),
		Reasons: map[string]string{}, Cgroups: true, BoundListed: seen(true),
		File: doctor.File{
			Bytes: 5 << 20, Examination: &doctor.Examination{At: now.Add(-3 * time.Hour)}, Admits: seen(true), DiskFree: seen(int64(41) << 30), Inodes: seen(int64(1) << 20),
			Records: seen([]doctor.Record{{Name: "event 6", At: now.Add(-time.Minute)}, {Name: "event 7", At: now.Add(-time.Second)}}),
			Backups: seen(doctor.Backups{Count: 2, Newest: now.Add(-50 * time.Hour)}), BackupInterval: 24 * time.Hour,
		},
		Host: doctor.Host{
			Kernel: "6.18.2", Features: proc.Features{PidfdInode: true, ExitInfo: true, CgroupV2: true},
			LocalPorts:   seen(host.LocalPorts{Range: alloc.Range{First: 32768, Last: 60999}}),
			Synchronised: seen(true), Ptrace: seen(true), Hiding: seen(host.Hiding{Mode: "off"}),
			Unit:        seen(host.Unit{Name: "hive.service", KillMode: "process", Delegate: true}),
			Init:        seen(host.First{Program: "systemd"}),
			Descriptors: seen(host.Limit{Max: 20000, Used: 12, Where: "RLIMIT_NOFILE"}),
			Tasks:       seen([]host.Limit{{Max: 30000, Used: 90, Where: "/sys/fs/cgroup/pids.max"}}),
		},
	}
}

func named(t *testing.T, all []doctor.Checkup, name string) doctor.Checkup {
	t.Helper()
	i := slices.IndexFunc(all, func(c doctor.Checkup) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return all[i]
}

// complete are the rules for every Checkup: what is not ok says what it means
// and what to do, and all of it is one line of plain text.
func complete(t *testing.T, all []doctor.Checkup) {
	t.Helper()
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
		require.Empty(t, plain.Flaw(c.Found)+plain.Flaw(c.Means)+plain.Flaw(c.Do), "%+v", c)
		require.NotEmpty(t, c.Found, "%+v", c)
		require.Equal(t, c.Status == doctor.OK, c.Means == "", "%+v", c)
		require.Equal(t, c.Status == doctor.OK, c.Do == "", "%+v", c)
		require.NotContains(t, c.Found+c.Means+c.Do, "%!", "%+v", c)
	}
	require.Equal(t, checkNames, names)
}

func TestNothingIsWrongWithAHealthyHive(t *testing.T) {
	t.Parallel()
	all := doctor.Check(healthy())
	complete(t, all)
	for _, c := range all {
		require.Equal(t, doctor.OK, c.Status, "%+v", c)
	}
	require.Equal(t, "8080-9999; outgoing connections use 32768-60999", named(t, all, "range").Found)
	require.Equal(t, "1920 in all, 1918 free, 2 leased", named(t, all, "ports").Found)
	require.Equal(t, "5.0 MiB, intact when checked 3h ago; last backup 2d ago, 2 are kept", named(t, all, "file").Found)
	require.Equal(t, "41.0 GiB free for /var/lib/hive", named(t, all, "disk").Found)
	require.Equal(t, "20000 allowed, 12 in use; a full range needs 4096", named(t, all, "descriptors").Found)
}

// A row changes one thing about a healthy hive and says what becomes of one
// check; of the others nothing may change. Found, means and do are searched for
// the texts of want, in this order.
type row struct {
	what   string
	change func(*doctor.Facts)
	check  string
	is     doctor.Status
	want   []string
}

func evaluate(t *testing.T, rows []row) {
	t.Helper()
	before := doctor.Check(healthy())
	for _, r := range rows {
		f := healthy()
		r.change(f)
		all := doctor.Check(f)
		complete(t, all)
		for i, c := range all {
			if c.Name != r.check {
				require.Equal(t, before[i].Status, c.Status, "%s: %+v", r.what, c)
				continue
			}
			require.Equal(t, r.is, c.Status, "%s: %+v", r.what, c)
			rest := c.Found + "\n" + c.Means + "\n" + c.Do
			for _, want := range r.want {
				_, after, ok := strings.Cut(rest, want)
				require.True(t, ok, "%s: %q is not in %q", r.what, want, rest)
				rest = after
			}
		}
	}
}

// Of each check each outcome that it can have is tried, so that a new check cannot come
// without its rows.
func TestEveryOutcomeIsTried(t *testing.T) {
	t.Parallel()
	// The kernel's features are never a reason to warn; the origin of the file is always
	// known, and so is whether workers get cgroups, and what hive wants and has reloaded.
	never := map[string]doctor.Status{"kernel": doctor.Warning, "origin": doctor.Unknown, "cgroup": doctor.Unknown, "configuration": doctor.Unknown, "wanted": doctor.Unknown}
	tried := map[string]map[doctor.Status]bool{}
	for _, c := range doctor.Check(healthy()) {
		tried[c.Name] = map[doctor.Status]bool{c.Status: true}
	}
	for _, rows := range [][]row{portRows(), leaseRows(), configurationRows(), wantedRows(), fileRows(), kernelRows(), serviceRows(), limitRows()} {
		for _, r := range rows {
			tried[r.check][r.is] = true
		}
	}
	for _, u := range unreadable {
		for _, name := range u.checks {
			tried[name][doctor.Unknown] = true
		}
	}
	for name, outcomes := range tried {
		for _, status := range []doctor.Status{doctor.OK, doctor.Warning, doctor.Unknown} {
			require.NotEqual(t, never[name] == status, outcomes[status], "%s: %s", name, status)
		}
	}
}

// unreadable are facts that several checks go by, and those checks.
var unreadable = []struct {
	what   string
	change func(*doctor.Facts)
	checks []string
}{
	{"the survey", func(f *doctor.Facts) { f.Survey = failed[alloc.Survey]("why\nmore") }, []string{"ports", "forbidden", "squatters", "unleased", "draining"}},
	{"whose listeners are", func(f *doctor.Facts) { f.Unleased = failed[map[uint16]string]("why") }, []string{"squatters", "unleased"}},
	{"the survey, with no capability", func(f *doctor.Facts) {
		f.Survey, f.Host.Ptrace.Value = failed[alloc.Survey]("why"), false
	}, []string{"ports", "forbidden", "squatters", "unleased", "draining", "ptrace"}},
	{"the leases", func(f *doctor.Facts) { f.Leases = failed[[]store.Lease]("why") }, []string{"range", "quarantined", "unverified", "clock"}},
	{"the capabilities, where /proc hides", func(f *doctor.Facts) {
		f.Host.Ptrace, f.Host.Hiding.Value.Mode = failed[bool]("why"), "invisible"
	}, []string{"ptrace", "hidepid"}},
	{"everything", func(f *doctor.Facts) {
		err := errors.New("why")
		f.Survey.Err, f.Leases.Err, f.Orphans.Err, f.BoundListed.Err = err, err, err, err
		f.File.Examination, f.File.Admits.Err, f.File.DiskFree.Err, f.File.Records.Err, f.File.Backups.Err = nil, err, err, err, err
		h := &f.Host
		h.LocalPorts.Err, h.Synchronised.Err, h.Ptrace.Err, h.Hiding.Err, h.Unit.Err, h.Init.Err, h.Descriptors.Err, h.Tasks.Err = err, err, err, err, err, err, err, err
		h.Hiding.Value.Mode = "" // nothing of a value counts beside an error
	}, []string{
		"range", "ports", "forbidden", "squatters", "unleased", "draining", "quarantined", "unverified", "members", "file", "disk", "clock",
		"kernel", "ptrace", "hidepid", "systemd", "init", "descriptors", "tasks",
	}},
}

// A check of which a fact could not be read neither warns nor says that all is well.
func TestUnreadableFactsMakeChecksUnknown(t *testing.T) {
	t.Parallel()
	for _, u := range unreadable {
		f := healthy()
		u.change(f)
		all := doctor.Check(f)
		complete(t, all)
		for _, c := range all {
			want := doctor.OK
			if slices.Contains(u.checks, c.Name) {
				want = doctor.Unknown
			}
			require.Equal(t, want, c.Status, "%s: %+v", u.what, c)
			if c.Status == doctor.Unknown && c.Name != "file" {
				require.Contains(t, c.Found, "why", "%s: %+v", u.what, c)
				require.Contains(t, c.Do, "`", "%s: %+v", u.what, c)
			}
		}
	}
}

// Check reads the facts and leaves them as they are: hive passes its own slices.
func TestCheckChangesNoFact(t *testing.T) {
	t.Parallel()
	f := healthy()
	for p := uint16(8100); p < 8120; p++ { // a list that is cut
		f.Survey.Value.Holders = append(f.Survey.Value.Holders, sockets.Holder{Port: p, Kind: sockets.KindListener})
	}
	before := *f
	before.Survey.Value.Holders = slices.Clone(f.Survey.Value.Holders)
	first := doctor.Check(f)
	require.Equal(t, &before, f)
	require.Equal(t, first, doctor.Check(f))
}
