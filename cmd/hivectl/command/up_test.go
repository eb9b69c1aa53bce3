package command_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const spawnResult = `{"worker_id":"cpu-8080-abcdef","name":null,"port":8080,"ports":[8080],"pid":4711,"url":"http://127.0.0.1:8080","lease_id":"l","status":"ready"}`

// spawning is an API on which a spawn goes well.
func spawning() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/jobs":                   answer(`{"job_id":"job-1","sse_url":"/v1/jobs/job-1/stream","state":"queued","operation":"worker_spawn"}`),
		"GET /v1/jobs/job-1/events":       events("port port 8080 leased", "log loading \x1b[2J weights", "end worker_spawn succeeded"),
		"GET /v1/jobs/job-1":              answer(`{"job_id":"job-1","operation":"worker_spawn","state":"succeeded","result":` + spawnResult + `,"error":null}`),
		"GET /v1/workers/cpu-8080-abcdef": answer(worker("cpu-8080-abcdef", "", "ready", 8080)),
	}
}

func TestUpSendsWhatTheCommandLineSays(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("model.gguf", nil, 0o600))
	require.NoError(t, os.Mkdir("org", 0o700))
	for want, args := range map[string][]string{
		`{"operation":"worker_spawn","worker":"cpu","wait":"ready"}`:                                             nil,
		`{"operation":"worker_spawn","worker":"cpu","model":"test","wait":"ready"}`:                              {"--model", "test"},
		`{"operation":"worker_spawn","worker":"cpu","model":"` + dir + `/model.gguf","wait":"ready"}`:            {"--model", "model.gguf"},
		`{"operation":"worker_spawn","worker":"cpu","model":"org","wait":"ready"}`:                               {"--model", "org"},
		`{"operation":"worker_spawn","worker":"cpu","model":"` + filepath.Join(dir, "org") + `","wait":"ready"}`: {"--model", "./org"},
		`{"operation":"worker_spawn","worker":"cpu","device":"0,1","name":"n","port":8081,"params":{"a":"1=2","b":""},"wait":"started"}`: {
			"--device", "0,1", "--name", "n", "--port", "8081", "--param", "a=1=2", "--param", "b=", "--wait", "started",
		},
	} {
		api, addr := serve(t, spawning())
		r := hivectl(t, addr, append([]string{"up", "cpu"}, args...)...)
		require.Zero(t, r.code, r.stderr)
		require.Equal(t, []string{want}, api.sent())
	}
}

// What was seen: . and dir/ came to the worker as they were, which runs elsewhere, and
// link/../m.gguf as another file.
func TestWhatIsThePathOfAModel(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	t.Chdir(dir)
	for _, sub := range []string{"org/qwen/7b", "sub", elsewhere + "/deep"} {
		require.NoError(t, os.MkdirAll(sub, 0o700))
	}
	require.NoError(t, os.WriteFile(elsewhere+"/m.gguf", nil, 0o600))
	require.NoError(t, os.WriteFile("name:tag", nil, 0o600))
	require.NoError(t, os.Symlink(elsewhere+"/deep", "link"))
	for model, want := range map[string]string{
		".": dir, "..": filepath.Dir(dir), "./": dir, "../": filepath.Dir(dir), "sub/": dir + "/sub", "sub/..": dir, "s3://bucket/m/": "s3://bucket/m/", "./sub/..": dir,
		"./none.gguf": dir + "/none.gguf", "../none": filepath.Dir(dir) + "/none", "none/": dir + "/none", ".none": dir + "/.none",
		"name:tag": dir + "/name:tag", "org/qwen/7b": dir + "/org/qwen/7b",
		"link/../m.gguf": dir + "/link/../m.gguf", dir + "/link/../m.gguf": dir + "/link/../m.gguf", "link/./../m.gguf": dir + "/link/./../m.gguf",
		"/srv//models/": "/srv/models", "/": "/",
		"sub": "sub", "org/qwen": "org/qwen", "org/none.gguf": "org/none.gguf", "qwen:7b": "qwen:7b", "org/name:sub/m.gguf": "org/name:sub/m.gguf",
		"~/m.gguf": "~/m.gguf", // the hive refuses it
	} {
		api, addr := serve(t, spawning())
		r := hivectl(t, addr, "up", "cpu", "--model", model)
		require.Zero(t, r.code, r.stderr)
		require.JSONEq(t, `{"operation":"worker_spawn","worker":"cpu","model":"`+want+`","wait":"ready"}`, api.sent()[0], model)
	}
}

func TestUpTellsTheStory(t *testing.T) {
	_, addr := serve(t, spawning())
	r := hivectl(t, addr, "up", "cpu")
	require.Zero(t, r.code)
	require.Equal(t, "worker  cpu-8080-abcdef\nstatus  ready\nurl     http://127.0.0.1:8080\npid     4711\nport    8080\nlog     /l\nstop    hivectl stop cpu-8080-abcdef\n", r.stdout)
	require.Contains(t, r.stderr, "port      port 8080 leased\n")
	require.Contains(t, r.stderr, "loading \\x1b[2J weights\n", "a worker's log must not drive the terminal")
}

func TestUpThatFails(t *testing.T) {
	routes := spawning()
	failure := `{"job_id":"job-1","operation":"worker_spawn","state":"failed","result":null,"error":{"code":"exited_early","message":"exited with code 7","log":["out of\tluck"]}}`
	routes["GET /v1/jobs/job-1"] = answer(failure)
	routes["GET /v1/jobs/job-1/events"] = events("state queued", "end failed")
	_, addr := serve(t, routes)
	r := hivectl(t, addr, "up", "cpu")
	require.Equal(t, 1, r.code)
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, "last lines of the log:\n  out of luck\nhivectl: worker_spawn failed: exited_early: exited with code 7\n")

	r = hivectl(t, addr, "up", "cpu", "-o", "json")
	require.Equal(t, 1, r.code)
	require.Equal(t, failure+"\n", r.stdout)
	require.NotContains(t, r.stderr, "queued")

	// A log that was shown line by line is not shown again.
	routes["GET /v1/jobs/job-1/events"] = events("log out of luck", "end failed")
	r = hivectl(t, addr, "up", "cpu")
	require.NotContains(t, r.stderr, "last lines of the log")
}

