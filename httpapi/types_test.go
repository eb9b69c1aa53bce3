package httpapi_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/workertype"
	"rbeehive/httpapi"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
	testprogram "rbeehive/test/program"
)

func TestTypeDetailShape(t *testing.T) {
	view := workertype.View{
		Name: "chat", Source: catalog.SourceConfiguration, Preset: "vllm", Description: "d", Model: "org/m",
		Params: map[string]catalog.Param{"ctx": {Default: "1", Pattern: "[0-9]+"}, "main": {Default: "/m.py", Fixed: true}}, NeedsModel: true, Template: []string{"vllm", "{{.Port}}"}, Program: "/b/vllm", Version: "1.0",
		Plan: &workertype.Plan{
			Plan: catalog.Plan{
				Spec: store.Spec{
					Argv: []string{"/b/vllm", "8080"}, Host: "0.0.0.0",
					Ready: store.Ready{Path: "/health", Status: 200, Stall: time.Minute, Timeout: time.Second},
					Stop:  store.Stop{Signals: []string{"SIGINT"}, Grace: 2 * time.Second, Tree: true},
				},
				Env: []catalog.Variable{
					{Name: "A", Value: "", From: catalog.FromDevice},
					{Name: "B", Value: "1", From: catalog.FromPreset},
					{Name: "C", Value: "1", From: workertype.FromHive},
					// Whatever they held, it would not be shown.
					{Name: "D", Value: "s3cret", From: catalog.FromEntry},
					{Name: "E", Value: "s3cret", From: catalog.FromEnvironment},
					{Name: "F", Value: "x", From: workertype.FromSpawn},
				},
			},
			Port: 8080, WorkerID: "chat-8080-xxxxxx", NoNewPrivs: true, Inherited: []string{"*"}, Removed: []string{"PORT"},
		},
	}
	requireJSON(t, `{"name":"chat","source":"configuration","preset":"vllm","description":"d","autostart":false,"dir":null,"user":null,"env_file":null,"before_start":[],"live":null,
		"restart":{"policy":"","max":0,"window_ms":0,"backoff_ms":0,"max_backoff_ms":0},"installed":true,"program":"/b/vllm","version":"1.0","reason":null,
		"model":"org/m","device":null,"params":{"ctx":"1","main":"/m.py"},
		"parameters":{"ctx":{"default":"1","pattern":"[0-9]+","fixed":false},"main":{"default":"/m.py","pattern":null,"fixed":true}},"needs_model":true,"template":["vllm","{{.Port}}"],
		"command":["/b/vllm","8080"],"no_command":null,"worker_id":"chat-8080-xxxxxx","host":"0.0.0.0","port":8080,
		"env":[{"name":"A","value":"","from":"device"},{"name":"B","value":"1","from":"preset"},{"name":"C","value":"1","from":"hive"},
			{"name":"D","value":null,"from":"entry"},{"name":"E","value":null,"from":"environment"},{"name":"F","value":null,"from":"spawn"}],
		"inherited":["*"],"removed":["PORT"],"no_new_privileges":true,"ready":{"url":"http://127.0.0.1:8080/health","status":200,"stall_ms":60000,"timeout_ms":1000},
		"stop":{"command":[],"signals":["SIGINT"],"grace_ms":2000,"scope":"tree"}}`, httpapi.TypeDetailShape(view))

	view.Plan.Spec.Ready.Path, view.Plan.Spec.Stop.Tree = "", false
	d := httpapi.TypeDetailShape(view)
	require.Nil(t, d.Ready.URL)
	require.Equal(t, "main", d.Stop.Scope)

	requireJSON(t, `{"name":"cuda","source":"built-in","preset":null,"description":"","installed":false,"program":null,"version":null,"reason":"none",
		"model":null,"device":null,"params":{},"parameters":{},"needs_model":false,"template":[],"command":null,"no_command":"nothing","worker_id":null,"host":null,"port":null,
		"env":[],"inherited":[],"removed":[],"no_new_privileges":null,"ready":null,"stop":null,"autostart":false,"dir":null,"user":null,"env_file":null,"before_start":[],"live":null,"restart":null}`,
		httpapi.TypeDetailShape(workertype.View{Name: "cuda", Source: catalog.SourceBuiltin, Missing: "none", NoPlan: "nothing"}))
}

