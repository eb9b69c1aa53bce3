package doctor_test

import (
	"io/fs"
	"testing"

	"rbeehive/hive/doctor"
	"rbeehive/hive/host"
)

func TestLimits(t *testing.T) { t.Parallel(); evaluate(t, limitRows()) }

func limitRows() []row {
	tasks := func(l ...host.Limit) func(*doctor.Facts) { return func(f *doctor.Facts) { f.Host.Tasks.Value = l } }
	return []row{
		{"none", func(f *doctor.Facts) { f.Host.Descriptors.Value.Max = host.Unlimited }, "descriptors", doctor.OK, []string{"no limit"}},
		{"enough", func(f *doctor.Facts) { f.Host.Descriptors.Value.Max = 4096 }, "descriptors", doctor.OK, nil},
		{
			"the usual default", func(f *doctor.Facts) { f.Host.Descriptors.Value.Max = 1024 }, "descriptors", doctor.Warning,
			[]string{"1024 allowed", "1920 ports needs 4096", "384 workers", "LimitNOFILE=4096"},
		},
		{"hardly any", func(f *doctor.Facts) { f.Host.Descriptors.Value.Max = 64 }, "descriptors", doctor.Warning, []string{"about 0 workers"}},
		{"not known", func(f *doctor.Facts) { f.Host.Descriptors = failed[host.Limit]("getrlimit") }, "descriptors", doctor.Unknown, nil},

		{"none", tasks(), "tasks", doctor.OK, []string{"no limit"}},
		{"systemd's default", tasks(host.Limit{Max: 4915, Used: 200, Where: "/x/pids.max"}), "tasks", doctor.OK, []string{"4915", "/x/pids.max", "200 in use"}},
		{"the tightest counts", tasks(host.Limit{Max: 9000, Used: 10, Where: "a"}, host.Limit{Max: 9999, Used: 9900, Where: "b"}), "tasks", doctor.Warning, []string{"9999", "(b), 9900 in use", "TasksMax"}},
		{"over it", tasks(host.Limit{Max: 5, Used: 9, Where: "b"}), "tasks", doctor.Warning, []string{"does not start"}},
		{"a small one", tasks(host.Limit{Max: 1000, Where: "RLIMIT_NPROC"}), "tasks", doctor.Warning, []string{"1000", "RLIMIT_NPROC", "1920 ports cannot be filled"}},
		{"not known", func(f *doctor.Facts) { f.Host.Tasks = doctor.Fact[[]host.Limit]{Err: fs.ErrPermission} }, "tasks", doctor.Unknown, nil},
	}
}
