// Download has a hive download a model from a hub whose connections are cut at
// random, and ends hive with kill -9 meanwhile. The model must come, whole, under the
// job that was submitted, with nothing left over and next to nothing fetched twice.
//
// CI runs it as a test, with 64 MiB (less than a minute). By hand, go run ./test/download
// takes 2 GiB, which must fit into $TMPDIR, and as long as the disk needs for them.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
	"rbeehive/test/hub"
)

func main() {
	var o options
	flag.Int64Var(&o.size, "size", 2<<30, "bytes of the model")
	flag.IntVar(&o.cuts, "cuts", 20, "connections that are cut")
	flag.IntVar(&o.kills, "kills", 5, "times that hive is killed")
	harness.Main("download", func(ctx context.Context, p *harness.Program) error {
		o.hive, o.seed = p.Hive, p.Seed
		return download(ctx, o, os.Stdout)
	})
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

const (
	progressTimeout = 5 * time.Minute
	downloadTimeout = 10 * time.Minute
)

func download(ctx context.Context, o options, out io.Writer) (err error) {
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
	hive, err := harness.New(o.hive, 2, "[]", "models: {endpoint: "+server.URL+"}")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	if err := hive.Start(ctx); err != nil {
		return err
	}
	var sub wire.Submitted
	if err := hive.Call(ctx, http.MethodPost, "/v1/jobs", harness.Op{"operation": "model_download", "model": "org/name"}, &sub); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	for i := range o.kills {
		err := harness.Eventually(ctx, progressTimeout, func() (string, error) {
			if sent, want := server.Sent(), int64(i+1)*o.size/int64(o.kills+2); sent <= want {
				return fmt.Sprintf("%d of %d bytes were sent", sent, want), nil
			}
			return "", nil
		})
		if err != nil {
			return err
		}
		if err := hive.Restart(ctx); err != nil {
			return err
		}
	}
	var job wire.Job
	err = harness.Eventually(ctx, downloadTimeout, func() (string, error) {
		if err := hive.Get(ctx, "/v1/jobs/"+sub.JobID+"?wait=30s", &job); err != nil || job.FinishedAt != nil {
			return "", err
		}
		return "the job is " + job.State, nil
	})
	if err != nil {
		return err
	}
	if job.State != "succeeded" {
		return fmt.Errorf("the job %s: %+v", job.State, job.Error)
	}
	fmt.Fprintf(out, "download: %d bytes were sent for %d (%.3f), %d connections were cut\n", server.Sent(), o.size,
		float64(server.Sent())/float64(o.size), min(int(cuts.Load()), o.cuts))
	return verify(hive, server, f, job)
}

// verify checks what is on the disk.
func verify(hive *harness.Instance, server *hub.Hub, f hub.File, job wire.Job) error {
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
	root := filepath.Join(hive.Data(), "models")
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
