//go:build linux

package store_test

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/store"
)

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

func workerID(port uint16) string { return fmt.Sprintf("cpu-%d-abcdef", port) }

func leaseID(port uint16) string { return fmt.Sprintf("lease-%d", port) }

// putWorker records a running worker with its lease.
func putWorker(tx *store.Tx, port uint16) error {
	identity := &store.Identity{
		BootID: "8c1ff0f7-3a8b-4c7e-9e3c-0d3f3f0b7a11", PID: 100000 + int(port),
		StartTicks: 4711, PidfdInode: 815, PIDNamespace: 4026531836,
	}
	started := time.Date(2026, 1, 2, 3, 4, 5, 6000000, time.UTC)
	err := tx.PutLease(store.Lease{
		Port: port, LeaseID: leaseID(port), Kind: store.LeaseWorker, WorkerID: workerID(port),
		Identity: identity, State: store.LeaseHeld, AcquiredAt: started,
	})
	if err != nil {
		return err
	}
	return tx.PutWorker(store.Worker{
		WorkerID: workerID(port), Type: "cpu", Port: port, Ports: []uint16{port}, LeaseID: leaseID(port),
		Identity: identity, State: store.WorkerReady, Desired: store.DesiredRunning, StartedAt: started,
		Spec: store.Spec{
			Argv: []string{"/usr/local/bin/hive", "worker", "--port", fmt.Sprint(port)}, Host: "127.0.0.1",
			Params: map[string]string{"ctx": "32768"}, Stop: store.Stop{Signals: []string{"SIGTERM"}, Grace: 10 * time.Second},
		},
		Log: "/var/lib/hive/logs/" + workerID(port) + ".log",
	})
}
