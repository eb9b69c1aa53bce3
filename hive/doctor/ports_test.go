package doctor_test

import (
	"testing"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/doctor"
	"rbeehive/hive/host"
	"rbeehive/store"
)

func TestPorts(t *testing.T) { t.Parallel(); evaluate(t, portRows()) }

func portRows() []row {
	outgoing := func(first, last uint16, reserved ...alloc.Range) func(*doctor.Facts) {
		return func(f *doctor.Facts) {
			f.Host.LocalPorts.Value = host.LocalPorts{Range: alloc.Range{First: first, Last: last}, Reserved: reserved}
		}
	}
	squatter := func(hs ...sockets.Holder) func(*doctor.Facts) {
		return func(f *doctor.Facts) { f.Survey.Value.Holders = hs }
	}
	return []row{
		{"half the range", outgoing(9000, 60999), "range", doctor.Warning, []string{
			"9000-9999 are also ports of outgoing", "9000-60999", "`sysctl -w net.ipv4.ip_local_reserved_ports=9000-9999`",
		}},
		{
			"what is reserved stays so", outgoing(1024, 65535, alloc.Range{First: 53, Last: 53}, alloc.Range{First: 8090, Last: 9000}, alloc.Range{First: 65535, Last: 65535}),
			"range", doctor.Warning,
			[]string{"8080-8089,9001-9999 are", "=53,8080-9999,65535`"},
		},
		{"all reserved", outgoing(1024, 65535, alloc.Range{First: 8080, Last: 9999}), "range", doctor.OK, []string{"keeps outgoing connections away"}},
		{"a port outside the range", func(f *doctor.Facts) {
			f.Leases.Value = append(f.Leases.Value, store.Lease{Port: 40000, State: store.LeaseHeld})
		}, "range", doctor.Warning, []string{"40000 are", "=40000`"}},
		{"no sysctl", func(f *doctor.Facts) { f.Host.LocalPorts = failed[host.LocalPorts]("open /proc/x: permission denied") }, "range", doctor.Unknown, []string{"permission denied"}},

		{"the last one is free", func(f *doctor.Facts) { f.Survey.Value.Free, f.Survey.Value.Leased = 1, 1919 }, "ports", doctor.OK, []string{"1 free, 1919 leased"}},
		{"all leased", func(f *doctor.Facts) { f.Survey.Value.Free, f.Survey.Value.Leased = 0, 1920 }, "ports", doctor.Warning, []string{"0 free, 1920 leased", "ports_exhausted"}},
		{"some forbidden", func(f *doctor.Facts) { f.Survey.Value.Forbidden, f.Host.LocalPorts.Value.Unprivileged = 5, 8085 }, "forbidden", doctor.Warning, []string{
			"does not let hive bind 5 ports of 8080-9999: those below 8085 need CAP_NET_BIND_SERVICE (net.ipv4.ip_unprivileged_port_start)",
			"begin `ports.range` in hive.yaml at 8085", "`sysctl -w net.ipv4.ip_unprivileged_port_start=8080`",
		}},
		{"one forbidden by a policy", func(f *doctor.Facts) { f.Survey.Value.Forbidden = 1 }, "forbidden", doctor.Warning, []string{"1 port of 8080-9999\n", "take other ports"}},
		{
			"a squatter", squatter(sockets.Holder{Port: 8081, Kind: sockets.KindListener, PID: 4711, Program: "python3", User: "bob"}),
			"squatters", doctor.Warning,
			[]string{"8081 python3 (pid 4711, user bob)", "port_unavailable", "`8081` to `ports.reserved`"},
		},
		{
			"another hive, and nobody knows", squatter(sockets.Holder{Port: 8081, Kind: sockets.KindHive}, sockets.Holder{Port: 8082, Kind: sockets.KindUnknown}),
			"squatters", doctor.Warning,
			[]string{"8081 another hive; 8082 an unknown process", "`8081-8082`"},
		},
		{"a worker's child", func(f *doctor.Facts) {
			f.Survey.Value.Holders = []sockets.Holder{{Port: 8081, Kind: sockets.KindListener, PID: 4711, Program: "node"}}
			f.Unleased.Value = map[uint16]string{8081: "web-8080-x1y2z3"}
		}, "unleased", doctor.Warning, []string{"8081 worker web-8080-x1y2z3: node (pid 4711)\n", "`ports: N`", "outside 8080-9999"}},
		{"a worker's child that may", func(f *doctor.Facts) {
			f.Reserved = []alloc.Range{{First: 8081, Last: 8089}}
			f.Survey.Value.Holders = []sockets.Holder{{Port: 8081, Kind: sockets.KindListener, PID: 4711, Program: "node"}}
			f.Unleased.Value = map[uint16]string{8081: "web-8080-x1y2z3"}
		}, "unleased", doctor.OK, nil},
		{"many", func(f *doctor.Facts) {
			for p := uint16(8100); p < 8120; p++ {
				f.Survey.Value.Holders = append(f.Survey.Value.Holders, sockets.Holder{Port: p, Kind: sockets.KindBound, PID: int(p), Program: "x"})
			}
		}, "squatters", doctor.Warning, []string{"8107 x (pid 8107); 12 more\n", "`8100-8119`"}},
		{"one more than a line has", func(f *doctor.Facts) {
			for p := uint16(8100); p < 8109; p++ {
				f.Survey.Value.Holders = append(f.Survey.Value.Holders, sockets.Holder{Port: p, Kind: sockets.KindBound, PID: int(p), Program: "x"})
			}
		}, "squatters", doctor.Warning, []string{"8107 x (pid 8107); 8108 x (pid 8108)\n"}},
		{"those who may", func(f *doctor.Facts) {
			f.Reserved = []alloc.Range{{First: 8081, Last: 8089}}
			f.Survey.Value.Holders = []sockets.Holder{{Port: 8085, Kind: sockets.KindListener, PID: 3}, {Port: 9001, Kind: "ttl", PID: 4}, {Port: 9002, Kind: sockets.KindConnection, PID: 5}, {Port: 80, Kind: sockets.KindListener, PID: 6}}
		}, "squatters", doctor.OK, []string{"no other process holds a port of 8080-9999"}},

		{"some drain", func(f *doctor.Facts) { f.Survey.Value.Draining = 3 }, "draining", doctor.OK, []string{"3 ports wait for old connections to time out; other ports are used first"}},
		{"some drain, and one is free", func(f *doctor.Facts) { f.Survey.Value.Free, f.Survey.Value.Draining = 1, 1 }, "draining", doctor.OK, []string{"1 port waits"}},
		{"only those that drain are left", func(f *doctor.Facts) { f.Survey.Value.Free, f.Survey.Value.Draining = 0, 1 }, "draining", doctor.Warning, []string{"1 port waits", "SO_REUSEADDR"}},
	}
}
