package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive/catalog"
)

var fileSeeds = []string{
	"", "# nothing\n", "- a\n", "listen: [", "---\n---\n", "\ufeffhive_id: a\n", "hive_id: !!binary aGl2ZQ==\n", "a: b\n...\nx",
	"hive_id: box\nlisten: 127.0.0.1:7999\ndata_dir: /srv/hive\nallowed_hosts: [a, b.lan]\nshutdown: stop\nlog_level: debug\nlog_format: json\n",
	"ports: {range: 9000-9100, reserved: [9001, 9010-9020], policy: sequential, quarantine: 5s}\njobs: {retention: 1h, max_queued: 7, max_queue_age: 1m, stream_wait: 9s}\n",
	"workers_keep: 24h\nstart_parallel: 3\naudit: {interval: 9s, orphans: kill}\nlogs: {max_size: 1.5MiB, keep: 2, max_total: 1GiB}\nauth: none\nqueen_url: http://q:1\n",
	"workers:\n  - name: web\n    command: [web, '{{.Port}}', '{{.Params.ctx}}']\n    params: {ctx: '1', n: {default: 4, pattern: '[0-9]+'}, p: {default: /x, fixed: true}}\n    env: [A=b, C]\n    ports: 2\n    autostart: true\n",
	"workers:\n  - &w {name: a, preset: llama-server, program: /x, model: m, device: '0'}\n  - {<<: *w, name: b, args: [-x]}\n",
	"workers:\n  - {name: a, command: [a], ready: {path: /, status: 200, stall: 5m, timeout: 0s}, live: {path: /, interval: 10s, failures: 3, action: restart}}\n",
	"workers:\n  - {name: a, command: [a], stop: {signal: [SIGINT], grace: 1s, scope: tree}, restart: {policy: always, max: 1, window: 1m, backoff: 1s, max_backoff: 2s}, reload: restart}\n",
	"workers:\n  - {name: a, command: [a], before_start: [b], listener: any, user: nobody, dir: /srv, env_file: /e, host: 0.0.0.0, port: 8188}\n",
	"workers: [{name: \"a\\nb\", comand: x}]\n", "\"a\\nb\": 1\n", "workers: [{name: a, command: [a], params: {\"A\\r\": 1}}]\n", "ports: &a {range: *a}\n",
	// Aliases of aliases: 10^7 values from 400 bytes; the second is the same through merge keys.
	"hive_id: a\nallowed_hosts: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
		"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
	"ports: &a {range: 1-2}\njobs: &b {<<: [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]}\naudit: &c {<<: [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]}\nlogs: &d {<<: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]}\n" +
		"workers: [&e {<<: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]}, &f {<<: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]}, {<<: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]}]\n",
}

// What one reading of a file may take at most, on a busy machine.
const (
	mostTime   = 5 * time.Second
	mostMemory = 512 << 20
)

// Any file is a configuration or one line that says what is wrong with it, in
// bounded time and memory; and what it says does not depend on the reading.
func FuzzLoad(f *testing.F) {
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "HIVE_") {
			f.Setenv(name, "") // restores it at the end
			_ = os.Unsetenv(name)
		}
	}
	path := filepath.Join(f.TempDir(), "hive.yaml")
	for _, doc := range fileSeeds {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if err := os.WriteFile(path, doc, 0o600); err != nil {
			t.Fatal(err)
		}
		begin, before := time.Now(), allocated()
		c, err := loadFile(t, path)
		if took, grew := time.Since(begin), allocated()-before; took > mostTime || grew > mostMemory {
			t.Fatalf("%d bytes took %v and %d bytes of memory", len(doc), took, grew)
		}
		if (c == nil) == (err == nil) {
			t.Fatalf("configuration %v and error %v", c, err)
		}
		again, errAgain := loadFile(t, path)
		if err != nil {
			if _, ok := errors.AsType[*config.Error](err); !ok {
				t.Fatalf("%T is no *config.Error: %v", err, err)
			}
			oneLine(t, err)
			return
		}
		if errAgain != nil {
			t.Fatalf("read again: %v", errAgain)
		}
		if diff := cmp.Diff(c, again, byValue()); diff != "" {
			t.Fatalf("read again:\n%s", diff)
		}
		if _, err := catalog.New(c.Workers, "/bin/hive"); err != nil {
			oneLine(t, err)
		}
	})
}

func loadFile(t *testing.T, path string) (*config.Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("hive", pflag.ContinueOnError)
	config.Flags(fs)
	if err := fs.Parse([]string{"--config", path, "--data-dir", "/data"}); err != nil {
		t.Fatal(err)
	}
	return config.Load(config.Options{Flags: fs, UID: 1000})
}

func oneLine(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	ends := func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
	if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, ends) {
		t.Fatalf("the error cannot be shown in one line: %q", text)
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
