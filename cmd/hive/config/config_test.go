package config_test

import (
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/alloc"
	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/jobs"
	"rbeehive/hive/logs"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // with 002 t.TempDir is no place that hive believes
	goleak.VerifyTestMain(m)
}

// place is an empty home and working directory, with no HIVE_* variable set.
type place struct{ dir string }

func newPlace(t *testing.T) place {
	t.Helper()
	dir := t.TempDir()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "HIVE_") {
			t.Setenv(name, "") // restores it at the end
			require.NoError(t, os.Unsetenv(name))
		}
	}
	t.Setenv("HOME", filepath.Join(dir, "home"))
	t.Setenv("HF_ENDPOINT", "")
	t.Setenv("HF_TOKEN", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("XDG_STATE_HOME", "")
	t.Chdir(dir)
	return place{dir}
}

func (p place) write(t *testing.T, name, doc string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(doc), 0o600))
	return path
}

func (p place) load(t *testing.T, args ...string) (*config.Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("hive", pflag.ContinueOnError)
	config.Flags(fs)
	require.NoError(t, fs.Parse(args))
	return config.Load(config.Options{Flags: fs, Environ: os.Environ(), UID: 1000, EtcDir: filepath.Join(p.dir, "etc")})
}

func addr(s string) config.Address { return config.Address{TCP: netip.MustParseAddrPort(s)} }

func ptr[T any](v T) *T { return &v }

func byValue() cmp.Options {
	return cmp.Options{cmp.Comparer(func(a, b config.Address) bool { return a == b }), cmpopts.EquateEmpty()}
}

