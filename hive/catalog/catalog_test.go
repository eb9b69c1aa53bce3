package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/catalog"
	"rbeehive/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const self = "/opt/hive/bin/hive"

func one(t *testing.T, e catalog.Entry) *catalog.Type {
	t.Helper()
	c, err := catalog.New([]catalog.Entry{e}, self)
	require.NoError(t, err)
	typ, ok := c.Type(e.Name)
	require.True(t, ok)
	return typ
}

func ptr[T any](v T) *T { return &v }

// plain is parameters of which an entry says nothing but the default.
func plain(defaults map[string]string) map[string]catalog.ParamEntry {
	params := map[string]catalog.ParamEntry{}
	for name, value := range defaults {
		params[name] = catalog.ParamEntry{Default: &value}
	}
	return params
}

func names(c *catalog.Catalog) []string {
	var out []string
	for _, t := range c.Types() {
		out = append(out, t.Name)
	}
	return out
}

func TestBuiltinTypesExistWithoutEntries(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	for _, name := range []string{"cpu", "cuda", "metal"} {
		typ, ok := c.Type(name)
		require.True(t, ok, name)
		require.Equal(t, catalog.SourceBuiltin, typ.Source)
	}
	require.IsIncreasing(t, names(c))
	_, ok := c.Type("CPU")
	require.False(t, ok, "names are compared exactly")
}

func TestCPUIsTheReferenceWorker(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	cpu, _ := c.Type("cpu")
	require.Empty(t, cpu.Unavailable())
	require.False(t, cpu.UsesModel(), "a spawn of cpu without a model must work")

	got, err := cpu.Render(catalog.Values{Port: 8081, Model: "test", Device: "0", WorkerID: "cpu-8081-abc123"})
	require.NoError(t, err)
	want := store.Spec{
		Argv: []string{
			self, "worker", "--port", "8081", "--host", "127.0.0.1", "--model=test", "--device=0", "--worker-id", "cpu-8081-abc123",
		},
		Host: "127.0.0.1", Model: "test", Device: "0",
		Ready:   store.Ready{Path: "/health", Status: 200, Stall: 5 * time.Minute},
		Stop:    store.Stop{Signals: []string{"SIGTERM"}, Grace: 10 * time.Second},
		Restart: store.Restart{Policy: store.RestartNever, Max: 5, Window: 10 * time.Minute, Backoff: time.Second, MaxBackoff: 30 * time.Second},
	}
	require.Empty(t, cmp.Diff(want, got))

	bare, err := cpu.Render(catalog.Values{Port: 8080, WorkerID: "cpu-8080-abc123"})
	require.NoError(t, err)
	require.Equal(t, []string{self, "worker", "--port", "8080", "--host", "127.0.0.1", "--worker-id", "cpu-8080-abc123"}, bare.Argv)
}

func TestCUDAAndMetalSayWhatIsMissing(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	for _, name := range []string{"cuda", "metal"} {
		typ, _ := c.Type(name)
		require.Contains(t, typ.Unavailable(), "no worker program is configured for "+name)
		require.Contains(t, typ.Unavailable(), "{name: "+name+", preset: llama-server}")
		_, err := typ.Render(catalog.Values{Port: 8080, Model: "m"})
		require.ErrorIs(t, err, catalog.ErrUnavailable)
		require.ErrorContains(t, err, "hive.yaml")
	}
}

func TestAnEntryReplacesTheBuiltinOfItsName(t *testing.T) {
	c, err := catalog.New([]catalog.Entry{
		{Name: "cuda", Command: []string{"llama-server", "--port", "{{.Port}}"}},
		{Name: "cpu", Model: "tiny", Args: []string{"--load-time", "2s"}},
	}, self)
	require.NoError(t, err)

	cuda, _ := c.Type("cuda")
	require.Equal(t, catalog.SourceConfiguration, cuda.Source)
	require.Empty(t, cuda.Unavailable())
	require.Empty(t, cuda.Ready.Path, "listening is enough for a bare command")

	// cpu without a command keeps the reference worker and its readiness.
	cpu, _ := c.Type("cpu")
	require.Equal(t, "/health", cpu.Ready.Path)
	spec, err := cpu.Render(catalog.Values{Port: 8080, WorkerID: "cpu-8080-abc123"})
	require.NoError(t, err)
	require.Equal(t, self, spec.Argv[0])
	require.Contains(t, spec.Argv, "--model=tiny")
	require.Equal(t, []string{"--load-time", "2s"}, spec.Argv[len(spec.Argv)-2:])
}

