package hive_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive"
	"rbeehive/hive/host"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// checkNames are the checks, in their order: scripts compare them.
var checkNames = []string{
	"range", "ports", "squatters", "draining", "quarantined", "unverified", "members",
	"file", "disk", "origin", "clock",
	"kernel", "cgroup", "ptrace", "hidepid", "systemd", "init", "descriptors", "tasks",
}

func seen[T any](v T) hive.Fact[T] { return hive.Fact[T]{Value: v} }

func failed[T any](why string) hive.Fact[T] { return hive.Fact[T]{Err: errors.New(why)} }

// healthy are the facts of a hive to which nobody need attend.
func healthy() *hive.Facts {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	return &hive.Facts{
		Now: now, DataDir: "/var/lib/hive", Review: 30 * time.Second,
		Range: alloc.Range{First: 8080, Last: 9999}, Apart: []alloc.Range{{First: 7835, Last: 7835}},
		Local: seen(host.LocalPorts{Range: alloc.Range{First: 32768, Last: 60999}}),
		Survey: seen(alloc.Survey{
			Range: alloc.Range{First: 8080, Last: 9999}, Total: 1920, Free: 1918, Leased: 2,
			Holders: []sockets.Holder{{Port: 8080, Kind: "worker", PID: 10, Program: "hive"}},
		}),
		Leases:      seen([]store.Lease{{Port: 8080, State: store.LeaseHeld, WorkerID: "w-1"}, {Port: 8081, State: store.LeaseReleasing}}),
		Reasons:     map[string]string{},
		Examination: &hive.Examination{At: now.Add(-3 * time.Hour)}, FileBytes: 5 << 20,
		Backups: seen(hive.Backups{Count: 2, Newest: now.Add(-50 * time.Hour)}), BackupEvery: 24 * time.Hour,
		Admits: seen(true), DiskFree: seen(int64(41) << 30),
		Newest: seen(hive.Dated{What: "event 7", At: now.Add(-time.Second)}), Synchronised: seen(true),
		Kernel: "6.18.2", Features: proc.Features{PidfdInode: true, ExitInfo: true, CgroupV2: true}, BoundListed: seen(true),
		Cgroups: true, Trace: seen(true), Hiding: seen(host.Hiding{Mode: "off"}),
		Unit:        seen(host.Unit{Name: "hive.service", KillMode: "process", Delegate: true}),
		First:       seen(host.First{Program: "systemd"}),
		Descriptors: seen(host.Limit{Max: 20000, Used: 12, Where: "RLIMIT_NOFILE"}),
		Tasks:       seen([]host.Limit{{Max: 30000, Used: 90, Where: "/sys/fs/cgroup/pids.max"}}),
	}
}

func named(t *testing.T, all []hive.Checkup, name string) hive.Checkup {
	t.Helper()
	i := slices.IndexFunc(all, func(c hive.Checkup) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return all[i]
}

// complete are the rules for every Checkup: what is not ok says what it means
// and what to do, and all of it is one line.
func complete(t *testing.T, all []hive.Checkup) {
	t.Helper()
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
		require.NotEmpty(t, c.Found, "%+v", c)
		require.Equal(t, c.Condition == hive.ConditionOK, c.Means == "", "%+v", c)
		require.Equal(t, c.Condition == hive.ConditionOK, c.Do == "", "%+v", c)
		require.NotContains(t, c.Found+c.Means+c.Do, "\n", "%+v", c)
		require.NotContains(t, c.Found+c.Means+c.Do, "%!", "%+v", c)
	}
	require.Equal(t, checkNames, names)
}

func TestHealthyNeedsNothing(t *testing.T) {
	t.Parallel()
	all := hive.Judge(healthy())
	complete(t, all)
	for _, c := range all {
		require.Equal(t, hive.ConditionOK, c.Condition, "%+v", c)
	}
	require.Equal(t, "8080-9999; outgoing connections use 32768-60999", named(t, all, "range").Found)
	require.Equal(t, "1920 in all, 1918 free, 2 leased", named(t, all, "ports").Found)
	require.Equal(t, "5.0 MiB, whole when checked 3h ago; last backup 2d ago, 2 are kept", named(t, all, "file").Found)
	require.Equal(t, "41.0 GiB free for /var/lib/hive", named(t, all, "disk").Found)
	require.Equal(t, "20000 allowed, 12 in use; a full range needs 4096", named(t, all, "descriptors").Found)
}

// A row changes one thing about a healthy hive and says what becomes of one
// check; of the others nothing may change. Found, means and do are searched for
// the texts of want, in this order.
type row struct {
	what   string
	change func(*hive.Facts)
	check  string
	is     hive.Condition
	want   []string
}