// hiveGroup is the group hive, where this machine has one.
func hiveGroup(t *testing.T) []uint32 {
	t.Helper()
	g, err := user.LookupGroup("hive")
	if err != nil {
		return nil
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	require.NoError(t, err)
	return []uint32{uint32(gid)}
}

func TestDefaults(t *testing.T) {
	p := newPlace(t)
	got, err := p.load(t)
	require.NoError(t, err)
	want := &config.Config{
		Config: hive.Config{
			HiveID: "localhost", DataDir: filepath.Join(p.dir, "home/.local/state/hive"),
			Ports: hive.PortsConfig{Range: alloc.Range{First: 8080, Last: 9999}, Policy: alloc.Lowest, PerUser: 64},
			Settings: hive.Settings{
				Jobs:          jobs.Config{Retention: 168 * time.Hour, Keep: 10000, MaxQueued: 10000, MaxQueueAge: 10 * time.Minute, StreamWait: 25 * time.Second},
				StartParallel: 2, WorkersKeep: 24 * time.Hour, Orphans: hive.OrphansKeep, LogsMaxTotal: 2 << 30, Backup: hive.BackupConfig{Interval: 24 * time.Hour, Keep: 7},
			},
			Shutdown: hive.ShutdownKeep, AuditInterval: 30 * time.Second,
			Logs:   logs.Config{MaxSize: 64 << 20, Keep: 3},
			Models: hive.ModelsConfig{Endpoint: "https://huggingface.co"},
		},
		Listen: []config.Address{addr("127.0.0.1:7835")}, Auth: access.ByUser, Access: &access.Policy{Mode: access.ByUser, OwnUID: 1000, Admin: access.Set{GIDs: hiveGroup(t)}},
		Socket: config.Socket{Mode: 0o600, GID: -1}, LogFormat: "text", Gate: "auto",
	}
	require.Empty(t, cmp.Diff(want, got, byValue()))
}

func TestEverySupportedKey(t *testing.T) {
	p := newPlace(t)
	file := p.write(t, "hive.yaml", `
# a comment
hive_id: gpubox
listen: ["[::1]:7900", "unix:/run/hive//hive.sock"]
socket: {path: /run/hive/../hive/control, mode: "0660", group: 0}
advertise: https://gpubox.lan/
data_dir: /srv/hive
queen_url: http://queen.lan:7833
allowed_hosts: [gpubox.lan, 10.0.0.7]
auth: none
ports: {range: 9000-9100, reserved: [9001, 9010-9020], policy: sequential, quarantine: 30s, per_user: 10}
access: {admin: {users: [0, 1234], groups: []}, read: {groups: [root]}, tcp_root: false}
shutdown: stop
jobs: {retention: 24h, keep: 500, max_queued: 5, max_queue_age: 1m, stream_wait: 10s}
workers_keep: 1h
start_parallel: 4
audit: {interval: 10s, orphans: kill}
logs: {max_size: 1.5MiB, keep: 5, max_total: 10GB}
backup: {interval: 0s, keep: 3}
models: {dir: /models, endpoint: "https://mirror.lan/hf/"}
log_level: debug
log_format: json
gate: process
workers:
  - name: Web
    program: /usr/bin/python3
    command: ["python3", "-m", "http.server", "{{.Port}}"]
    model: /models/Q.gguf
    device: 0
    params: {ctx: 32768, flash: true, t: "0.10", n: {default: 4, pattern: "[0-9]+"}, dir: {default: /srv, fixed: true}, none: {}, null_one: null}
    args: ["-x", "a,b"]
    env: ["HF_HOME=/models/hf", "HF_TOKEN"]
    port: 8188
    ports: 2
    listener: any
    allow: {users: [1000], groups: [root], tokens: [ci]}
    dir: /srv
    user: nobody
    env_file: /etc/hive/web.env
    before_start: ["/usr/local/bin/prepare", "{{.Model}}"]
    autostart: true
    reload: restart
    live: {path: /live, interval: 5s, failures: 2, action: report}
    restart: {policy: always, max: 3, window: 1m, backoff: 2s, max_backoff: 20s}
    ready: {path: "", status: 200, stall: 1m, timeout: 0s}
    stop: {signal: [SIGINT, SIGTERM], grace: 3s, scope: tree, command: ["docker", "stop", "web"]}
  - name: llama
    preset: llama-server
    host: "::"
`)
	got, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, "hive.yaml", got.File)
	require.FileExists(t, file)
	want := &config.Config{
		Config: hive.Config{
			HiveID: "gpubox", DataDir: "/srv/hive",
			Ports: hive.PortsConfig{
				Range: alloc.Range{First: 9000, Last: 9100}, Policy: alloc.Sequential,
				Reserved: []alloc.Range{{First: 9001, Last: 9001}, {First: 9010, Last: 9020}}, Quarantine: 30 * time.Second, PerUser: 10,
			},
			Settings: hive.Settings{
				Jobs:          jobs.Config{Retention: 24 * time.Hour, Keep: 500, MaxQueued: 5, MaxQueueAge: time.Minute, StreamWait: 10 * time.Second},
				StartParallel: 4, WorkersKeep: time.Hour, Orphans: hive.OrphansKill, LogsMaxTotal: 10_000_000_000, Backup: hive.BackupConfig{Keep: 3}, QueenURL: "http://queen.lan:7833",
			},
			Shutdown: hive.ShutdownStop, AuditInterval: 10 * time.Second,
			Logs:   logs.Config{MaxSize: 3 << 19, Keep: 5},
			Models: hive.ModelsConfig{Dir: "/models", Endpoint: "https://mirror.lan/hf"},
		},
		File: "hive.yaml", Listen: []config.Address{addr("[::1]:7900"), {Socket: "/run/hive/hive.sock"}}, Auth: access.Anyone,
		Access: &access.Policy{
			Mode: access.Anyone, OwnUID: 1000, NoTCPRoot: true, Admin: access.Set{UIDs: []uint32{0, 1234}}, Read: access.Set{GIDs: []uint32{0}},
			Types: map[string]access.Allowed{"Web": {Set: access.Set{UIDs: []uint32{1000}, GIDs: []uint32{0}}, Tokens: []string{"ci"}}},
		},
		Socket: config.Socket{Path: "/run/hive/control", Mode: 0o660, GID: 0}, Advertise: "https://gpubox.lan",
		AllowedHosts: []string{"gpubox.lan", "10.0.0.7"},
		LogLevel:     "debug", LogFormat: "json", Gate: "process",
		Workers: []catalog.Entry{{
			Name: "Web", Program: "/usr/bin/python3", Command: []string{"python3", "-m", "http.server", "{{.Port}}"},
			Model: "/models/Q.gguf", Device: "0", Params: map[string]catalog.ParamEntry{
				"ctx": {Default: ptr("32768")}, "flash": {Default: ptr("true")}, "t": {Default: ptr("0.10")},
				"n": {Default: ptr("4"), Pattern: ptr("[0-9]+")}, "dir": {Default: ptr("/srv"), Fixed: ptr(true)}, "none": {}, "null_one": {},
			},
			Args: []string{"-x", "a,b"}, Env: []string{"HF_HOME=/models/hf", "HF_TOKEN"},
			Port: 8188, Ports: 2, Listener: "any", Allow: catalog.AllowEntry{Users: []string{"1000"}, Groups: []string{"root"}, Tokens: []string{"ci"}}, Dir: "/srv", User: "nobody", EnvFile: "/etc/hive/web.env",
			BeforeStart: []string{"/usr/local/bin/prepare", "{{.Model}}"}, Autostart: true, Reload: "restart",
			Live:    catalog.LiveEntry{Path: ptr("/live"), Interval: ptr(5 * time.Second), Failures: 2, Action: "report"},
			Restart: catalog.RestartEntry{Policy: "always", Max: ptr(3), Window: ptr(time.Minute), Backoff: ptr(2 * time.Second), MaxBackoff: ptr(20 * time.Second)},
			Ready:   catalog.ReadyEntry{Path: ptr(""), Status: 200, Stall: ptr(time.Minute), Timeout: ptr(time.Duration(0))},
			Stop:    catalog.StopEntry{Signal: []string{"SIGINT", "SIGTERM"}, Grace: ptr(3 * time.Second), Scope: "tree", Command: []string{"docker", "stop", "web"}},
		}, {Name: "llama", Preset: "llama-server", Host: "::"}},
	}
	require.Empty(t, cmp.Diff(want, got, byValue()))
}