func TestProgramReplacesTheFirstArgument(t *testing.T) {
	web := one(t, catalog.Entry{Name: "web", Program: "/venv/bin/python3", Command: []string{"python3", "-m", "http.server"}})
	require.Equal(t, []string{"/venv/bin/python3", "-m", "http.server"}, web.Command())

	cpu := one(t, catalog.Entry{Name: "cpu", Program: "/elsewhere/hive"})
	spec, err := cpu.Render(catalog.Values{Port: 8080, WorkerID: "w"})
	require.NoError(t, err)
	require.Equal(t, []string{"/elsewhere/hive", "worker"}, spec.Argv[:2])
}

func TestReadyAndStopOfAnEntry(t *testing.T) {
	typ := one(t, catalog.Entry{
		Name: "web", Command: []string{"web"},
		Ready: catalog.ReadyEntry{Path: ptr("/up"), Status: 204, Stall: ptr(time.Duration(0)), Timeout: ptr(time.Minute)},
		Stop:  catalog.StopEntry{Signal: []string{"int", "SIGTERM"}, Grace: ptr(3 * time.Second), Scope: "tree"},
	})
	require.Equal(t, store.Ready{Path: "/up", Status: 204, Timeout: time.Minute}, typ.Ready)
	require.Equal(t, store.Stop{Signals: []string{"SIGINT", "SIGTERM"}, Grace: 3 * time.Second, Tree: true}, typ.Stop)

	for scheme, tls := range map[string]bool{"": false, "http": false, "https": true} {
		typ = one(t, catalog.Entry{Name: "web", Command: []string{"web"}, Ready: catalog.ReadyEntry{Scheme: scheme}})
		require.Equal(t, tls, typ.Ready.TLS, scheme)
	}

	listening := one(t, catalog.Entry{Name: "cpu", Ready: catalog.ReadyEntry{Path: ptr("")}})
	require.Empty(t, listening.Ready.Path, "an empty path is not the same as none")
}

func TestSpawnOverridesTheEntrysDefaults(t *testing.T) {
	typ := one(t, catalog.Entry{
		Name: "llama", Command: []string{"llama", "-m", "{{.Model}}", "-c", "{{.Params.ctx}}", "-b", "{{.Params.batch}}"},
		Model: "/models/a.gguf", Device: "0", Params: plain(map[string]string{"ctx": "4096", "batch": "512"}),
	})
	spec, err := typ.Render(catalog.Values{Port: 8080})
	require.NoError(t, err)
	require.Equal(t, []string{"llama", "-m", "/models/a.gguf", "-c", "4096", "-b", "512"}, spec.Argv)
	require.Equal(t, "0", spec.Device)

	spec, err = typ.Render(catalog.Values{Port: 8080, Model: "/models/b.gguf", Device: "1", Params: map[string]string{"ctx": "8192"}})
	require.NoError(t, err)
	require.Equal(t, []string{"llama", "-m", "/models/b.gguf", "-c", "8192", "-b", "512"}, spec.Argv)
	require.Equal(t, "1", spec.Device)
	require.Equal(t, map[string]string{"ctx": "8192", "batch": "512"}, spec.Params)
	require.Equal(t, "4096", typ.Params["ctx"].Default, "a spawn must not change the type")

	_, err = typ.Render(catalog.Values{Port: 8080, Params: map[string]string{"cxt": "1"}})
	require.ErrorIs(t, err, catalog.ErrUnknownParam)
	require.ErrorContains(t, err, `"cxt" of worker type llama; it has batch, ctx`)
}