func try(t *testing.T, rows []row) {
	t.Helper()
	before := hive.Judge(healthy())
	for _, r := range rows {
		f := healthy()
		r.change(f)
		all := hive.Judge(f)
		complete(t, all)
		for i, c := range all {
			if c.Name != r.check {
				require.Equal(t, before[i].Condition, c.Condition, "%s: %+v", r.what, c)
				continue
			}
			require.Equal(t, r.is, c.Condition, "%s: %+v", r.what, c)
			rest := c.Found + "\n" + c.Means + "\n" + c.Do
			for _, want := range r.want {
				_, after, ok := strings.Cut(rest, want)
				require.True(t, ok, "%s: %q is not in %q", r.what, want, rest)
				rest = after
			}
		}
	}
}

func TestDoctorOnPorts(t *testing.T) {
	t.Parallel()
	outgoing := func(first, last uint16, reserved ...alloc.Range) func(*hive.Facts) {
		return func(f *hive.Facts) {
			f.Local.Value = host.LocalPorts{Range: alloc.Range{First: first, Last: last}, Reserved: reserved}
		}
	}
	squatter := func(hs ...sockets.Holder) func(*hive.Facts) {
		return func(f *hive.Facts) { f.Survey.Value.Holders = hs }
	}
	try(t, []row{
		{"half the range", outgoing(9000, 60999), "range", hive.ConditionCare, []string{
			"9000-9999 are also ports of outgoing", "9000-60999", "`sysctl -w net.ipv4.ip_local_reserved_ports=9000-9999`",
		}},
		{
			"what is reserved stays so", outgoing(1024, 65535, alloc.Range{First: 53, Last: 53}, alloc.Range{First: 8090, Last: 9000}, alloc.Range{First: 65535, Last: 65535}),
			"range", hive.ConditionCare,
			[]string{"8080-8089,9001-9999 are", "=53,8080-9999,65535`"},
		},
		{"all reserved", outgoing(1024, 65535, alloc.Range{First: 8080, Last: 9999}), "range", hive.ConditionOK, []string{"keeps outgoing connections away"}},
		{"a port outside the range", func(f *hive.Facts) {
			f.Leases.Value = append(f.Leases.Value, store.Lease{Port: 40000, State: store.LeaseHeld})
		}, "range", hive.ConditionCare, []string{"40000 are", "=40000`"}},
		{"no sysctl", func(f *hive.Facts) { f.Local = failed[host.LocalPorts]("open /proc/x: permission denied") }, "range", hive.ConditionUnknown, []string{"permission denied"}},

		{"all leased", func(f *hive.Facts) { f.Survey.Value.Free, f.Survey.Value.Leased = 0, 1920 }, "ports", hive.ConditionCare, []string{"0 free, 1920 leased", "ports_exhausted"}},
		{
			"a squatter", squatter(sockets.Holder{Port: 8081, Kind: sockets.KindListener, PID: 4711, Program: "python3", User: "bob"}),
			"squatters", hive.ConditionCare,
			[]string{"8081 python3 (pid 4711, user bob)", "port_unavailable", "`8081` to `ports.reserved`"},
		},
		{
			"another hive, and nobody knows", squatter(sockets.Holder{Port: 8081, Kind: sockets.KindHive}, sockets.Holder{Port: 8082, Kind: sockets.KindUnknown}),
			"squatters", hive.ConditionCare,
			[]string{"8081 another hive; 8082 an unknown process", "`8081-8082`"},
		},
		{"many", func(f *hive.Facts) {
			for p := uint16(8100); p < 8120; p++ {
				f.Survey.Value.Holders = append(f.Survey.Value.Holders, sockets.Holder{Port: p, Kind: sockets.KindBound, PID: int(p), Program: "x"})
			}
		}, "squatters", hive.ConditionCare, []string{"8107 x (pid 8107); 12 more\n", "`8100-8119`"}},
		{"those who may", func(f *hive.Facts) {
			f.Apart = []alloc.Range{{First: 8081, Last: 8089}}
			f.Survey.Value.Holders = []sockets.Holder{{Port: 8085, Kind: sockets.KindListener, PID: 3}, {Port: 9001, Kind: "ttl", PID: 4}, {Port: 9002, Kind: sockets.KindConnection, PID: 5}, {Port: 80, Kind: sockets.KindListener, PID: 6}}
		}, "squatters", hive.ConditionOK, []string{"nobody else is on 8080-9999"}},

		{"some drain", func(f *hive.Facts) { f.Survey.Value.Draining = 3 }, "draining", hive.ConditionOK, []string{"3 ports wait"}},
		{"only those that drain are left", func(f *hive.Facts) { f.Survey.Value.Free, f.Survey.Value.Draining = 0, 1 }, "draining", hive.ConditionCare, []string{"1 port waits", "SO_REUSEADDR"}},
	})
}