func TestPrecedence(t *testing.T) {
	p := newPlace(t)
	hiveID := func(args ...string) string {
		c, err := p.load(t, args...)
		require.NoError(t, err)
		return c.HiveID
	}
	require.Equal(t, "localhost", hiveID())
	p.write(t, "hive.yaml", "hive_id: file\nports: {range: 9000-9001}\n")
	require.Equal(t, "file", hiveID())
	t.Setenv("HIVE_ID", "variable")
	require.Equal(t, "variable", hiveID())
	require.Equal(t, "flag", hiveID("--hive-id", "flag"))

	// A variable for one nested key leaves its siblings to the file.
	t.Setenv("HIVE_PORTS_POLICY", "sequential")
	t.Setenv("HIVE_PORTS_RESERVED", "9000, 9001-9001")
	c, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, hive.PortsConfig{
		Range: alloc.Range{First: 9000, Last: 9001}, Policy: alloc.Sequential,
		Reserved: []alloc.Range{{First: 9000, Last: 9000}, {First: 9001, Last: 9001}}, PerUser: 64,
	}, c.Ports)
}

func TestVariablesSetPlainKeys(t *testing.T) {
	p := newPlace(t)
	for name, value := range map[string]string{
		"HIVE_HIVE_ID": "box", "HIVE_LISTEN": "127.0.0.1:7900, unix:/run/h", "HIVE_DATA_DIR": "/srv/x", "HIVE_QUEEN_URL": "https://q",
		"HIVE_ALLOWED_HOSTS": "a.lan,b.lan", "HIVE_SHUTDOWN": "stop", "HIVE_LOG_LEVEL": "warn", "HIVE_LOG_FORMAT": "json",
		"HIVE_JOBS_MAX_QUEUED": "7", "HIVE_JOBS_RETENTION": "1h", "HIVE_WORKERS_KEEP": "2h", "HIVE_AUDIT_INTERVAL": "5s",
		"HIVE_AUTH": "token", "HIVE_SOCKET_MODE": "0666", "HIVE_SOCKET_GROUP": "0", "HIVE_ADVERTISE": "http://gpubox.lan:7835",
		"HIVE_LOGS_MAX_SIZE": "128 KiB", "HIVE_LOGS_KEEP": "1", "HIVE_LOGS_MAX_TOTAL": "1TiB",
		"HIVE_ACCESS_TCP_ROOT": "false",
		"HIVE_MODELS_DIR":      "/models", "HF_ENDPOINT": "http://mirror.lan", "HF_TOKEN": "hf_x",
		// of others
		"HIVE_ADDR": "x", "HIVE_TOKEN_FILE": "x", "HIVE_CA_FILE": "x", "HIVE_TEST_STRICT": "1", "HIVE_WORKER_THREADS": "1",
	} {
		t.Setenv(name, value)
	}
	c, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, "box", c.HiveID)
	require.Equal(t, []config.Address{addr("127.0.0.1:7900"), {Socket: "/run/h"}}, c.Listen)
	require.Equal(t, access.ByToken, c.Auth)
	require.Equal(t, config.Socket{Mode: 0o666, GID: 0}, c.Socket)
	require.Equal(t, "http://gpubox.lan:7835", c.Advertise)
	require.Equal(t, "/srv/x", c.DataDir)
	require.True(t, c.Access.NoTCPRoot)
	require.Equal(t, "https://q", c.QueenURL)
	require.Equal(t, []string{"a.lan", "b.lan"}, c.AllowedHosts)
	require.Equal(t, hive.ShutdownStop, c.Shutdown)
	require.Equal(t, hive.ModelsConfig{Dir: "/models", Endpoint: "http://mirror.lan", Token: "hf_x"}, c.Models)
	require.Equal(t, "warn", c.LogLevel)
	require.Equal(t, "json", c.LogFormat)
	require.Equal(t, 7, c.Jobs.MaxQueued)
	require.Equal(t, time.Hour, c.Jobs.Retention)
	require.Equal(t, 2*time.Hour, c.WorkersKeep)
	require.Equal(t, 5*time.Second, c.AuditInterval)
	require.Equal(t, logs.Config{MaxSize: 128 << 10, Keep: 1}, c.Logs)
	require.Equal(t, int64(1<<40), c.LogsMaxTotal)
}