func TestEveryFieldReachesATemplate(t *testing.T) {
	typ := one(t, catalog.Entry{
		Name:    "all",
		Command: []string{"p", "{{.Port}} {{range .Ports}}{{.}},{{end}} {{.Host}} {{.Model}} {{.Device}} {{.WorkerID}} {{.Name}} {{.QueenURL}} {{.HiveURL}} {{.Hive}} {{.Program}} {{.Params.a}}"},
		Params:  plain(map[string]string{"a": "b"}),
	})
	spec, err := typ.Render(catalog.Values{
		Port: 1, Ports: []uint16{1, 2}, Host: "h", Model: "m", Device: "d", WorkerID: "w", Name: "n", QueenURL: "q", HiveURL: "u",
	})
	require.NoError(t, err)
	require.Equal(t, "1 1,2, h m d w n q u "+self+" p b", spec.Argv[1])
	require.Equal(t, "h", spec.Host)
}

// redis-server --save "" --appendonly no: without the empty argument the next flag
// was taken for the value of --save, and redis did not start.
func TestAnArgumentThatIsWrittenEmptyStays(t *testing.T) {
	typ := one(t, catalog.Entry{
		Name: "redis", Command: []string{"redis-server", "--save", "", "{{.Device}}"}, Args: []string{""},
		BeforeStart: []string{"sh", "", "{{.Device}}"}, Stop: catalog.StopEntry{Command: []string{"p", "{{.Device}}", ""}},
	})
	spec, err := typ.Render(catalog.Values{Port: 8080})
	require.NoError(t, err)
	require.Equal(t, []string{"redis-server", "--save", "", ""}, spec.Argv)
	require.Equal(t, []string{"p", ""}, spec.Stop.Command)
	hook, err := typ.Hook(catalog.Values{Port: 8080})
	require.NoError(t, err)
	require.Equal(t, []string{"sh", ""}, hook)
}

func TestWhatACallerGivesStaysOneArgument(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "web", Command: []string{"p", "--model={{.Model}}"}})
	const evil = "a b; rm -rf / $(id) {{.Port}} '\""
	spec, err := typ.Render(catalog.Values{Port: 8080, Model: evil})
	require.NoError(t, err)
	require.Equal(t, []string{"p", "--model=" + evil}, spec.Argv)
}

func TestNoCommandLineHoldsTheKeepersMark(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "web", Command: []string{"p", "{{.Model}}"}})
	_, err := typ.Render(catalog.Values{Port: 8080, Model: "/home/u/rbee-hive/m.gguf"})
	require.ErrorIs(t, err, catalog.ErrRender)
	require.ErrorContains(t, err, "command[1]")
	require.ErrorContains(t, err, `"rbee-hive"`)

	// hive installed under such a path: it starts, and says why cpu is not to be had.
	c, err := catalog.New(nil, "/src/rbee-hive/bin/hive")
	require.NoError(t, err)
	cpu, _ := c.Type("cpu")
	require.Contains(t, cpu.Unavailable(), "/src/rbee-hive/bin/hive")
}

func TestUsesModel(t *testing.T) {
	for name, tc := range map[string]struct {
		arg  string
		uses bool
	}{
		"plain":               {"{{.Model}}", true},
		"in a text":           {"--model={{.Model}}", true},
		"by the root":         {"{{$.Model}}", true},
		"in a pipeline":       {"{{.Model | printf \"%s\"}}", true},
		"in parentheses":      {"{{printf \"%s\" (print .Model)}}", true},
		"in a range":          {"{{range .Ports}}{{$.Model}}{{end}}", true},
		"in another if":       {"{{if .Device}}{{.Model}}{{end}}", true},
		"guarded by if":       {"{{if .Model}}--model={{.Model}}{{end}}", false},
		"guarded by with":     {"{{with .Model}}--model={{.}}{{end}}", false},
		"in the else of if":   {"{{if .Model}}x{{else}}{{.Model}}{{end}}", true},
		"a param called so":   {"{{.Params.model}}", false},
		"a text about .Model": {"{{\".Model\"}} .Model", false},
		"not at all":          {"{{.Port}}", false},
	} {
		t.Run(name, func(t *testing.T) {
			typ := one(t, catalog.Entry{Name: "x", Command: []string{"p", tc.arg}, Params: plain(map[string]string{"model": "m"})})
			require.Equal(t, tc.uses, typ.UsesModel())
			err := typ.Check(catalog.Values{})
			if tc.uses {
				require.ErrorIs(t, err, catalog.ErrModelRequired)
				require.NoError(t, typ.Check(catalog.Values{Model: "m"}))
				return
			}
			require.NoError(t, err)
		})
	}
}

