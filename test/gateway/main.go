// Gateway has clients ask for one model through a gateway while things die, and checks what they get.
//
// First hive is killed with kill -9 every two seconds, and started again: no request may fail, no stream
// be cut, and each must be complete and in order. Then the workers are killed, a few each second, and
// strangers take ports of hive's range in every way there is, alone and beside workers: a request may
// fail then, but says so in the form that its client raises on, and no stranger may get a single byte.
//
// CI runs 20 s of it; by hand run 5 minutes (make gateway FOR=5m).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rbeehive/test/freeport"
	"rbeehive/test/harness"
)

const (
	ports    = 24
	replicas = 4
	// Engines answer at once or stream so many chunks.
	chunks     = 60
	chunkPause = 20 * time.Millisecond

	killEvery     = 2 * time.Second        // of hive
	endEvery      = 400 * time.Millisecond // of a worker
	readyTimeout  = time.Minute
	finalTimeout  = time.Minute
	streamClients = 40
	shortClients  = 4
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		if err := engine(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "engine:", err)
			os.Exit(1)
		}
		return
	}
	length := flag.Duration("for", 5*time.Minute, "for how long, half of it for each part")
	harness.Main("gateway", func(ctx context.Context, p *harness.Program) error { return run(ctx, p, *length) })
}

// site is a hive with its gateway and engines.
type site struct {
	p     *harness.Program
	hive  *harness.Instance
	url   string
	tally *harness.Tally
	// mayFail is set in the part in which workers die.
	mayFail bool
}

func run(ctx context.Context, p *harness.Program, length time.Duration) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	port, err := freeport.Range(1)
	if err != nil {
		return err
	}
	hive, err := harness.New(p.Hive, ports, "[]", "shutdown: stop")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	// The gateway is a worker, too: hive adopts it with the others.
	entries := fmt.Sprintf(`
  - {name: engine, command: [%q, engine, "{{.Port}}"], ready: {path: /health}, serve: {enabled: true},
     restart: {policy: always, backoff: 50ms, max_backoff: 200ms, max: 1000, window: 1s}}
  - {name: gateway, command: ["{{.Hive}}", gateway, --listen, "{{.Host}}:{{.Port}}", --hive, %q], port: %d, ready: {path: /health},
     autostart: true, restart: {policy: always}, stop: {grace: 1m}}`, self, "unix:"+filepath.Join(hive.Data(), "control.sock"), port)
	if err := hive.Configure(entries, "shutdown: stop"); err != nil {
		return err
	}
	if err := hive.Start(ctx); err != nil {
		return err
	}
	s := &site{p: p, hive: hive, tally: p.NewTally(), url: "http://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(port))}
	types := make([]string, replicas)
	for i := range types {
		types[i] = "engine"
	}
	if _, err := hive.SpawnAll(ctx, types); err != nil {
		return err
	}
	if err := s.awaitGateway(ctx); err != nil {
		return err
	}
	if err := s.whileHiveDies(ctx, length/2); err != nil {
		return fmt.Errorf("after %s: %w", s.tally, err)
	}
	if err := s.whileWorkersDie(ctx, length/2); err != nil {
		return fmt.Errorf("after %s: %w", s.tally, err)
	}
	p.Printf("%s", s.tally)
	if _, err := hive.StopAll(ctx, finalTimeout); err != nil {
		return err
	}
	if err := hive.FinalChecks(ctx, finalTimeout); err != nil {
		return err
	}
	return s.tally.Verdict("streams", "requests", "kills of hive", "kills of workers", "ports taken")
}

// awaitGateway waits until the gateway knows all engines.
func (s *site) awaitGateway(ctx context.Context) error {
	return harness.Eventually(ctx, readyTimeout, func() (string, error) {
		resp, err := http.Get(s.url + "/v1/models/engine") //nolint:noctx // on loopback, and asked again
		if err != nil {
			return err.Error(), nil
		}
		defer resp.Body.Close()
		var model struct {
			Hive struct {
				Replicas int `json:"replicas"`
			} `json:"hive"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&model); err != nil || model.Hive.Replicas < replicas {
			return fmt.Sprintf("the gateway knows %d of %d engines", model.Hive.Replicas, replicas), nil
		}
		return "", nil
	})
}

// whileHiveDies kills hive under all requests.
func (s *site) whileHiveDies(ctx context.Context, length time.Duration) error {
	ask, stop := context.WithCancel(ctx)
	wait := s.clients(ask)
	err := func() error {
		for end := time.Now().Add(length); time.Now().Before(end); {
			if !harness.Sleep(ctx, killEvery) {
				return ctx.Err()
			}
			if err := s.hive.Restart(ctx); err != nil {
				return err
			}
			s.tally.Add("kills of hive", 1)
			s.p.Progress("%s", s.tally)
		}
		return nil
	}()
	stop()
	wait()
	return err
}

// whileWorkersDie kills workers, and has strangers take ports.
func (s *site) whileWorkersDie(ctx context.Context, length time.Duration) error {
	s.mayFail = true
	ask, stop := context.WithCancel(ctx)
	wait := s.clients(ask)
	endStrangers := s.strangers(ask)
	err := func() error {
		rand := s.p.Rand(1)
		for end := time.Now().Add(length); time.Now().Before(end); {
			if !harness.Sleep(ctx, endEvery) {
				return ctx.Err()
			}
			live, err := s.hive.Live(ctx)
			if err != nil {
				return err
			}
			for id, w := range live {
				if rand.IntN(replicas) == 0 && w.PID != nil && strings.HasPrefix(id, "engine-") && harness.IsWorker(*w.PID, id) {
					if syscall.Kill(*w.PID, syscall.SIGKILL) == nil {
						s.tally.Add("kills of workers", 1)
					}
					break
				}
			}
			s.p.Progress("%s", s.tally)
		}
		return nil
	}()
	stop()
	wait()
	endStrangers()
	return err
}
