package command_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	typesJSON = `{"types":[` +
		`{"name":"chat","source":"configuration","preset":"vllm","description":"d","installed":true,"program":"/venv/bin/vllm","version":"0.11.0","reason":null,"news":1},` +
		`{"name":"cuda","source":"built-in","preset":null,"description":"d","installed":false,"program":null,"version":null,"reason":"no worker program is configured for cuda"}` +
		`],"next":""}`
	typeJSON = `{"name":"chat","source":"configuration","preset":"vllm","description":"vLLM\u001b[2J","installed":true,"program":"/venv/bin/vllm","version":null,"reason":null,` +
		`"model":null,"device":null,"params":{},"needs_model":true,"template":["vllm","serve","{{.Model}}"],` +
		`"command":["/venv/bin/vllm","serve","/my models/q","--port","8080"],"no_command":null,"worker_id":"chat-8080-xxxxxx","host":"127.0.0.1","port":8080,` +
		`"env":[{"name":"SPT_NOENV","value":"1","from":"hive"},{"name":"CUDA_VISIBLE_DEVICES","value":"","from":"device"},{"name":"API_KEY","value":null,"from":"entry"},` +
		`{"name":"HF_TOKEN","value":null,"from":"environment"},{"name":"RBEEHIVE_LEASE","value":null,"from":"spawn"},{"name":"NEW","value":null,"from":"later"}],` +
		`"inherited":["LC_*","PATH"],"removed":["HIVE_*","PORT"],"ready":{"url":"http://127.0.0.1:8080/health","status":200,"stall_ms":300000,"timeout_ms":0},` +
		`"stop":{"command":["docker","stop","x y"],"signals":["SIGINT","SIGTERM"],"grace_ms":10000,"scope":"main"},` +
		`"autostart":true,"dir":"/srv","user":"nobody","no_new_privileges":true,"env_file":"/etc/x.env","before_start":["prepare","m"],` +
		`"live":{"url":"http://127.0.0.1:8080/live","interval_ms":10000,"failures":3,"action":"restart"},` +
		`"restart":{"policy":"on-failure","max":5,"window_ms":600000,"backoff_ms":1000,"max_backoff_ms":30000}}`
	noCommand = `{"name":"chat","source":"configuration","preset":"vllm","description":"d","installed":false,"program":null,"version":null,"reason":"vllm is not in PATH",` +
		`"model":null,"device":null,"params":{},"needs_model":true,"template":[],"command":null,"no_command":"a model is required: the command uses it","worker_id":null,"host":null,"port":null,` +
		`"env":[],"removed":[],"ready":null,"stop":null}`
)

// asked answers with body and keeps the query.
func asked(query *string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		*query = r.URL.RawQuery
		answer(body)(w, r)
	}
}

func TestTypesList(t *testing.T) {
	var query string
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/types": asked(&query, typesJSON)})
	r := hivectl(t, addr, "types", "list")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, `TYPE  SOURCE                INSTALLED  PROGRAM         VERSION
chat  configuration (vllm)  yes        /venv/bin/vllm  0.11.0
cuda  built-in              no         -               -
`, r.stdout)
	require.Equal(t, "version=true", query)
	require.Equal(t, typesJSON+"\n", hivectl(t, addr, "types", "list", "-o", "json").stdout)
	require.Contains(t, hivectl(t, addr, "types", "list", "-o", "yaml").stdout, "types:\n  - name: chat\n")
	hivectl(t, addr, "types", "list", "--versions=false")
	require.Empty(t, query)
	require.Equal(t, "chat\ncuda\n", hivectl(t, addr, "types", "list", "-q").stdout)
	require.Empty(t, query, "for names nothing has to run")
}

func TestTypesExplain(t *testing.T) {
	var query string
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/types/chat": asked(&query, typeJSON)})
	r := hivectl(t, addr, "types", "explain", "chat")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, `type     chat
source   configuration (vllm)
about    vLLM\x1b[2J
program  /venv/bin/vllm
command  /venv/bin/vllm serve '/my models/q' --port 8080
env      SPT_NOENV=1
         CUDA_VISIBLE_DEVICES=''
         API_KEY (of the entry; its value is not shown)
         HF_TOKEN (passed on from hive's own environment)
         RBEEHIVE_LEASE (generated at the start)
         NEW (later)
envfile  /etc/x.env
dir      /srv
user     nobody
before   prepare m
rights   no new ones, whatever it executes (no_new_privileges)
passed   LC_* PATH
removed  HIVE_* PORT
host     127.0.0.1
port     8080
ready    GET http://127.0.0.1:8080/health answers 200; timeout: no progress for 5m
live     GET http://127.0.0.1:8080/live every 10s; after 3 failures it is restarted
restart  on-failure, at most 5 times in 10m, after 1s to 30s; started with hive (autostart)
stop     docker stop 'x y', 10s, then SIGINT, 10s, then SIGTERM, 10s, then SIGKILL (the main process first)
`, r.stdout)
	require.Empty(t, query)
	require.Equal(t, "/venv/bin/vllm serve '/my models/q' --port 8080\n", hivectl(t, addr, "types", "explain", "chat", "-q").stdout)
	require.Equal(t, typeJSON+"\n", hivectl(t, addr, "types", "explain", "chat", "-o", "json").stdout)
}