// Variables that every client of the hub reads were hardly set for hive. A token with the
// line end of the file that it came from kept hive from starting.
func TestVariablesOfOthersNeverStopTheStart(t *testing.T) {
	for name, tc := range map[string]struct {
		token, endpoint         string
		wantToken, wantEndpoint string
		warns                   []string
	}{
		"line ends":        {token: "hf_x\r\n", endpoint: " http://mirror.lan/\n", wantToken: "hf_x", wantEndpoint: "http://mirror.lan"},
		"nothing but them": {token: " \n", endpoint: "\t", wantEndpoint: "https://file.lan"},
		"no token": {
			token: "hf_s3cret x", wantEndpoint: "https://file.lan",
			warns: []string{"HF_TOKEN: is ignored: expected a token of visible ASCII characters (its value is not shown)"},
		},
		"no letters of a header": {
			token: "hf_s3cr\u00e9t", wantEndpoint: "https://file.lan",
			warns: []string{"HF_TOKEN: is ignored: expected a token of visible ASCII characters (its value is not shown)"},
		},
		"no hub": {
			endpoint: "https://u:s3cret@hub.lan", wantEndpoint: "https://file.lan",
			warns: []string{"HF_ENDPOINT: is ignored: expected the URL of a hub such as https://huggingface.co, without a user or a query"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.write(t, "hive.yaml", "models: {endpoint: 'https://file.lan'}\n")
			t.Setenv("HF_TOKEN", tc.token)
			t.Setenv("HF_ENDPOINT", tc.endpoint)
			c, err := p.load(t)
			require.NoError(t, err)
			require.Equal(t, tc.wantToken, c.Models.Token)
			require.Equal(t, tc.wantEndpoint, c.Models.Endpoint)
			var warned []string
			for _, w := range c.Warnings {
				warned = append(warned, w.Error())
			}
			require.Equal(t, tc.warns, warned)
		})
	}

	p := newPlace(t)
	t.Setenv("HF_ENDPOINT", "http://mirror.lan")
	t.Setenv("HIVE_MODELS_ENDPOINT", "http://own.lan")
	c, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, "http://own.lan", c.Models.Endpoint, "hive's own variable goes before that of all")
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"65536B": 65536, "64KiB": 65536, "100KB": 100_000, "100kB": 100_000, "1MiB": 1 << 20, "1MB": 1_000_000,
		"1GiB": 1 << 30, "1.5 GiB": 3 << 29, "1GB": 1e9, "2TB": 2e12, "2TiB": 2 << 40, "8388607TiB": 8388607 << 40,
	} {
		p := newPlace(t)
		p.write(t, "hive.yaml", "logs: {max_size: "+text+"}\n")
		c, err := p.load(t)
		require.NoError(t, err, text)
		require.Equal(t, want, c.Logs.MaxSize, text)
	}
}