func TestTypes(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "llama-server")
	require.NoError(t, testprogram.Write(program, []byte("#!/bin/sh\necho 'version: 1 (a)'\n"), 0o700))
	r := newRig(t, rigOptions{}, catalog.Entry{Name: "llama", Preset: "llama-server", Program: program, Env: []string{"KEY=s3cret"}})
	find := func(list wire.Types, name string) wire.TypeSummary {
		for _, typ := range list.Types {
			if typ.Name == name {
				return typ
			}
		}
		require.Failf(t, "no such type", "%s", name)
		return wire.TypeSummary{}
	}
	list := decode[wire.Types](t, r.get("/v1/types", http.StatusOK))
	require.Empty(t, list.Next)
	llama := find(list, "llama")
	require.Equal(t, program, *llama.Program)
	require.Nil(t, llama.Version, "nothing is run unless it is asked for")
	require.Equal(t, "llama-server", *llama.Preset)
	require.False(t, find(list, "cuda").Installed)
	require.Equal(t, "preset", find(list, "vllm").Source)
	require.Equal(t, "1 (a)", *find(decode[wire.Types](t, r.get("/v1/types?version=1", http.StatusOK)), "llama").Version)

	body := r.get("/v1/types/llama?model=user/repo:Q4&device=0,1&name=chat&port=18188&version", http.StatusOK)
	require.NotContains(t, body, "s3cret")
	d := decode[wire.TypeDetail](t, body)
	require.Equal(t, []string{program, "--host", "127.0.0.1", "--port", "18188", "-hf", "user/repo:Q4", "--alias", "chat"}, d.Command)
	require.Equal(t, "1 (a)", *d.Version)
	require.Equal(t, "http://127.0.0.1:18188/health", *d.Ready.URL)

	d = decode[wire.TypeDetail](t, r.get("/v1/types/sglang?model=m&param.nccl_port=30500", http.StatusOK))
	require.Contains(t, d.Command, "30500")
	d = decode[wire.TypeDetail](t, r.get("/v1/types/vllm", http.StatusOK))
	require.Nil(t, d.Command)
	require.Contains(t, *d.NoCommand, "a model is required")

	require.Contains(t, r.get("/v1/types/nobody", http.StatusNotFound), `"code":"not_found"`)
	for query, want := range map[string]string{
		"model=-x":        `model: is \"-x\"; it may not begin with '-'`,
		"model=a&model=b": "model: is there twice",
		"modle=a":         `modle: is not known here; expected device, model, name, param.KEY, port, version; did you mean \"model\"?`,
		"param.=a":        "param.: is not known here",
		"port=0":          "port: a port from 1 to 65535 is expected",
		"port=x":          "port: a port from 1 to 65535 is expected",
		"name=A":          "name: is",
		"version=maybe":   "version: true or false is expected",
		"device=cuda:0":   `device: unknown device \"cuda:0\"`,
		"param.ctx=1":     "params: unknown parameter",
	} {
		body := r.get("/v1/types/llama?model=m&"+query, http.StatusBadRequest)
		if query == "model=-x" || query == "model=a&model=b" {
			body = r.get("/v1/types/llama?"+query, http.StatusBadRequest)
		}
		require.Contains(t, body, want, query)
		require.Contains(t, body, `"code":"bad_request"`)
	}
	require.Contains(t, r.get("/v1/types?version=maybe", http.StatusBadRequest), "version: true or false is expected")
	resp, _ := r.send(http.MethodPost, "/v1/types", "")
	require.Equal(t, "GET, HEAD, OPTIONS", resp.Header.Get("Allow"))
}