func TestDoctorOnLeases(t *testing.T) {
	t.Parallel()
	lease := func(state store.LeaseState) func(*hive.Facts) {
		return func(f *hive.Facts) {
			f.Leases.Value = append(f.Leases.Value, store.Lease{Port: 8085, WorkerID: "cpu-8085-abcdef", State: state})
		}
	}
	try(t, []row{
		{"quarantined", lease(store.LeaseQuarantined), "quarantined", hive.ConditionCare, []string{"8085 of cpu-8085-abcdef\n", "every 30s"}},
		{"quarantined, and held", func(f *hive.Facts) {
			lease(store.LeaseQuarantined)(f)
			f.Survey.Value.Holders = append(f.Survey.Value.Holders, sockets.Holder{Port: 8085, Kind: "worker", PID: 9, Program: "nc"})
		}, "quarantined", hive.ConditionCare, []string{"8085 of cpu-8085-abcdef, held by nc (pid 9)\n"}},
		{"unverified", lease(store.LeaseUnverified), "unverified", hive.ConditionCare, []string{"8085 cpu-8085-abcdef\n", "refuses to stop it", "every 30s"}},
		{"unverified, with the reason", func(f *hive.Facts) {
			lease(store.LeaseUnverified)(f)
			f.Reasons["cpu-8085-abcdef"] = "another hive on this machine claims its port"
		}, "unverified", hive.ConditionCare, []string{"8085 cpu-8085-abcdef: another hive on this machine claims its port\n"}},
		{"strays", func(f *hive.Facts) {
			f.Strays.Value = []proc.Stray{{PID: 7, Program: "tmux", WorkerID: "cpu-8080-x"}, {PID: 8, Program: "sccache"}}
		}, "members", hive.ConditionCare, []string{"tmux (pid 7) of cpu-8080-x; sccache (pid 8)\n", "`ps -fp 7,8`"}},
		{"no strays to be seen", func(f *hive.Facts) { f.Strays = failed[[]proc.Stray]("sweep: no /proc") }, "members", hive.ConditionUnknown, []string{"sweep: no /proc"}},
	})
}

func TestDoctorOnTheFile(t *testing.T) {
	t.Parallel()
	try(t, []row{
		{"not checked yet", func(f *hive.Facts) { f.Examination = nil }, "file", hive.ConditionUnknown, []string{"not over", "again"}},
		{"damaged", func(f *hive.Facts) {
			f.Examination.Err = errors.Join(errors.New("leases/8080: bad checksum"), errors.New("more"))
		}, "file", hive.ConditionCare, []string{"leases/8080: bad checksum, found 3h ago\n", "`hivectl db salvage --data-dir /var/lib/hive`"}},
		{"no backup", func(f *hive.Facts) { f.Backups.Value = hive.Backups{} }, "file", hive.ConditionOK, []string{"no backup"}},
		{"no automatic backups", func(f *hive.Facts) { f.BackupEvery = 0 }, "file", hive.ConditionOK, []string{"backup.interval is 0s"}},
		{"a backup failed", func(f *hive.Facts) { f.BackupFault = errors.New("disk full\nmore") }, "file", hive.ConditionCare, []string{"could not be made: disk full\n", "hivectl db backup"}},
		{"little room", func(f *hive.Facts) { f.DiskFree.Value = 100 << 20 }, "disk", hive.ConditionCare, []string{"100.0 MiB free for /var/lib/hive\n"}},
		{"full", func(f *hive.Facts) { f.DiskFree.Value, f.Admits.Value = 512, false }, "disk", hive.ConditionCare, []string{"512 bytes free", "full\n", "disk_full"}},
		{"the reserve goes on being used", func(f *hive.Facts) { f.Admits.Value = false }, "disk", hive.ConditionCare, []string{"disk_full"}},
		{"how much is not known", func(f *hive.Facts) { f.DiskFree = failed[int64]("statfs") }, "disk", hive.ConditionOK, []string{"not known"}},
		{"broken", func(f *hive.Facts) { f.Admits = failed[bool]("store has failed") }, "disk", hive.ConditionUnknown, []string{"store has failed"}},
		{"copied", func(f *hive.Facts) { f.Relocated = true }, "origin", hive.ConditionCare, []string{"first start", "once more"}},

		{"turned back", func(f *hive.Facts) { f.Newest.Value.At = f.Now.Add(90 * time.Minute) }, "clock", hive.ConditionCare, []string{"1h30m0s behind event 7"}},
		{"read a moment apart", func(f *hive.Facts) { f.Newest.Value.At = f.Now.Add(time.Second) }, "clock", hive.ConditionOK, nil},
		{"not synchronised", func(f *hive.Facts) { f.Synchronised.Value = false }, "clock", hive.ConditionUnknown, []string{"STA_UNSYNC", "timedatectl"}},
		{"not allowed to ask", func(f *hive.Facts) { f.Synchronised = failed[bool]("adjtimex: operation not permitted") }, "clock", hive.ConditionUnknown, []string{"not permitted"}},
		{"the newest record cannot be read", func(f *hive.Facts) { f.Newest = failed[hive.Dated]("events: damaged") }, "clock", hive.ConditionUnknown, []string{"damaged"}},
	})
}

