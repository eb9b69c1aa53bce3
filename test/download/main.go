// Download has a hive download a model from a hub whose connections are cut at
// random, and ends hive with kill -9 meanwhile. The model must come, whole, under the
// job that was submitted, with nothing left over and next to nothing fetched twice.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/hub"
	"rbeehive/test/yard"
)

func main() {
	var o options
	flag.StringVar(&o.hive, "hive", "bin/hive", "the hive binary")
	flag.Int64Var(&o.size, "size", 2<<30, "bytes of the model")
	flag.IntVar(&o.cuts, "cuts", 20, "connections that are cut")
	flag.IntVar(&o.kills, "kills", 5, "times that hive is killed")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of what happens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := play(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "download:", err)
		stop()
		os.Exit(1) //nolint:gocritic // nothing is deferred but stop
	}
}

type options struct {
	hive        string
	size        int64
	cuts, kills int
	seed        uint64
}

// share is the part of a model that may be fetched twice: what was on its way when
// hive was killed. A tenth.
const share = 10

func play(ctx context.Context, o options, out io.Writer) (err error) {
	fmt.Fprintf(out, "download: %d bytes, %d cuts, %d kills, seed %d\n", o.size, o.cuts, o.kills, o.seed)
	server := hub.Start()
	defer server.Close()
	f := hub.File{Path: "model.gguf", Size: o.size, Seed: o.seed, LFS: true}
	server.Add("org/name", f)
	random := rand.New(rand.NewPCG(o.seed, 2))
	var cuts atomic.Int32
	server.Misbehave(hub.Faults{
		Rate: max(o.size/8, 1<<20), // so that there is something to kill
		Cut: func(rest int64) int64 { // one body at a time asks
			if int(cuts.Add(1)) > o.cuts {
				return -1
			}
			return min(rest, random.Int64N(2*o.size/int64(o.cuts+o.kills+1)))
		},
	})
	y, err := yard.New(o.hive, 2, "[]", "models: {endpoint: "+server.URL+"}")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Clear()) }()
	h, err := y.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { h.Kill() }()
	var sub wire.Submitted
	if status, err := h.Call(ctx, "POST", "/v1/jobs", map[string]string{"operation": "model_download", "model": "org/name"}, &sub); err != nil || status != 202 {
		return fmt.Errorf("submit: status %d: %w", status, err)
	}
	for i := range o.kills {
		if err := until(ctx, func() bool { return server.Sent() > int64(i+1)*o.size/int64(o.kills+2) }); err != nil {
			return err
		}
		h.Kill()
		if h, err = y.Start(ctx); err != nil {
			return err
		}
	}
	var job wire.Job
	for deadline := time.Now().Add(10 * time.Minute); job.FinishedAt == nil; {
		if time.Now().After(deadline) {
			return errors.New("the download does not end")
		}
		if _, err := h.Get(ctx, "/v1/jobs/"+sub.JobID+"?wait=30s", &job); err != nil {
			return err
		}
	}
	if job.State != "succeeded" {
		return fmt.Errorf("the job %s: %+v", job.State, job.Error)
	}
	fmt.Fprintf(out, "download: %d bytes were sent for %d (%.3f), %d connections were cut\n", server.Sent(), o.size,
		float64(server.Sent())/float64(o.size), min(int(cuts.Load()), o.cuts))
	return verify(y, server, f, job)
}

// verify looks at what is on the disk.
func verify(y *yard.Yard, server *hub.Hub, f hub.File, job wire.Job) error {
	var m wire.Model
	if err := json.Unmarshal(job.Result, &m); err != nil {
		return err
	}
	file, err := os.Open(m.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != server.SHA256(f) {
		return fmt.Errorf("the file has the hash %s, and the hub's is %s", got, server.SHA256(f))
	}
	var names []string
	root := filepath.Join(y.Dir, "data", "models")
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && name != root {
			names = append(names, d.Name())
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(names) != 3 { // the model's directory, its metadata and its file
		return fmt.Errorf("there is more than the model: %q", names)
	}
	if most := f.Size + f.Size/share; server.Sent() > most {
		return fmt.Errorf("%d bytes were sent, and %d are allowed", server.Sent(), most)
	}
	return nil
}

func until(ctx context.Context, ok func() bool) error {
	for deadline := time.Now().Add(5 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			return errors.New("the download does not get on")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}