func TestUpUsage(t *testing.T) {
	for _, args := range [][]string{
		{"up", "--model", "m"},
		{"up", ""},
		{"up", "a", "b"},
		{"up", "cpu", "--port", "0"},
		{"up", "cpu", "--port", "65536"},
		{"up", "cpu", "--wait", "never"},
		{"up", "cpu", "--param", "=x"},
		{"up", "cpu", "--param", "x"},
	} {
		api, addr := serve(t, spawning())
		r := hivectl(t, addr, args...)
		require.Equal(t, 2, r.code, args)
		require.Regexp(t, `^hivectl: [^\n]+\n(hint: [^\n]+\n)?$`, r.stderr)
		require.Empty(t, api.sent())
	}
}

// What was seen: --model $'m\xe8.gguf' started the worker with U+FFFD in the path.
func TestArgumentsThatAreNotUTF8(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("m\xe8.gguf", nil, 0o600))
	for want, args := range map[string][]string{
		`model: "` + dir + `/m\xe8.gguf" is not valid UTF-8`: {"up", "cpu", "--model", "m\xe8.gguf"},
		`model: "m\xe8" is not valid UTF-8`:                  {"up", "cpu", "--model", "m\xe8", "--pull"},
		`model: "x\xe8" is not valid UTF-8`:                  {"types", "explain", "cpu", "--model", "x\xe8"},
		`params.main: "/a\xe8/main.py" is not valid UTF-8`:   {"up", "cpu", "--param", "main=/a\xe8/main.py"},
		`params: "k\xe8" is not valid UTF-8`:                 {"up", "cpu", "--param", "k\xe8=1"},
		`device: "\xe8" is not valid UTF-8`:                  {"up", "cpu", "--device", "\xe8"},
		`name: "\xe8" is not valid UTF-8`:                    {"up", "cpu", "--name", "\xe8"},
		`worker: "\xe8" is not valid UTF-8`:                  {"up", "\xe8"},
		`model: "org/\xe8" is not valid UTF-8`:               {"models", "pull", "org/\xe8"},
		`id: "org/\xe8" is not valid UTF-8`:                  {"models", "rm", "org/\xe8"},
		`owner: "\xe8" is not valid UTF-8`:                   {"leases", "acquire", "--ttl", "9s", "--owner", "\xe8"},
		`the operation is not valid UTF-8`:                   {"jobs", "submit", "{\"operation\":\"model_get\",\"id\":\"\xe8\"}"},
		`name: "\xe8" is not valid UTF-8` + "\x00":           {"tokens", "add", "\xe8", "--read"},
	} {
		api, addr := serve(t, spawning())
		r := hivectl(t, addr, args...)
		require.Equal(t, 2, r.code, "%v: %s", args, r.stderr)
		require.Contains(t, r.stderr, "hivectl: "+strings.TrimSuffix(want, "\x00")+"\nhint: a hive is asked in JSON")
		require.Empty(t, api.sent())
	}
}

// Without a type: the autostart entries that have no living worker.
func TestUpAll(t *testing.T) {
	typ := func(name string, autostart bool) string {
		return fmt.Sprintf(`{"name":%q,"source":"configuration","preset":null,"description":"d","autostart":%t,"installed":true,"program":"/p","version":null,"reason":null}`, name, autostart)
	}
	routes := spawning()
	routes["GET /v1/types"] = answer(`{"types":[` + typ("cpu", true) + "," + typ("web", true) + "," + typ("Chat", true) + "," + typ("other", false) + `],"next":""}`)
	routes["GET /v1/workers"] = workers(worker("cpu-1-a", "", "ready", 1), strings.Replace(worker("web-2-b", "web", "stopped", 2), `"type":"cpu"`, `"type":"web"`, 1))
	api, addr := serve(t, routes)
	r := hivectl(t, addr, "up")
	require.Zero(t, r.code, r.stderr)
	require.ElementsMatch(t, []string{
		`{"operation":"worker_spawn","worker":"web"}`, `{"operation":"worker_spawn","worker":"Chat"}`,
	}, api.sent())
	require.Equal(t, 2, strings.Count(r.stdout, " is ready at "), r.stdout)

	routes["GET /v1/types"] = answer(`{"types":[` + typ("cpu", true) + `],"next":""}`)
	_, addr = serve(t, routes)
	require.Equal(t, result{0, "all 1 autostart entries have a running worker\n", ""}, hivectl(t, addr, "up"))
	routes["GET /v1/types"] = answer(`{"types":[` + typ("other", false) + `],"next":""}`)
	_, addr = serve(t, routes)
	r = hivectl(t, addr, "up")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "no entry of the configuration has autostart")
}

func TestRestart(t *testing.T) {
	routes := spawning()
	routes["GET /v1/workers"] = workers(worker("cpu-1-a", "demo", "failed", 1))
	api, addr := serve(t, routes)
	r := hivectl(t, addr, "restart", "demo")
	require.Zero(t, r.code, r.stderr)
	require.JSONEq(t, `{"operation":"worker_restart","worker_id":"cpu-1-a"}`, api.sent()[0])
	require.Contains(t, r.stdout, "status  ready\n")
	require.Equal(t, 3, hivectl(t, addr, "restart", "nobody").code)
}