func TestADefaultModelIsEnough(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "x", Command: []string{"p", "{{.Model}}"}, Model: "m"})
	require.True(t, typ.UsesModel())
	require.NoError(t, typ.Check(catalog.Values{}))
}

func TestEnvIsACopy(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "x", Command: []string{"p"}, Env: []string{"A=1", "HF_TOKEN"}})
	typ.Env()[0] = "changed"
	require.Equal(t, []string{"A=1", "HF_TOKEN"}, typ.Env())
	require.Equal(t, "127.0.0.1", typ.Host())
}

func TestARenderedSpecIsTheCallersOwn(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "x", Command: []string{"p"}, Params: plain(map[string]string{"a": "1"})})
	spec, err := typ.Render(catalog.Values{Port: 8080})
	require.NoError(t, err)
	spec.Params["a"], spec.Stop.Signals[0] = "2", "SIGKILL"
	again, err := typ.Render(catalog.Values{Port: 8080})
	require.NoError(t, err)
	require.Equal(t, "1", again.Params["a"])
	require.Equal(t, []string{"SIGTERM"}, again.Stop.Signals)
}

func TestWrongEntries(t *testing.T) {
	web := func(change func(*catalog.Entry)) catalog.Entry {
		e := catalog.Entry{Name: "web", Command: []string{"web"}}
		change(&e)
		return e
	}
	for name, tc := range map[string]struct {
		entry catalog.Entry
		want  string // all of the error
	}{
		"no name":         {catalog.Entry{Command: []string{"p"}}, "workers[0]: name: is missing; every worker entry needs one"},
		"path as name":    {catalog.Entry{Name: "../x"}, `workers[0] (../x): name: "../x": expected letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit`},
		"long name":       {catalog.Entry{Name: strings.Repeat("x", 64)}, "at most 63"},
		"no command":      {catalog.Entry{Name: "web"}, `workers[0] (web): command: is missing; expected a list such as ["python3", "-m", "http.server", "{{.Port}}"]`},
		"program alone":   {catalog.Entry{Name: "cuda", Program: "/x"}, "workers[0] (cuda): command: is missing"},
		"empty program":   {web(func(e *catalog.Entry) { e.Command = []string{"", "x"} }), "workers[0] (web): command[0]: the program is empty"},
		"unknown field":   {web(func(e *catalog.Entry) { e.Command = []string{"p", "{{.Prot}}"} }), "workers[0] (web): command[1]: <.Prot>: can't evaluate field Prot; the fields are .Port .Ports .Host .Model .ModelID .Device .WorkerID .Name .QueenURL .HiveURL .Hive .Program .Params.<key>"},
		"missing param":   {web(func(e *catalog.Entry) { e.Args = []string{"{{.Params.ctx}}"} }), `workers[0] (web): args[0]: <.Params.ctx>: map has no entry for key "ctx"`},
		"bad template":    {web(func(e *catalog.Entry) { e.Program = "{{.Port" }), "workers[0] (web): program: unclosed action"},
		"no function":     {web(func(e *catalog.Entry) { e.Args = []string{"{{env \"HOME\"}}"} }), `workers[0] (web): args[0]: function "env" not defined`},
		"NUL":             {web(func(e *catalog.Entry) { e.Args = []string{"a\x00b"} }), "workers[0] (web): args[0]: has a NUL byte, which no argument may have"},
		"keeper's mark":   {web(func(e *catalog.Entry) { e.Command = []string{"/opt/rbee-hive/p"} }), `workers[0] (web): command[0]: the worker's command line would contain "rbee-hive" in "/opt/rbee-hive/p"`},
		"model flag":      {web(func(e *catalog.Entry) { e.Model = "-x" }), `workers[0] (web): model: "-x" begins with '-'`},
		"device line":     {web(func(e *catalog.Entry) { e.Device = "0\n1" }), `workers[0] (web): device: "0\n1" has control characters`},
		"device not seen": {web(func(e *catalog.Entry) { e.Device = "0\u200b" }), `workers[0] (web): device: "0\u200b" has \u200b, which is invisible`},
		"param name":      {web(func(e *catalog.Entry) { e.Params = plain(map[string]string{"a-b": "1"}) }), "workers[0] (web): params.a-b: a parameter's name is made of a-z, 0-9 and '_'"},
		"param value":     {web(func(e *catalog.Entry) { e.Params = plain(map[string]string{"a": "-1"}) }), `workers[0] (web): params.a: "-1" begins with '-'`},
		"env name":        {web(func(e *catalog.Entry) { e.Env = []string{"A=1", "1A=s3cret"} }), "workers[0] (web): env[1]: expected NAME=value"},
		"env stamp":       {web(func(e *catalog.Entry) { e.Env = []string{"RBEEHIVE_STATE=x"} }), "workers[0] (web): env[0]: RBEEHIVE_STATE: RBEEHIVE_* are hive's marks"},
		"env of hive":     {web(func(e *catalog.Entry) { e.Env = []string{"HIVE_TOKEN_FILE"} }), "workers[0] (web): env[0]: HIVE_TOKEN_FILE: HIVE_* configure hive itself"},
		"env NUL":         {web(func(e *catalog.Entry) { e.Env = []string{"A=s3cret\x00"} }), "workers[0] (web): env[0]: A: the value holds a NUL byte"},
		"port":            {web(func(e *catalog.Entry) { e.Port = 65536 }), "workers[0] (web): port: 65536: expected a port from 1 to 65535"},
		"ports":           {web(func(e *catalog.Entry) { e.Ports = -1 }), "workers[0] (web): ports: -1: expected how many ports in a row a worker leases, from 1 to 256"},
		"ports beyond":    {web(func(e *catalog.Entry) { e.Port, e.Ports = 65535, 2 }), "workers[0] (web): ports: 2: fewer than that many ports follow port 65535"},
		"dir":             {web(func(e *catalog.Entry) { e.Dir = "srv" }), `workers[0] (web): dir: "srv": expected an absolute path`},
		"user":            {web(func(e *catalog.Entry) { e.User = "a b" }), `workers[0] (web): user: "a b": expected the name of a user, a uid, or uid:gid`},
		"env_file":        {web(func(e *catalog.Entry) { e.EnvFile = "x.env" }), `workers[0] (web): env_file: "x.env": expected an absolute path`},
		"reload":          {web(func(e *catalog.Entry) { e.Reload = "now" }), `workers[0] (web): reload: "now": expected keep or restart`},
		"before_start":    {web(func(e *catalog.Entry) { e.BeforeStart = []string{"p", "{{.Modle}}"} }), "workers[0] (web): before_start[1]: <.Modle>: can't evaluate field Modle"},
		"stop.command":    {web(func(e *catalog.Entry) { e.Stop.Command = []string{"{{"} }), "workers[0] (web): stop.command: "},
		"live path":       {web(func(e *catalog.Entry) { e.Live.Path = ptr("x") }), `workers[0] (web): live.path: "x": expected a path that begins with '/'`},
		"live interval":   {web(func(e *catalog.Entry) { e.Live.Interval = ptr(time.Millisecond) }), "workers[0] (web): live.interval: expected a duration of 100ms or more"},
		"live timeout":    {web(func(e *catalog.Entry) { e.Live.Timeout = ptr(time.Millisecond) }), "workers[0] (web): live.timeout: expected a duration of 100ms or more"},
		"live timeout, 2": {web(func(e *catalog.Entry) { e.Live.Timeout = ptr(11 * time.Second) }), "workers[0] (web): live.timeout: 11s: expected a duration that is not longer than live.interval (10s)"},
		"live failures":   {web(func(e *catalog.Entry) { e.Live.Failures = -1 }), "workers[0] (web): live.failures: -1: expected a number from 1 to 1000"},
		"live action":     {web(func(e *catalog.Entry) { e.Live.Action = "kill" }), `workers[0] (web): live.action: "kill": expected restart or report`},
		"restart":         {web(func(e *catalog.Entry) { e.Restart.Policy = "yes" }), `workers[0] (web): restart.policy: "yes": expected never, on-failure or always`},
		"restart max":     {web(func(e *catalog.Entry) { e.Restart.Max = ptr(0) }), "workers[0] (web): restart.max: 0: expected a number from 1 to 1000"},
		"restart wait":    {web(func(e *catalog.Entry) { e.Restart.Backoff = ptr(time.Duration(0)) }), "workers[0] (web): restart.backoff: expected a duration of 1ms or more"},
		"listener":        {web(func(e *catalog.Entry) { e.Listener = "all" }), `workers[0] (web): listener: "all": expected tree or any`},
		"base path":       {web(func(e *catalog.Entry) { e.BasePath = "comfy" }), `workers[0] (web): base_path: "comfy" is not a path that begins with '/' and does not end with it`},
		"base path, end":  {web(func(e *catalog.Entry) { e.BasePath = "/comfy/" }), `workers[0] (web): base_path: "/comfy/" is not a path that begins with '/' and does not end with it`},
		"base path, more": {web(func(e *catalog.Entry) { e.BasePath = "/comfy?a" }), `workers[0] (web): base_path: "/comfy?a" has a space, '?' or '#'`},
		"ready path":      {web(func(e *catalog.Entry) { e.Ready.Path = ptr("health") }), `workers[0] (web): ready.path: "health": expected a path that begins with '/'`},
		"ready space":     {web(func(e *catalog.Entry) { e.Ready.Path = ptr("/a b") }), `workers[0] (web): ready.path: "/a b" has a space`},
		"ready scheme":    {web(func(e *catalog.Entry) { e.Ready.Scheme = "HTTPS" }), `workers[0] (web): ready.scheme: "HTTPS": expected http or https`},
		"ready status":    {web(func(e *catalog.Entry) { e.Ready.Status = 99 }), "workers[0] (web): ready.status: 99: expected an HTTP status from 200 to 599"},
		"ready stall":     {web(func(e *catalog.Entry) { e.Ready.Stall = ptr(-time.Second) }), "workers[0] (web): ready.stall: expected a duration of 0s or more"},
		"ready timeout":   {web(func(e *catalog.Entry) { e.Ready.Timeout = ptr(-time.Second) }), "workers[0] (web): ready.timeout: expected a duration of 0s or more"},
		"stop signal":     {web(func(e *catalog.Entry) { e.Stop.Signal = []string{"SIGTERM", "SIGSTOP"} }), `workers[0] (web): stop.signal[1]: "SIGSTOP": expected one of SIGTERM, SIGINT`},
		"stop grace":      {web(func(e *catalog.Entry) { e.Stop.Grace = ptr(-time.Second) }), "workers[0] (web): stop.grace: expected a duration of 0s or more"},
		"stop scope":      {web(func(e *catalog.Entry) { e.Stop.Scope = "all" }), `workers[0] (web): stop.scope: "all": expected main or tree`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := catalog.New([]catalog.Entry{tc.entry}, self)
			require.ErrorIs(t, err, catalog.ErrEntry)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "\n", "one line")
			require.NotContains(t, err.Error(), "s3cret", "values of env are secrets")
		})
	}
}

