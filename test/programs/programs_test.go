//go:build linux

package programs_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
	"rbeehive/test/skip"
)

// Programs as Debian has them, by their entries in docs/examples/programs.yaml.
func TestProgramsFromDebian(t *testing.T) {
	for _, c := range []struct {
		kind, program string
		children      bool // it has processes besides the main one
		speaks        func(ctx context.Context, address string) error
	}{
		{"redis", "redis-server", false, line("PING\r\n", "+PONG")},
		{"nginx", "nginx", true, page},
		{"memcached", "memcached", false, line("version\r\n", "VERSION ")},
		{"web", "python3", false, page},
	} {
		t.Run(c.kind, func(t *testing.T) {
			if _, err := exec.LookPath(c.program); err != nil {
				skip.Because(t, c.program, "is not installed:", err)
			}
			hive, err := harness.NewFrom(os.Getenv(binaryVar), 8, "../../docs/examples/programs.yaml", "")
			require.NoError(t, err)
			t.Setenv("TMPDIR", hive.Dir) // of nginx's configuration; the directory goes with hive
			s := newSite(t, hive, err)
			w := s.up(c.kind, "ready")
			serves := func() {
				t.Helper()
				require.NoError(t, c.speaks(t.Context(), address(w)))
			}
			serves()
			require.Equal(t, c.children, len(s.everybody()) > 1, "%v", s.everybody())

			w = s.killed(w) // its new start is hive's own
			serves()

			s.hive.Kill()
			serves()
			s.start()
			s.adopted(w)
			serves()

			w = s.killed(w) // adopted, it is started again all the same
			serves()

			s.crash(1)
			s.adopted(w)
			tree := s.everybody()
			job := s.stop(w.WorkerID)
			require.Equal(t, "succeeded", job.State, "%+v", job.Error)
			s.noneLives(tree, "after the stop")
			require.Empty(t, s.everybody())
			s.freed(w.Port, tree)
		})
	}
}

// adopted requires that hive has adopted a ready worker as it was.
func (s *site) adopted(was wire.Worker) {
	s.Helper()
	now := s.worker(was.WorkerID)
	require.Equal(s, "ready", now.State)
	require.Equal(s, *was.PID, *now.PID)
	require.Equal(s, was.Port, now.Port)
}

// killed kills the main process of a worker and waits for its new start. The port
// is only given to the new process when nobody of the old tree lives.
func (s *site) killed(w wire.Worker) wire.Worker {
	s.Helper()
	tree := s.everybody()
	require.NoError(s, syscall.Kill(*w.PID, syscall.SIGKILL))
	again := w
	s.await("the new start of "+w.WorkerID, func() bool {
		lease := s.lease(w.Port)
		require.NotNil(s, lease, "the port was given up")
		if lease.PID == nil || *lease.PID == *w.PID {
			return false
		}
		s.noneLives(tree, "and its port has a new holder")
		again = s.worker(w.WorkerID)
		return again.State == "ready"
	})
	require.Equal(s, w.Port, again.Port)
	require.Equal(s, w.Restarts+1, again.Restarts)
	return again
}

func address(w wire.Worker) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(w.Port))) }

// line speaks a protocol of lines. The client closes first: else the server's port
// is in TIME_WAIT for a minute.
func line(say, expect string) func(context.Context, string) error {
	return func(ctx context.Context, address string) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte(say)); err != nil {
			return err
		}
		answer, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && !strings.HasPrefix(answer, expect) {
			err = fmt.Errorf("answered %q", answer)
		}
		return err
	}
}

// page gets a page.
func page(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}
