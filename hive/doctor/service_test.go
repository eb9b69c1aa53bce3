package doctor_test

import (
	"errors"
	"testing"

	"rbeehive/hive/doctor"
	"rbeehive/hive/host"
)

func TestService(t *testing.T) { t.Parallel(); evaluate(t, serviceRows()) }

func serviceRows() []row {
	first := func(p host.First) func(*doctor.Facts) { return func(f *doctor.Facts) { f.Host.Init.Value = p } }
	return []row{
		{"no unit", func(f *doctor.Facts) { f.Host.Unit.Value = host.Unit{} }, "systemd", doctor.OK, []string{"no unit"}},
		{"a session", func(f *doctor.Facts) { f.Host.Unit.Value = host.Unit{Name: "session-2.scope"} }, "systemd", doctor.OK, []string{"session-2.scope"}},
		{
			"the default", func(f *doctor.Facts) { f.Host.Unit.Value.KillMode, f.Host.Unit.Value.Delegate = "control-group", false }, "systemd", doctor.Warning,
			[]string{"hive.service with KillMode=control-group, Delegate=no", "kills the workers", "`systemctl edit hive.service`"},
		},
		{"mixed kills too", func(f *doctor.Facts) { f.Host.Unit.Value.KillMode = "mixed" }, "systemd", doctor.Warning, []string{"kills the workers"}},
		{"none", func(f *doctor.Facts) { f.Host.Unit.Value.KillMode = "none" }, "systemd", doctor.OK, nil},
		{"not delegated", func(f *doctor.Facts) { f.Host.Unit.Value.Delegate = false }, "systemd", doctor.Warning, []string{"Delegate=no", "cgroups"}},
		{"nobody to ask", func(f *doctor.Facts) {
			f.Host.Unit = doctor.Fact[host.Unit]{Value: host.Unit{Name: "hive.service"}, Err: errors.New("systemctl is not there")}
		}, "systemd", doctor.Unknown, []string{"hive.service; systemctl is not there", "control-group", "KillMode=process"}},
		{"no cgroups to read", func(f *doctor.Facts) { f.Host.Unit = failed[host.Unit]("no /proc/self/cgroup") }, "systemd", doctor.Unknown, nil},

		{"hive itself", first(host.First{Program: "hive", Self: true, Container: true}), "init", doctor.Warning, []string{"hive is PID 1", "do not survive"}},
		{"docker --init", first(host.First{Program: "docker-init", Parent: true, Container: true}), "init", doctor.Warning, []string{"docker-init, which exits with hive"}},
		{"a supervisor", first(host.First{Program: "supervisord", Parent: true, Container: true}), "init", doctor.OK, []string{"PID 1 is supervisord"}},
		{"who knows", first(host.First{Program: "launcher", Parent: true, Container: true}), "init", doctor.Unknown, []string{"launcher", "if it exits"}},
		{"a container, below a supervisor", first(host.First{Program: "tini", Container: true}), "init", doctor.OK, nil},
		{"a machine", first(host.First{Program: "sh", Parent: true}), "init", doctor.OK, nil},
		{"a lazy one", first(host.First{Program: "sleep", Container: true, Zombies: []int{7, 8}}), "init", doctor.Warning, []string{"sleep and does not reap: 2 zombie processes", "pid 7; 8"}},
		{"one zombie", first(host.First{Program: "sleep", Container: true, Zombies: []int{7}}), "init", doctor.Warning, []string{"1 zombie process (pid 7)", "inherited by PID 1"}},
		{"hidden", func(f *doctor.Facts) { f.Host.Init = failed[host.First]("look at PID 1") }, "init", doctor.Unknown, nil},
	}
}
