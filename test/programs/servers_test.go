//go:build linux

package programs_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// report is what a stand-in for a server says of itself.
type report struct {
	Args []string
	Env  map[string]string
	Dir  string
	UID  int
}

// server is a stand-in that takes the flags of one program, as far as the examples
// use them, and no others. It answers every path.
type server struct {
	flags   string // with values; all stand behind a - or --
	words   int    // arguments that are no flags, before or behind the flags
	address func(flags map[string]string) string
	file    string // the flag with a file that must exist
}

func servers() map[string]server {
	hostPort := func(host, port string) func(map[string]string) string {
		return func(f map[string]string) string { return net.JoinHostPort(f[host], f[port]) }
	}
	return map[string]server{
		"llama-server": {"host port m alias ngl c embeddings", 0, hostPort("host", "port"), "m"},
		"vllm":         {"host port served-model-name max-model-len", 2, hostPort("host", "port"), ""},
		"gunicorn":     {"bind workers", 1, func(f map[string]string) string { return f["bind"] }, ""},
		"node":         {"", 1, func(map[string]string) string { return "127.0.0.1:" + os.Getenv("PORT") }, ""},
		"redis-server": {"port bind save appendonly", 0, hostPort("bind", "port"), ""},
		"celery":       {"A address port", 1, hostPort("address", "port"), ""},
	}
}

func (p server) run(args []string) error {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	values := map[string]*string{}
	for _, name := range strings.Fields(p.flags) {
		if name == "embeddings" {
			fs.Bool(name, false, "")
			continue
		}
		values[name] = fs.String(name, "", "")
	}
	words := 0
	for rest := args; len(rest) > 0; {
		if err := fs.Parse(rest); err != nil {
			return err
		}
		if rest = fs.Args(); len(rest) > 0 {
			words, rest = words+1, rest[1:]
		}
	}
	if words != p.words {
		return fmt.Errorf("%d words besides the flags in %q, expected %d", words, args, p.words)
	}
	given := map[string]string{}
	for name, value := range values {
		given[name] = *value
	}
	if p.file != "" {
		if _, err := os.Stat(given[p.file]); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", p.address(given))
	if err != nil {
		return err
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r := report{Args: args, Env: map[string]string{}, UID: os.Getuid()}
		r.Dir, _ = os.Getwd()
		for _, kv := range os.Environ() {
			name, value, _ := strings.Cut(kv, "=")
			r.Env[name] = value
		}
		_ = json.NewEncoder(w).Encode(r)
	}))
}

// dockerSocket is where the stand-in for docker finds that for its daemon.
const dockerSocket = "/srv/docker.sock"

// docker is a client, as the real one is: `run` stays in the foreground while the
// container runs, which is no process of it, and goes on when it is killed.
func docker(args []string) error {
	c, err := net.Dial("unix", dockerSocket)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(args); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, c) // until the container has ended
	return err
}

// containers is a stand-in for docker's daemon: each container is a server.
type containers struct {
	mu      sync.Mutex
	running map[string]*container
}

type container struct {
	listener net.Listener
	ended    chan struct{}
}

func newContainers(t *testing.T) *containers {
	t.Helper()
	l, err := net.Listen("unix", dockerSocket)
	require.NoError(t, err)
	d := &containers{running: map[string]*container{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if err := d.serve(c); err != nil {
					fmt.Fprintf(c, "Error: %v\n", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		for _, name := range d.names() {
			_ = d.stop(name)
		}
		wg.Wait()
	})
	return d
}

// serve does what one client asks for; a run ends with its container.
func (d *containers) serve(c net.Conn) error {
	var args []string
	if err := json.NewDecoder(c).Decode(&args); err != nil {
		return err
	}
	if len(args) == 2 && args[0] == "stop" {
		return d.stop(args[1])
	}
	fs := flag.NewFlagSet("docker run", flag.ContinueOnError)
	fs.Bool("rm", false, "")
	name, publish := fs.String("name", "", ""), fs.String("publish", "", "")
	fs.String("gpus", "", "")
	if len(args) == 0 || args[0] != "run" {
		return fmt.Errorf("unknown command %q", args)
	}
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	address := (*publish)[:max(0, strings.LastIndexByte(*publish, ':'))]
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	run := &container{l, make(chan struct{})}
	d.mu.Lock()
	d.running[*name] = run
	d.mu.Unlock()
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, *name) }))
		close(run.ended)
	}()
	<-run.ended
	return nil
}

// stop ends a container and returns when it has ended.
func (d *containers) stop(name string) error {
	d.mu.Lock()
	run := d.running[name]
	delete(d.running, name)
	d.mu.Unlock()
	if run == nil {
		return errors.New("no such container: " + name)
	}
	err := run.listener.Close()
	<-run.ended
	return err
}

func (d *containers) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.running {
		names = append(names, name)
	}
	return names
}