func TestTwoEntriesOfOneName(t *testing.T) {
	_, err := catalog.New([]catalog.Entry{{Name: "a", Command: []string{"p"}}, {Name: "a", Command: []string{"q"}}}, self)
	require.EqualError(t, err, "workers[1] (a): name: the name is already used by another entry")
}

// A probe has ended when the next is due; a record of an older hive means the same by
// saying nothing.
func TestTimeoutOfLivenessProbes(t *testing.T) {
	for _, c := range []struct{ interval, timeout, want time.Duration }{
		{0, 0, 5 * time.Second},
		{time.Second, 0, time.Second},
		{time.Minute, 0, 5 * time.Second},
		{time.Minute, time.Minute, time.Minute},
		{time.Second, 300 * time.Millisecond, 300 * time.Millisecond},
	} {
		live := catalog.LiveEntry{Failures: 2}
		if c.interval > 0 {
			live.Interval = &c.interval
		}
		if c.timeout > 0 {
			live.Timeout = &c.timeout
		}
		got := one(t, catalog.Entry{Name: "web", Command: []string{"/bin/web", "{{.Port}}"}, Live: live}).Live
		require.Equal(t, c.want, got.Timeout, "%+v", c)
		if c.timeout == 0 {
			got.Timeout = 0
			require.Equal(t, c.want, got.AnswerTimeout(), "%+v", c)
		}
	}
}