func TestTypesExplainSendsWhatTheCommandLineSays(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("q.gguf", nil, 0o600))
	var query string
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/types/chat": asked(&query, typeJSON)})
	r := hivectl(t, addr, "types", "explain", "chat", "--model", "q.gguf", "--device", "0,1", "--name", "n", "--port", "8188", "--param", "ctx=a=b", "--version")
	require.Zero(t, r.code, r.stderr)
	path := strings.ReplaceAll(filepath.Join(dir, "q.gguf"), "/", "%2F")
	require.Equal(t, "device=0%2C1&model="+path+"&name=n&param.ctx=a%3Db&port=8188&version=true", query)
}

func TestTypesExplainOtherProbesAndStops(t *testing.T) {
	for body, want := range map[string][]string{
		strings.Replace(typeJSON, `"url":"http://127.0.0.1:8080/health","status":200,"stall_ms":300000,"timeout_ms":0`, `"url":null,"status":200,"stall_ms":0,"timeout_ms":0`, 1): {
			"ready    it listens on its port; no timeout\n",
		},
		strings.Replace(typeJSON, `"timeout_ms":0`, `"timeout_ms":5400000`, 1):   {"given up after no progress for 5m or 1h30m in all\n"},
		strings.Replace(typeJSON, `"timeout_ms":0`, `"timeout_ms":7200000`, 1):   {"or 2h in all\n"},
		strings.Replace(typeJSON, `"timeout_ms":0`, `"timeout_ms":300500`, 1):    {"or 5m0.5s in all\n"},
		strings.Replace(typeJSON, `"scope":"main"`, `"scope":"tree"`, 1):         {"then SIGKILL (all of its processes)\n"},
		strings.Replace(typeJSON, `"version":null`, `"version":"0.11"`, 1):       {"\nversion  0.11\n"},
		strings.Replace(typeJSON, `"installed":true`, `"installed":false`, 1):    {"program  not installed: -\n"},
		strings.Replace(typeJSON, `"preset":"vllm"`, `"preset":null`, 1):         {"source   configuration\n"},
		strings.Replace(typeJSON, `"source":"configuration"`, `"source":"x"`, 1): {"source   x\n"},
	} {
		_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/types/chat": answer(body)})
		r := hivectl(t, addr, "types", "explain", "chat")
		require.Zero(t, r.code, r.stderr)
		for _, w := range want {
			require.Contains(t, r.stdout, w)
		}
	}
}

func TestTypesExplainWithoutACommand(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/types/chat": answer(noCommand)})
	r := hivectl(t, addr, "types", "explain", "chat")
	require.Equal(t, result{2, "", "hivectl: chat: a model is required: the command uses it\nhint: give one with --model\n"}, r)
	r = hivectl(t, addr, "types", "explain", "chat", "-o", "json")
	require.Equal(t, 2, r.code)
	require.Equal(t, noCommand+"\n", r.stdout)
	r = hivectl(t, addr, "types", "explain", "chat", "--model", "m")
	require.Equal(t, result{1, "", "hivectl: chat: a model is required: the command uses it\n"}, r)
}

func TestTypesUsage(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/types/bad": problem(400, "bad_request", "device: unknown device"),
	})
	for _, args := range [][]string{
		{"list", "x"},
		{"explain"},
		{"explain", ""},
		{"explain", "a", "b"},
		{"explain", "a", "--port", "0"},
		{"explain", "a", "--param", "x"},
		{"explain", "bad"},
	} {
		r := hivectl(t, addr, append([]string{"types"}, args...)...)
		require.Equal(t, 2, r.code, args)
		require.Empty(t, r.stdout)
	}
	require.Equal(t, 3, hivectl(t, addr, "types", "explain", "nobody").code)
}
