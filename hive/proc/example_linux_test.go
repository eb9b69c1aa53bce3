package proc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// A worker is started, survives the hive that started it, and is ended by the next one.
// Every step that could leave a process without a record, or signal a stranger, is
// one of these calls.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	spec := proc.Spec{
		Argv: []string{"/bin/sh", "-c", "echo serving; exec sleep 600"},
		Env:  proc.Environ(os.Environ(), nil),
		Log:  filepath.Join(dir, "cpu-8080.log"),
		// The stamps by which the worker's processes are found again.
		StateID: "example-state", LeaseID: "lease-1", WorkerID: "cpu-8080", Secret: store.Secret("of this state"),
	}
	g, err := proc.Start(spec)
	if err != nil {
		log.Fatal(err)
	}
	// Nothing of the program has run yet. A hive that is killed here leaves nothing
	// behind; one that is killed after Open has a record to find the worker by.
	recorded := g.Identity()
	p, err := g.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	p.Close() // hive ends, and the worker does not

	again, verdict, err := proc.Adopt(recorded)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("after a restart of hive the worker is", verdict)

	tree := &proc.Tree{
		Main: again, Identity: recorded, Cgroup: g.Cgroup(), Log: spec.Log,
		StateID: spec.StateID, LeaseID: spec.LeaseID, WorkerID: spec.WorkerID, UID: g.UID(),
		StampProof: proc.Prove(spec.Secret, spec.StateID, spec.LeaseID, spec.WorkerID, g.UID()),
	}
	left, err := tree.Stop(ctx, store.Stop{Signals: []string{"SIGTERM"}, Grace: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	<-again.Done()
	fmt.Println("stopped by", again.Exit().Signal, "with", len(left), "processes left")

	_, verdict, err = proc.Adopt(recorded)
	fmt.Println("now it is", verdict, "for a reason:", err != nil)

	// Output:
	// after a restart of hive the worker is alive
	// stopped by SIGTERM with 0 processes left
	// now it is dead for a reason: true
}

// A number alone says nothing: the process with the recorded PID runs, and is another.
func ExampleAdopt() {
	recorded, err := proc.SelfIdentity()
	if err != nil {
		log.Fatal(err)
	}
	recorded.BootID = "of the boot before"
	p, verdict, err := proc.Adopt(recorded)
	fmt.Println(p == nil, verdict)
	fmt.Println("because", errors.Unwrap(err))

	// Output:
	// true dead
	// because the machine has been booted since
}

// A command that prepares a worker, and what it leaves running in the background.
func ExampleRun() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := proc.Run(ctx, proc.Command{
		Argv:    []string{"/bin/sh", "-c", "sleep 600 & echo prepared; exit 3"},
		Env:     proc.Environ(os.Environ(), nil),
		StateID: "example-state", Secret: store.Secret("of this state"), Name: "before_start.cpu-8080",
	})
	if err != nil {
		log.Fatal(err) // it could not be run to its end; its exit code is no error
	}
	fmt.Printf("%s", res.Output)
	fmt.Println("exit code", *res.Exit.Code)
	fmt.Println("left running and ended:", len(res.Ended))
	_, _ = proc.PruneCgroups("example-state") // where there are cgroups, that of its commands

	// Output:
	// prepared
	// exit code 3
	// left running and ended: 1
}

// A worker gets hive's environment without hive's own secrets, and what its entry asks
// for.
func ExampleEnviron() {
	inherited := []string{"PATH=/usr/bin", "HIVE_TOKEN=secret", "GITHUB_TOKEN=secret", "AWS_SESSION_TOKEN=secret"}
	for _, kv := range proc.Environ(inherited, []string{"MODEL=tiny", "GITHUB_TOKEN"}) {
		fmt.Println(kv)
	}

	// Output:
	// PATH=/usr/bin
	// SPT_NOENV=1
	// MODEL=tiny
	// GITHUB_TOKEN=secret
}
