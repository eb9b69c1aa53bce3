package command_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const planJSON = `{"dry_run":true,"types":[{"name":"new","change":"added","keys":[]},{"name":"web","change":"changed","keys":["command","env"]}],` +
	`"workers":[{"worker_id":"w-1","name":"page","type":"web","port":8080,"action":"restart","reason":"changed in its type web: command, env"},` +
	`{"worker_id":"w-2","name":null,"type":"old","port":8081,"action":"stale","reason":"its type old is no longer configured"},` +
	`{"worker_id":"w-3","name":null,"type":"cpu","port":8082,"action":"current","reason":"its type is what it was started as"}],` +
	`"autostart":["new"],"applied":["workers_keep"],"need_start":["listen"]}`

func TestReload(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{"POST /v1/reload": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("dry_run") == "true" {
			answer(planJSON)(w, r)
			return
		}
		answer(`{"dry_run":false,"types":[],"workers":[],"autostart":[],"applied":[],"need_start":[]}`)(w, r)
	}})
	require.Equal(t, result{0, `WHAT       NAME          CHANGE   DETAIL
type       new           added    -
type       web           changed  command, env
worker     w-1           restart  changed in its type web: command, env
worker     w-2           stale    its type old is no longer configured
worker     w-3           current  its type is what it was started as
autostart  new           start    no worker of it is alive
setting    workers_keep  applied  -
setting    listen        pending  needs a restart of hive
dry run: 8 changes, none made
`, ""}, hivectl(t, addr, "reload", "--dry-run"))
	require.Equal(t, result{0, planJSON + "\n", ""}, hivectl(t, addr, "reload", "--dry-run", "-o", "json"))
	require.Contains(t, hivectl(t, addr, "reload", "--dry-run", "-o", "yaml").stdout, "need_start:\n")
	require.Equal(t, result{0, "w-1\nw-2\n", ""}, hivectl(t, addr, "reload", "--dry-run", "-q"))
	require.Equal(t, result{0, "nothing has changed\n", ""}, hivectl(t, addr, "reload"))
	require.Equal(t, result{0, "", ""}, hivectl(t, addr, "reload", "-q"))
	require.Equal(t, 2, hivectl(t, addr, "reload", "web").code)
}

func TestReloadOfAFileWithAMistake(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{"POST /v1/reload": problem(http.StatusConflict, "invalid_configuration", "hive.yaml:2: ports: unknown key")})
	require.Equal(t, result{1, "", "hivectl: hive.yaml:2: ports: unknown key\nhint: nothing was changed; correct the file and try again\n"}, hivectl(t, addr, "reload"))
}

// A column only where there is something in it.
func TestStaleIsShown(t *testing.T) {
	stale := worker("w-1", "", "ready", 8080)
	stale = stale[:len(stale)-1] + `,"stale":true}`
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(stale, worker("w-2", "", "ready", 8081))})
	require.Regexp(t, `^WORKER +NAME +STATE +STALE +PORT .*\nw-1 +- +ready +yes +8080 .*\nw-2 +- +ready +- +8081 `, hivectl(t, addr, "ps").stdout)
	require.Contains(t, hivectl(t, addr, "workers", "list").stdout, "STALE")
	require.Regexp(t, `^WORKER +NAME +STATE +STALE +PORT .* REASON\n`, hivectl(t, addr, "workers", "list").stdout)
	_, addr = serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(worker("w-2", "", "ready", 8081))})
	require.NotContains(t, hivectl(t, addr, "ps").stdout, "STALE")
	require.NotContains(t, hivectl(t, addr, "ps").stdout, "RESTARTS")
}

// A worker that ends again and again is seen in the list.
func TestRestartsAreShown(t *testing.T) {
	stale := often(worker("w-1", "", "backoff", 8080), 10)
	stale = stale[:len(stale)-1] + `,"stale":true}`
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(stale, worker("w-2", "", "ready", 8081))})
	require.Regexp(t, `^WORKER +NAME +STATE +STALE +RESTARTS +PORT .*\nw-1 +- +backoff +yes +10 +8080 .*\nw-2 +- +ready +- +- +8081 `, hivectl(t, addr, "ps").stdout)
	_, addr = serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(often(worker("w-1", "", "backoff", 8080), 3))})
	require.Regexp(t, `^WORKER +NAME +STATE +RESTARTS +PORT .*\nw-1 +- +backoff +3 +8080 `, hivectl(t, addr, "ps").stdout)
}
