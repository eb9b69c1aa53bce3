package doctor_test

import (
	"testing"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/doctor"
	"rbeehive/hive/host"
)

func TestKernel(t *testing.T) { t.Parallel(); evaluate(t, kernelRows()) }

func kernelRows() []row {
	return []row{
		{"an old kernel works", func(f *doctor.Facts) {
			f.Host.Kernel, f.Host.Features.PidfdInode, f.Host.Features.ExitInfo, f.BoundListed.Value = "5.4.0", false, false, false
		}, "kernel", doctor.OK, []string{"Linux 5.4.0, no pidfd inodes", "start times", "no exit info", "bound ports not listed"}},
		{"no socket table", func(f *doctor.Facts) { f.BoundListed = failed[bool]("sock_diag") }, "kernel", doctor.Unknown, []string{"sock_diag"}},
		{"no cgroup", func(f *doctor.Facts) { f.Cgroups, f.Host.Features.CgroupV2 = false, false }, "cgroup", doctor.Warning, []string{"best effort", "Delegate=yes"}},
		{"a cgroup since", func(f *doctor.Facts) { f.Cgroups = false }, "cgroup", doctor.Warning, []string{"writable now", "restart hive"}},

		{"not needed", func(f *doctor.Facts) { f.Host.Ptrace.Value = false }, "ptrace", doctor.OK, []string{"nothing that needs it"}},
		{"not needed for what has no process", func(f *doctor.Facts) {
			f.Host.Ptrace.Value = false
			f.Survey.Value.Holders = append(f.Survey.Value.Holders, sockets.Holder{Port: 8085, Kind: sockets.KindDraining})
		}, "ptrace", doctor.OK, []string{"nothing that needs it"}},
		{"a stranger nobody can name", func(f *doctor.Facts) {
			f.Host.Ptrace.Value = false
			f.Reserved = []alloc.Range{{First: 8085, Last: 8085}} // else it squats, too
			f.Survey.Value.Holders = []sockets.Holder{{Port: 8085, Kind: sockets.KindListener, User: "www"}}
		}, "ptrace", doctor.Warning, []string{"who holds 8085", "cap_sys_ptrace"}},
		{"capabilities", func(f *doctor.Facts) { f.Host.Ptrace = failed[bool]("no CapEff") }, "ptrace", doctor.Unknown, []string{"no CapEff"}},
		{"hidepid, seen past", func(f *doctor.Facts) { f.Host.Hiding.Value.Mode = "invisible" }, "hidepid", doctor.OK, []string{"hidepid=invisible", "CAP_SYS_PTRACE"}},
		{"hidepid, by group", func(f *doctor.Facts) {
			f.Host.Hiding.Value = host.Hiding{Mode: "noaccess", Exempt: true}
			f.Host.Ptrace.Value = false
		}, "hidepid", doctor.OK, []string{"hidepid=noaccess", "group"}},
		{"hidepid", func(f *doctor.Facts) { f.Host.Hiding.Value.Mode, f.Host.Ptrace.Value = "invisible", false }, "hidepid", doctor.Warning, []string{"hidepid=invisible", "ProtectProc"}},
		{"hidepid, by both", func(f *doctor.Facts) {
			f.Host.Hiding.Value = host.Hiding{Mode: "invisible", Exempt: true}
		}, "hidepid", doctor.OK, []string{"group that is exempt"}},
		{"no mounts", func(f *doctor.Facts) { f.Host.Hiding = failed[host.Hiding]("/proc is not a mount") }, "hidepid", doctor.Unknown, nil},
	}
}