func TestDoctorOnThePlace(t *testing.T) {
	t.Parallel()
	try(t, []row{
		{"an old kernel works", func(f *hive.Facts) {
			f.Kernel, f.Features.PidfdInode, f.Features.ExitInfo, f.BoundListed.Value = "5.4.0", false, false, false
		}, "kernel", hive.ConditionOK, []string{"Linux 5.4.0, no pidfd inodes", "start times", "no exit info", "bound ports not listed"}},
		{"no socket table", func(f *hive.Facts) { f.BoundListed = failed[bool]("sock_diag") }, "kernel", hive.ConditionUnknown, []string{"sock_diag"}},
		{"no cgroup", func(f *hive.Facts) { f.Cgroups, f.Features.CgroupV2 = false, false }, "cgroup", hive.ConditionCare, []string{"best effort", "Delegate=yes"}},
		{"a cgroup since", func(f *hive.Facts) { f.Cgroups = false }, "cgroup", hive.ConditionCare, []string{"start it again"}},

		{"not needed", func(f *hive.Facts) { f.Trace.Value = false }, "ptrace", hive.ConditionOK, []string{"nothing that it would be needed for"}},
		{"a stranger nobody can name", func(f *hive.Facts) {
			f.Trace.Value = false
			f.Apart = []alloc.Range{{First: 8085, Last: 8085}} // else it squats, too
			f.Survey.Value.Holders = []sockets.Holder{{Port: 8085, Kind: sockets.KindListener, User: "www"}}
		}, "ptrace", hive.ConditionCare, []string{"who holds 8085", "cap_sys_ptrace"}},
		{"capabilities", func(f *hive.Facts) { f.Trace = failed[bool]("no CapEff") }, "ptrace", hive.ConditionUnknown, []string{"no CapEff"}},
		{"hidepid, seen past", func(f *hive.Facts) { f.Hiding.Value.Mode = "invisible" }, "hidepid", hive.ConditionOK, []string{"hidepid=invisible", "CAP_SYS_PTRACE"}},
		{"hidepid, by group", func(f *hive.Facts) {
			f.Hiding.Value = host.Hiding{Mode: "noaccess", Exempt: true}
			f.Trace.Value = false
		}, "hidepid", hive.ConditionOK, []string{"hidepid=noaccess", "group"}},
		{"hidepid", func(f *hive.Facts) { f.Hiding.Value.Mode, f.Trace.Value = "invisible", false }, "hidepid", hive.ConditionCare, []string{"hidepid=invisible", "ProtectProc"}},
		{"no mounts", func(f *hive.Facts) { f.Hiding = failed[host.Hiding]("/proc is not a mount") }, "hidepid", hive.ConditionUnknown, nil},

		{"no unit", func(f *hive.Facts) { f.Unit.Value = host.Unit{} }, "systemd", hive.ConditionOK, []string{"no unit"}},
		{"a session", func(f *hive.Facts) { f.Unit.Value = host.Unit{Name: "session-2.scope"} }, "systemd", hive.ConditionOK, []string{"session-2.scope"}},
		{
			"the default", func(f *hive.Facts) { f.Unit.Value.KillMode, f.Unit.Value.Delegate = "control-group", false }, "systemd", hive.ConditionCare,
			[]string{"hive.service with KillMode=control-group, Delegate=no", "kills the workers", "`systemctl edit hive.service`"},
		},
		{"mixed kills too", func(f *hive.Facts) { f.Unit.Value.KillMode = "mixed" }, "systemd", hive.ConditionCare, []string{"kills the workers"}},
		{"none", func(f *hive.Facts) { f.Unit.Value.KillMode = "none" }, "systemd", hive.ConditionOK, nil},
		{"not delegated", func(f *hive.Facts) { f.Unit.Value.Delegate = false }, "systemd", hive.ConditionCare, []string{"Delegate=no", "cgroups"}},
		{"nobody to ask", func(f *hive.Facts) {
			f.Unit = hive.Fact[host.Unit]{Value: host.Unit{Name: "hive.service"}, Err: errors.New("systemctl is not there")}
		}, "systemd", hive.ConditionUnknown, []string{"hive.service; systemctl is not there", "control-group", "KillMode=process"}},
		{"no cgroups to read", func(f *hive.Facts) { f.Unit = failed[host.Unit]("no /proc/self/cgroup") }, "systemd", hive.ConditionUnknown, nil},
	})
}

