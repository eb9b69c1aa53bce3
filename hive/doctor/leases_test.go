package doctor_test

import (
	"testing"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/doctor"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

func TestLeases(t *testing.T) { t.Parallel(); evaluate(t, leaseRows()) }

func leaseRows() []row {
	lease := func(state store.LeaseState) func(*doctor.Facts) {
		return func(f *doctor.Facts) {
			f.Leases.Value = append(f.Leases.Value, store.Lease{Port: 8085, WorkerID: "cpu-8085-abcdef", State: state})
		}
	}
	return []row{
		{"quarantined", lease(store.LeaseQuarantined), "quarantined", doctor.Warning, []string{"8085 of cpu-8085-abcdef\n", "every 30s"}},
		{"quarantined, and held", func(f *doctor.Facts) {
			lease(store.LeaseQuarantined)(f)
			f.Survey.Value.Holders = append(f.Survey.Value.Holders, sockets.Holder{Port: 8085, Kind: "worker", PID: 9, Program: "nc"})
		}, "quarantined", doctor.Warning, []string{"8085 of cpu-8085-abcdef, held by nc (pid 9)\n"}},
		{"unverified", lease(store.LeaseUnverified), "unverified", doctor.Warning, []string{"8085 cpu-8085-abcdef\n", "refuses to stop it", "every 30s"}},
		{"unverified, with the reason", func(f *doctor.Facts) {
			lease(store.LeaseUnverified)(f)
			f.Reasons["cpu-8085-abcdef"] = "another hive on this machine claims its port"
		}, "unverified", doctor.Warning, []string{"8085 cpu-8085-abcdef: another hive on this machine claims its port\n"}},
		{"a name that breaks the line", func(f *doctor.Facts) {
			f.Orphans.Value = []proc.Orphan{{PID: 7, Program: "a\nb\x1b[2J"}}
		}, "members", doctor.Warning, []string{`a\nb\x1b[2J (pid 7)`}},
		{"quarantined, of a program that hive did not start", func(f *doctor.Facts) {
			f.Leases.Value = append(f.Leases.Value, store.Lease{Port: 8085, Owner: "grafana", LeaseID: "l-1", State: store.LeaseQuarantined}, store.Lease{Port: 8086, LeaseID: "l-2", State: store.LeaseQuarantined})
		}, "quarantined", doctor.Warning, []string{"8085 of grafana; 8086 of lease l-2\n", "`hivectl ports`"}},
		{"unverified, of a program that hive did not start", func(f *doctor.Facts) {
			f.Leases.Value = append(f.Leases.Value, store.Lease{Port: 8085, Owner: "grafana", Reason: "its start time cannot be read", State: store.LeaseUnverified})
		}, "unverified", doctor.Warning, []string{"8085 grafana: its start time cannot be read\n"}},
		{"orphans", func(f *doctor.Facts) {
			f.Orphans.Value = []proc.Orphan{{PID: 7, Program: "tmux", WorkerID: "cpu-8080-x"}, {PID: 8, Program: "sccache"}}
		}, "members", doctor.Warning, []string{"tmux (pid 7) of cpu-8080-x; sccache (pid 8)\n", "`ps -fp 7,8`"}},
		{"no processes to be seen", func(f *doctor.Facts) { f.Orphans = failed[[]proc.Orphan]("sweep: no /proc") }, "members", doctor.Unknown, []string{"sweep: no /proc"}},
	}
}
