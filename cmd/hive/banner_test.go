package main_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	main "rbeehive/cmd/hive"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/store"
)

func types(t *testing.T, entries ...catalog.Entry) []*catalog.Type {
	t.Helper()
	c, err := catalog.New(entries, "/opt/hive/bin/hive")
	require.NoError(t, err)
	return c.Types()
}

func fresh(t *testing.T) main.Banner {
	return main.Banner{
		HiveID: "localhost", URL: "http://127.0.0.1:7835", DataDir: "/var/lib/hive",
		Recovery: hive.Recovery{Took: 1234 * time.Microsecond},
		Ports:    alloc.Survey{Range: alloc.Range{First: 8080, Last: 9999}, Total: 1920, Free: 1920},
		Types:    types(t),
	}
}

// afterACrash is a machine on which much goes on.
func afterACrash(t *testing.T) main.Banner {
	b := fresh(t)
	b.HiveID, b.URL, b.File, b.Local = "gpubox", "http://127.0.0.1:7900", "/etc/hive/hive.yaml", "unix:/srv/hive/control.sock"
	b.Recovery = hive.Recovery{Took: 12 * time.Millisecond, Adopted: 1, Freed: 2, Restarted: 1, Unverified: 1}
	b.Ports = alloc.Survey{
		Range: alloc.Range{First: 8080, Last: 9999}, Total: 1920, Free: 1907, Leased: 3, Quarantined: 1, Reserved: 1, Foreign: 6, Draining: 2,
		Holders: []sockets.Holder{
			{Port: 8080, Kind: "worker", PID: 4711, Program: "hive", User: "bob"},
			{Port: 8081, Kind: "process", PID: 4712, Program: "python3", User: "bob"},
			{Port: 8188, Kind: sockets.KindListener, PID: 99, Program: "python3", User: "bob"},
			{Port: 8888, Kind: sockets.KindListener, PID: 98, Program: "jupyter-lab"},
			{Port: 9000, Kind: sockets.KindBound, User: "vllm"},
			{Port: 9001, Kind: sockets.KindHive},
			{Port: 9090, Kind: sockets.KindListener, PID: 97, Program: "prometheus", User: "nobody"},
			{Port: 9091, Kind: "worker", PID: 4713, Program: "web"},
		},
	}
	b.Workers = []store.Worker{
		{WorkerID: "cpu-8080-old111", Port: 8080, State: store.WorkerFailed},
		{WorkerID: "cpu-8080-abc123", Port: 8080, State: store.WorkerReady},
	}
	b.Types = types(t,
		catalog.Entry{Name: "llama", Command: []string{"llama-server", "-m", "{{.Model}}"}}, // needs more than its name
		catalog.Entry{Name: "web", Command: []string{"web"}})
	return b
}

func TestBannerGolden(t *testing.T) {
	for file, b := range map[string]main.Banner{
		"testdata/banner-fresh.txt": fresh(t),
		"testdata/banner-busy.txt":  afterACrash(t),
	} {
		var got bytes.Buffer
		require.NoError(t, b.Write(&got))
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(string(want), got.String()), file)
	}
}

// What hivectl needs to be told is in the commands to try.
func TestBannerOfAnExposedHive(t *testing.T) {
	b := fresh(t)
	b.URL, b.Listen, b.TokenFile = "https://gpubox.lan:7835", "[::]:7835", "/srv/hive/token"
	var got bytes.Buffer
	require.NoError(t, b.Write(&got))
	for _, line := range []string{
		"hive      localhost at https://gpubox.lan:7835\n", "listen    [::]:7835\n", "token     in /srv/hive/token\n", "try       bin/hivectl up cpu\n",
	} {
		require.Contains(t, got.String(), line)
	}
	b.Local = "unix:/srv/hive/control.sock"
	got.Reset()
	require.NoError(t, b.Write(&got))
	require.Contains(t, got.String(), "try       bin/hivectl --addr unix:/srv/hive/control.sock up cpu\n")
}

// As PID 1 of a container hive takes its workers with it.
func TestBannerInAContainer(t *testing.T) {
	b := fresh(t)
	b.Alone = true
	var got bytes.Buffer
	require.NoError(t, b.Write(&got))
	require.Contains(t, got.String(), "Ctrl-C    stops hive, and the container's workers end with it; ")
	require.NotContains(t, got.String(), "leaves the workers running")
}

// Who reads the banner of a service in its journal can press nothing.
func TestBannerOfAService(t *testing.T) {
	b := fresh(t)
	b.Service = true
	var got bytes.Buffer
	require.NoError(t, b.Write(&got))
	require.NotContains(t, got.String(), "Ctrl-C")
}

// A hive that is installed is looked after with the hivectl that is in PATH.
func TestTheCommandsToTryCanBeTyped(t *testing.T) {
	s := newSite(t, "")
	s.env = append(s.env, "SYSTEMD_EXEC_PID=1") // of a terminal that systemd has started, perhaps
	banner := strings.Join(s.start(t).banner, "\n")
	require.NotContains(t, banner, "bin/")
	require.Regexp(t, `try +hivectl .*up cpu`, banner)

	s = newSite(t, "")
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, "bin"), 0o700))
	s.exe = filepath.Join(s.dir, "bin", "hive")
	require.NoError(t, os.WriteFile(s.exe, self, 0o700))
	require.Regexp(t, `try +bin/hivectl .*up cpu`, strings.Join(s.start(t).banner, "\n"))
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestBannerReportsAWriteError(t *testing.T) {
	require.ErrorIs(t, fresh(t).Write(brokenWriter{}), errBroken)
}