func TestDoctorOnInit(t *testing.T) {
	t.Parallel()
	first := func(p host.First) func(*hive.Facts) { return func(f *hive.Facts) { f.First.Value = p } }
	try(t, []row{
		{"hive itself", first(host.First{Program: "hive", Self: true, Container: true}), "init", hive.ConditionCare, []string{"hive is PID 1", "do not survive"}},
		{"docker --init", first(host.First{Program: "docker-init", Parent: true, Container: true}), "init", hive.ConditionCare, []string{"docker-init, which ends with hive"}},
		{"a supervisor", first(host.First{Program: "supervisord", Parent: true, Container: true}), "init", hive.ConditionOK, []string{"PID 1 is supervisord"}},
		{"who knows", first(host.First{Program: "launcher", Parent: true, Container: true}), "init", hive.ConditionUnknown, []string{"launcher", "if it ends"}},
		{"a container, below a supervisor", first(host.First{Program: "tini", Container: true}), "init", hive.ConditionOK, nil},
		{"a machine", first(host.First{Program: "sh", Parent: true}), "init", hive.ConditionOK, nil},
		{"a lazy one", first(host.First{Program: "sleep", Container: true, Zombies: []int{7, 8}}), "init", hive.ConditionCare, []string{"sleep and does not reap: 2 processes", "pid 7; 8"}},
		{"hidden", func(f *hive.Facts) { f.First = failed[host.First]("look at PID 1") }, "init", hive.ConditionUnknown, nil},
	})
}

func TestDoctorOnLimits(t *testing.T) {
	t.Parallel()
	tasks := func(l ...host.Limit) func(*hive.Facts) { return func(f *hive.Facts) { f.Tasks.Value = l } }
	try(t, []row{
		{"none", func(f *hive.Facts) { f.Descriptors.Value.Max = host.Unlimited }, "descriptors", hive.ConditionOK, []string{"no limit"}},
		{"enough", func(f *hive.Facts) { f.Descriptors.Value.Max = 4096 }, "descriptors", hive.ConditionOK, nil},
		{
			"the usual default", func(f *hive.Facts) { f.Descriptors.Value.Max = 1024 }, "descriptors", hive.ConditionCare,
			[]string{"1024 allowed", "1920 ports needs 4096", "384 workers", "LimitNOFILE=4096"},
		},
		{"hardly any", func(f *hive.Facts) { f.Descriptors.Value.Max = 64 }, "descriptors", hive.ConditionCare, []string{"about 0 workers"}},
		{"not known", func(f *hive.Facts) { f.Descriptors = failed[host.Limit]("getrlimit") }, "descriptors", hive.ConditionUnknown, nil},

		{"none", tasks(), "tasks", hive.ConditionOK, []string{"no limit"}},
		{"systemd's default", tasks(host.Limit{Max: 4915, Used: 200, Where: "/x/pids.max"}), "tasks", hive.ConditionOK, []string{"4915", "/x/pids.max", "200 in use"}},
		{"the tightest counts", tasks(host.Limit{Max: 9000, Used: 10, Where: "a"}, host.Limit{Max: 9999, Used: 9900, Where: "b"}), "tasks", hive.ConditionCare, []string{"9999", "(b), 9900 in use", "TasksMax"}},
		{"over it", tasks(host.Limit{Max: 5, Used: 9, Where: "b"}), "tasks", hive.ConditionCare, []string{"does not start"}},
		{"a small one", tasks(host.Limit{Max: 1000, Where: "RLIMIT_NPROC"}), "tasks", hive.ConditionCare, []string{"1000", "RLIMIT_NPROC", "1920 ports cannot be filled"}},
		{"not known", func(f *hive.Facts) { f.Tasks = hive.Fact[[]host.Limit]{Err: fs.ErrPermission} }, "tasks", hive.ConditionUnknown, nil},
	})
}
