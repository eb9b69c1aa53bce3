package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hive/config"
)

// entry is a worker entry with more keys.
func entry(keys ...string) string {
	return "workers:\n  - name: web\n    command: [web]\n    " + strings.Join(keys, "\n    ") + "\n"
}

func TestMistakesInTheFile(t *testing.T) {
	for name, tc := range map[string]struct{ doc, want string }{
		"not YAML":          {"listen: [", "hive.yaml:1: did not find expected node content"},
		"a list":            {"- a\n", "hive.yaml:1: expected 'key: value' lines"},
		"a text":            {"hello\n", "hive.yaml:1: expected 'key: value' lines"},
		"a key twice":       {"listen: none\nlisten: b\n", `hive.yaml:2: mapping key "listen" already defined at line 1`},
		"a key in two ways": {"hive_id: a\nHive_ID: b\n", `hive.yaml:2: duplicate key "Hive_ID"`},
		"endless anchor":    {"ports: &a {range: *a}\n", "hive.yaml:1: anchor 'a' value contains itself"},

		"unknown key":           {"# x\nlisten_on: a\n", `hive.yaml:2: unknown key "listen_on"`},
		"close to a key":        {"hiveid: a\n", `hive.yaml:1: unknown key "hiveid"; did you mean "hive_id"?`},
		"unknown and empty":     {"wrokers:\n", `hive.yaml:1: unknown key "wrokers"; did you mean "workers"?`},
		"unknown nested":        {"ports:\n  rnage: 1-2\n", `hive.yaml:2: ports: unknown key "rnage"; did you mean "range"?`},
		"unknown in a worker":   {entry("comand: [x]"), `hive.yaml:4: workers[0] (web): unknown key "comand"; did you mean "command"?`},
		"unknown in stop":       {entry("stop:", "  garce: 5s"), `hive.yaml:5: workers[0] (web): stop: unknown key "garce"; did you mean "grace"?`},
		"unknown without name":  {"workers: [{nmae: x}]\n", `hive.yaml:1: workers[0]: unknown key "nmae"; did you mean "name"?`},
		"unknown behind merge":  {"workers:\n  - {name: a, ready: {<<: {pth: /}}}\n", `hive.yaml:2: workers[0] (a): ready: unknown key "pth"; did you mean "path"?`},
		"section not a mapping": {"ports: 8080\n", "hive.yaml:1: ports: expected 'key: value' lines under it"},
		"workers not a list":    {"workers: {web: {}}\n", "hive.yaml:1: workers: expected a list, each entry beginning with '- name:'"},
		"worker not a mapping":  {"workers: [web]\n", "hive.yaml:1: workers[0]: expected 'key: value' lines under it"},
		"line end in a name":    {"workers: [{name: \"a\\nb\", comand: x}]\n", "hive.yaml:1: workers[0] (a\\nb): unknown key"},
		"param in upper case":   {entry("params: {Ctx: 1}"), "hive.yaml:4: workers[0] (web): params.Ctx: a parameter's name is made of a-z, 0-9 and '_'"},

		"param as list":         {entry("params: {ctx: [a]}"), "hive.yaml:4: workers[0] (web): params.ctx: expected a string, or 'default', 'pattern' and 'fixed' under it"},
		"unknown in a param":    {entry("params:", "  ctx:", "    patern: a"), `hive.yaml:6: workers[0] (web): params.ctx: unknown key "patern"; did you mean "pattern"?`},
		"param's pattern twice": {entry("params: {ctx: {pattern: a, Pattern: b}}"), `hive.yaml:4: workers[0] (web): params.ctx: duplicate key "Pattern"`},
		"param with no text":    {entry("params: {ctx: {default: 1.10}}"), "hive.yaml:4: workers[0] (web): params.ctx.default: expected a string; quote it"},
		"param half fixed":      {entry("params: {ctx: {fixed: maybe}}"), "hive.yaml:4: workers[0] (web): params.ctx.fixed: maybe: expected true or false"},
		"bad regexp":            {entry("params:", "  a: 1", "  ctx:", "    default: 1", "    pattern: '[0-9'"), `hive.yaml:8: workers[0] (web): params.ctx.pattern: "[0-9": expected a regular expression that the whole of a value matches`},
		"not its own pattern":   {entry("params:", "  ctx: {default: big,", "    pattern: '[0-9]+'}"), `hive.yaml:5: workers[0] (web): params.ctx.default: "big" does not match its pattern [0-9]+ as a whole`},
		"fixed and a pattern":   {entry("params:", "  ctx:", "    fixed: true", "    pattern: '[0-9]+'"), "hive.yaml:7: workers[0] (web): params.ctx.pattern: contradicts fixed"},
		"param as a flag":       {entry("params:", "  ctx: -x"), `hive.yaml:5: workers[0] (web): params.ctx: "-x" begins with '-'`},

		// What the catalog finds is told with its line, too.
		"a template":     {entry("args: ['{{.Prot}}']"), "hive.yaml:4: workers[0] (web): args[0]: <.Prot>: can't evaluate field Prot"},
		"no signal":      {entry("stop:", "  grace: 1s", "  signal: [SIGFOO]"), `hive.yaml:6: workers[0] (web): stop.signal[0]: "SIGFOO": expected one of SIGTERM`},
		"the same name":  {entry("host: '::'") + "  - {name: web,\n     command: [x]}\n", "hive.yaml:5: workers[1] (web): name: the name is already used by another entry"},
		"behind a merge": {"workers:\n  - &a {name: a, command: [x], user: a b}\n  - {<<: *a, user: c,\n     name: b}\n", `hive.yaml:2: workers[0] (a): user: "a b": expected the name of a user`},
		"in an alias":    {"workers: [{name: a, command: [x], stop: &s {scope: all}}, {name: b, command: [x], stop: *s}]\n", `hive.yaml:1: workers[0] (a): stop.scope: "all": expected main or tree`},
		"no name":        {"workers:\n  - preset: vllm\n", "hive.yaml:2: workers[0]: name: is missing"},
		"no command":     {"workers:\n  - name: web\n", "hive.yaml:2: workers[0] (web): command: is missing"},

		"port":           {"port: 7900\n", "hive.yaml:1: port: is only a flag and a variable; in the file use listen"},
		"take_over":      {"take_over: true\n", "hive.yaml:1: take_over: is only a flag"},
		"advertise":      {"advertise: gpubox.lan\n", `hive.yaml:1: advertise: "gpubox.lan": expected http:// or https:// with a host and nothing after it, such as http://gpubox.lan:7835`},
		"advertise path": {"advertise: http://a/hive\n", `hive.yaml:1: advertise: "http://a/hive": expected http:// or https://`},
		"advertise ftp":  {"advertise: ftp://a\n", `hive.yaml:1: advertise: "ftp://a": expected http:// or https://`},
		"advertise port": {"advertise: 'http://a:0'\n", `hive.yaml:1: advertise: "http://a:0": expected http:// or https://`},
		"advertise '?'":  {"advertise: 'http://a?b=c'\n", `hive.yaml:1: advertise: "http://a?b=c": expected http:// or https://`},
		"advertise user": {"advertise: http://u:s3cret@a\n", "hive.yaml:1: advertise: may hold no user or password"},
		"advertise bad":  {"advertise: 'http://u:s3cret@a:b'\n", "hive.yaml:1: advertise: is no URL"},
		"socket mode":    {"socket: {mode: 0660}\n", `hive.yaml:1: socket.mode: 0660: some readers take a number with a leading zero as octal, others as decimal; quote it, as in "0660"`},
		"socket mode 8":  {"socket: {mode: '0680'}\n", `hive.yaml:1: socket.mode: "0680": expected an octal mode with read and write for the owner`},
		"socket mode x":  {"socket: {mode: '0700'}\n", `hive.yaml:1: socket.mode: "0700": expected an octal mode`},
		"socket mode 0":  {"socket: {mode: '0060'}\n", `hive.yaml:1: socket.mode: "0060": expected an octal mode`},
		"socket group":   {"socket: {group: no-such-group}\n", `hive.yaml:1: socket.group: "no-such-group": no such group`},
		"tls.cert alone": {"tls: {cert: a.pem}\n", "hive.yaml:1: tls.cert: is given without tls.key; expected both, or none"},
		"tls.key alone":  {"tls: {key: a.pem}\n", "hive.yaml:1: tls.key: is given without tls.cert; expected both, or none"},
		"tls home":       {"tls: {cert: ~/a, key: b}\n", `hive.yaml:1: tls.cert: "~/a" begins with '~', which means a home directory only to a shell`},
		"tls key":        {"tls: {kee: a}\n", `hive.yaml:1: tls: unknown key "kee"; did you mean "key"?`},
		"start_parallel": {"start_parallel: 0\n", "hive.yaml:1: start_parallel: 0: expected at least 1"},
		"auth":           {"auth: basic\n", `hive.yaml:1: auth: "basic": expected users or token or none`},
		"orphans":        {"audit: {orphans: end}\n", `hive.yaml:1: audit.orphans: "end": expected keep or kill`},
		"quarantine":     {"ports: {quarantine: -1s}\n", "hive.yaml:1: ports.quarantine: -1s: expected at least 0s"},
		"port reserved":  {"ports: {reserved: [8180-8189]}\n" + entry("port: 8188"), "hive.yaml:5: workers[0] (web): port: 8188 is in ports.reserved, which is never given out"},
		"port of hive":   {entry("port: 7834\n    ports: 2"), "hive.yaml:4: workers[0] (web): port: 7835 is the port of hive's own API (listen)"},
		"stop.command":   {entry("stop: {command: x web}"), `hive.yaml:4: workers[0] (web): stop.command: expected a list, as in ["a", "b"]`},
		"autostart":      {entry("autostart: yes"), "hive.yaml:4: workers[0] (web): autostart: "},
		"live":           {entry("live: {intervall: 1s}"), `hive.yaml:4: workers[0] (web): live: unknown key "intervall"; did you mean "interval"?`},
		"restart":        {entry("restart: {backoff: 5}"), "hive.yaml:4: workers[0] (web): restart.backoff: 5: a duration needs a unit"},

		"hive_id":           {"hive_id: a b\n", `hive.yaml:1: hive_id: "a b": expected letters, digits`},
		"hive_id list":      {"hive_id: [a]\n", "hive.yaml:1: hive_id: expected a string"},
		"hive_id float":     {"hive_id: 1.10\n", "hive.yaml:1: hive_id: expected a string; quote it"},
		"hive_id date":      {"hive_id: 2025-01-01\n", "hive.yaml:1: hive_id: expected a string; quote it"},
		"home of a model":   {entry("model: ~/m.gguf"), `hive.yaml:4: workers[0] (web): model: "~/m.gguf" begins with '~', which means a home directory only to a shell`},
		"home of a program": {entry("program: ~/bin/web"), `hive.yaml:4: workers[0] (web): program: "~/bin/web" begins with '~', which means a home directory only to a shell`},
		"home of a command": {"workers:\n  - name: web\n    command:\n      - ~bob/web\n", `hive.yaml:4: workers[0] (web): command[0]: "~bob/web" begins with '~', which means a home directory only to a shell`},
		"home of a hook":    {entry("before_start: ~/x"), `hive.yaml:4: workers[0] (web): before_start[0]: "~/x" begins with '~', which means a home directory only to a shell`},
		"home of a stop":    {entry("stop:", "  command: [~/x, a]"), `hive.yaml:5: workers[0] (web): stop.command[0]: "~/x" begins with '~', which means a home directory only to a shell`},
		"home of a dir":     {entry("dir: ~/x"), `hive.yaml:4: workers[0] (web): dir: "~/x" begins with '~', which means a home directory only to a shell`},
		"home of a file":    {entry("env_file: ~/x.env"), `hive.yaml:4: workers[0] (web): env_file: "~/x.env" begins with '~', which means a home directory only to a shell`},
		"home of a param":   {entry("params:", "  main: ~/main.py"), `hive.yaml:5: workers[0] (web): params.main: "~/main.py" begins with '~', which means a home directory only to a shell`},
		"home of models":    {"models: {dir: ~/models}\n", `hive.yaml:1: models.dir: "~/models" begins with '~', which means a home directory only to a shell`},
		"home of a socket":  {"listen: ['unix:~/s']\n", `hive.yaml:1: listen: "unix:~/s": the path begins with '~', which means a home directory only to a shell`},
		"data_dir home":     {"data_dir: ~/hive\n", `hive.yaml:1: data_dir: "~/hive" begins with '~', which means a home directory only to a shell`},
		"queen_url":         {"queen_url: queen:7833\n", `hive.yaml:1: queen_url: "queen:7833": expected a URL such as http://queen.lan:7833`},
		"allowed_hosts":     {"allowed_hosts: [a, 'http://b']\n", `hive.yaml:1: allowed_hosts[1]: "http://b": expected a host name without a port, such as gpubox.lan`},
		"range":             {"ports: {range: 9999-8080}\n", `hive.yaml:1: ports.range: "9999-8080": expected ports from 1 to 65535, as in 8080-9999`},
		"range of zero":     {"ports: {range: 0-80}\n", `hive.yaml:1: ports.range: "0-80": expected ports`},
		"reserved":          {"ports: {reserved: [8080, 90000]}\n", `hive.yaml:1: ports.reserved[1]: "90000": expected a port or a range of ports, as in 8188 or 9000-9010`},
		"policy":            {"ports: {policy: random}\n", `hive.yaml:1: ports.policy: "random": expected lowest or sequential`},
		"shutdown":          {"shutdown: kill\n", `hive.yaml:1: shutdown: "kill": expected keep or stop`},
		"log_level":         {"log_level: loud\n", `hive.yaml:1: log_level: "loud": expected error or warn or info or debug or trace`},
		"log_format":        {"log_format: xml\n", `hive.yaml:1: log_format: "xml": expected text or json`},
		"max_queued":        {"jobs: {max_queued: 0}\n", "hive.yaml:1: jobs.max_queued: 0: expected at least 1"},
		"max_queued 1k":     {"jobs: {max_queued: 1k}\n", `hive.yaml:1: jobs.max_queued: "1k": expected an integer`},
		"max_queued .5":     {"jobs: {max_queued: 0.5}\n", "hive.yaml:1: jobs.max_queued: 0.5: expected an integer"},

		"number as duration": {"workers_keep: 24\n", "hive.yaml:1: workers_keep: 24: a duration needs a unit, as in 30s, 10m or 24h"},
		"text as duration":   {"workers_keep: '24'\n", `hive.yaml:1: workers_keep: "24": expected a duration with a unit, as in 30s, 10m or 24h`},
		"zero as duration":   {"workers_keep: '0'\n", `hive.yaml:1: workers_keep: "0": expected a duration with a unit`},
		"days":               {"workers_keep: 1d\n", `hive.yaml:1: workers_keep: "1d": expected a duration with a unit`},
		"nested duration":    {"jobs: {stream_wait: 25}\n", "hive.yaml:1: jobs.stream_wait: 25: a duration needs a unit"},
		"grace":              {entry("stop: {grace: 5}"), "hive.yaml:4: workers[0] (web): stop.grace: 5: a duration needs a unit, as in 30s, 10m or 24h"},
		"stall":              {entry("ready: {stall: 5}"), "hive.yaml:4: workers[0] (web): ready.stall: 5: a duration needs a unit"},
		"no retention":       {"jobs: {retention: 0s}\n", "hive.yaml:1: jobs.retention: 0s: expected at least 1m0s"},
		"negative interval":  {"audit: {interval: -1s}\n", "hive.yaml:1: audit.interval: -1s: expected at least 1s"},
		"few jobs kept":      {"jobs: {keep: 99}\n", "hive.yaml:1: jobs.keep: 99: expected at least 100"},
		"negative age":       {"jobs: {max_queue_age: -1s}\n", "hive.yaml:1: jobs.max_queue_age: -1s: expected at least 1s"},

		"preset as list":   {"workers: [{name: a, preset: [vllm]}]\n", "hive.yaml:1: workers[0] (a): preset: expected a string"},
		"host as list":     {entry("host: [127.0.0.1]"), "hive.yaml:4: workers[0] (web): host: expected a string"},
		"no hub":           {"models: {endpoint: huggingface.co}\n", `hive.yaml:1: models.endpoint: expected the URL of a hub such as https://huggingface.co`},
		"hub with a token": {"models: {endpoint: 'https://u:p@hub.lan'}\n", "hive.yaml:1: models.endpoint: expected the URL of a hub"},
		"a token here":     {"models: {token: hf_x}\n", `hive.yaml:1: models: unknown key "token"`},
		"relative models":  {"models: {dir: models}\n", `hive.yaml:1: models.dir: "models": expected an absolute path`},
		"number as size":   {"logs: {max_size: 64}\n", "hive.yaml:1: logs.max_size: 64: a size needs a unit, as in 512KiB, 64MiB or 2GiB"},
		"text as size":     {"logs: {max_total: '2048'}\n", `hive.yaml:1: logs.max_total: "2048": expected a size with a unit (B, KiB, MiB, GiB, TiB or KB, MB, GB, TB), as in 512KiB, 64MiB or 2GiB`},
		"half a unit":      {"logs: {max_size: 64M}\n", `hive.yaml:1: logs.max_size: "64M": expected a size with a unit`},
		"unit in lower":    {"logs: {max_size: 64mib}\n", `hive.yaml:1: logs.max_size: "64mib": expected a size with a unit`},
		"bits":             {"logs: {max_size: 64Mb}\n", `hive.yaml:1: logs.max_size: "64Mb": expected a size with a unit`},
		"negative size":    {"logs: {max_size: -64MiB}\n", `hive.yaml:1: logs.max_size: "-64MiB": expected a size with a unit`},
		"size of nothing":  {"logs: {max_size: MiB}\n", `hive.yaml:1: logs.max_size: "MiB": expected a size with a unit`},
		"size too large":   {"logs: {max_size: 8388608TiB}\n", `hive.yaml:1: logs.max_size: "8388608TiB": expected at most 8388607TiB`},
		"size as list":     {"logs: {max_size: [1MiB]}\n", "hive.yaml:1: logs.max_size: [1MiB]: a size needs a unit"},
		"max_size":         {"logs: {max_size: 63KiB}\n", "hive.yaml:1: logs.max_size: 63KiB: expected at least 64KiB"},
		"max_size of zero": {"logs: {max_size: 0B}\n", "hive.yaml:1: logs.max_size: 0B: expected at least 64KiB"},
		"max_total":        {"logs: {max_total: 65535B}\n", "hive.yaml:1: logs.max_total: 65535B: expected at least 64KiB"},
		"backup interval":  {"backup: {interval: 59s}\n", "hive.yaml:1: backup.interval: 59s: expected at least 1m0s, or 0s for no automatic backups"},
		"negative backup":  {"backup: {interval: -1h}\n", "hive.yaml:1: backup.interval: -1h0m0s: expected at least 1m0s"},
		"keep no backup":   {"backup: {keep: 0}\n", "hive.yaml:1: backup.keep: 0: expected at least 1"},
		"unknown backup":   {"backup: {dir: /x}\n", `hive.yaml:1: backup: unknown key "dir"`},
		"keep":             {"logs: {keep: 0}\n", "hive.yaml:1: logs.keep: 0: expected at least 1"},
		"keep with a unit": {"logs: {keep: 3d}\n", `hive.yaml:1: logs.keep: "3d": expected an integer`},
		"unknown in logs":  {"logs: {size: 1MiB}\n", `hive.yaml:1: logs: unknown key "size"`},

		"command as text": {"workers: [{name: a, command: web --port 1}]\n", `hive.yaml:1: workers[0] (a): command: expected a list, as in ["a", "b"]`},
		"env as mapping":  {entry("env: {A: s3cret}"), `hive.yaml:4: workers[0] (web): env: expected a list, as in ["a", "b"]`},
		"env with number": {entry("env: [1.5]"), "hive.yaml:4: workers[0] (web): env[0]: expected a string; quote it"},
		"params as list":  {entry("params: [a]"), "hive.yaml:4: workers[0] (web): params: expected 'key: value' lines under it"},
		"status as text":  {entry("ready: {status: ok}"), `hive.yaml:4: workers[0] (web): ready.status: "ok": expected an integer`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.write(t, "hive.yaml", tc.doc)
			_, err := p.load(t)
			require.ErrorIs(t, err, config.ErrConfig)
			require.ErrorContains(t, err, tc.want)
			require.Regexp(t, `^hive\.yaml:[0-9]+: `, err.Error())
			require.NotContains(t, err.Error(), "\n", "one line")
			require.NotContains(t, err.Error(), "s3cret", "values of env are secrets")
		})
	}
}

func TestMistakesInTheEnvironment(t *testing.T) {
	for name, tc := range map[string]struct{ value, want string }{
		"HIVE_LOGS_MAX_SIZE":     {"64", `HIVE_LOGS_MAX_SIZE: "64": expected a size with a unit`},
		"HIVE_LOGS_MAX_TOTAL":    {"1B", "HIVE_LOGS_MAX_TOTAL: 1B: expected at least 64KiB"},
		"HIVE_LOGS_KEEP":         {"-1", "HIVE_LOGS_KEEP: -1: expected at least 1"},
		"HIVE_LOGS":              {"x", "HIVE_LOGS: logs can be given in the configuration file only"},
		"HIVE_LISTN":             {"x", `HIVE_LISTN: unknown variable; did you mean "HIVE_LISTEN"?`},
		"HIVE_SOMETHING_ELSE":    {"x", "HIVE_SOMETHING_ELSE: unknown variable"},
		"HIVE_WORKERS":           {"x", "HIVE_WORKERS: workers can be given in the configuration file only"},
		"HIVE_PORTS":             {"x", "HIVE_PORTS: ports can be given in the configuration file only"},
		"HIVE_ADVERTISE":         {"x", `HIVE_ADVERTISE: "x": expected http://`},
		"HIVE_SOCKET":            {"x", "HIVE_SOCKET: socket can be given in the configuration file only"},
		"HIVE_SOCKET_MODE":       {"rw", `HIVE_SOCKET_MODE: "rw": expected an octal mode`},
		"HIVE_SOCKET_GROUP":      {"no-such-group", `HIVE_SOCKET_GROUP: "no-such-group": no such group`},
		"HIVE_TLS_CERT":          {"a.pem", "HIVE_TLS_CERT: is given without tls.key"},
		"HIVE_TOKEN":             {"x", `HIVE_TOKEN: unknown variable`},
		"HIVE_SERVICE_HOST":      {"10.0.0.1", "HIVE_SERVICE_HOST: unknown variable; Kubernetes and Docker set such variables"},
		"HIVE_PORT_7835_TCP":     {"tcp://10.0.0.1:7835", "HIVE_PORT_7835_TCP: unknown variable; Kubernetes and Docker set such variables"},
		"HIVE_PORTS_RANGE":       {"x", `HIVE_PORTS_RANGE: "x": expected ports from 1 to 65535`},
		"HIVE_JOBS_MAX_QUEUED":   {"many", `HIVE_JOBS_MAX_QUEUED: "many": expected an integer`},
		"HIVE_AUDIT_INTERVAL":    {"30", `HIVE_AUDIT_INTERVAL: "30": expected a duration with a unit`},
		"HIVE_SHUTDOWN":          {"never", `HIVE_SHUTDOWN: "never": expected keep or stop`},
		"HIVE_ID":                {"a b", `HIVE_ID: "a b": expected letters`},
		"HIVE_HIVE_ID":           {"a b", `HIVE_HIVE_ID: "a b": expected letters`},
		"HIVE_CONFIG":            {"none.yaml", "HIVE_CONFIG: open none.yaml: no such file or directory"},
		"HIVE_PORTS_QUARANTINE":  {"1", `HIVE_PORTS_QUARANTINE: "1": expected a duration with a unit`},
		"HIVE_ALLOWED_HOSTS":     {"a,*", `HIVE_ALLOWED_HOSTS[1]: "*": expected a host name`},
		"HIVE_JOBS_RETENTION":    {"-1h", "HIVE_JOBS_RETENTION: -1h0m0s: expected at least 1m0s"},
		"HIVE_AUTH":              {"basic", `HIVE_AUTH: "basic": expected users or token or none`},
		"HIVE_QUEEN_URL":         {"ftp://q", `HIVE_QUEEN_URL: "ftp://q": expected a URL`},
		"HIVE_LOG_LEVEL":         {"INFO", `HIVE_LOG_LEVEL: "INFO": expected error or warn`},
		"HIVE_WORKERS_KEEP":      {"0s", "HIVE_WORKERS_KEEP: 0s: expected at least 1s"},
		"HIVE_JOBS_STREAM_WAIT":  {"0s", "HIVE_JOBS_STREAM_WAIT: 0s: expected at least 1s"},
		"HIVE_PORTS_POLICY":      {"any", `HIVE_PORTS_POLICY: "any": expected lowest or sequential`},
		"HIVE_AUDIT_ORPHANS":     {"end", `HIVE_AUDIT_ORPHANS: "end": expected keep or kill`},
		"HIVE_PORTS_RESERVED":    {"8080;8081", `HIVE_PORTS_RESERVED[0]: "8080;8081": expected a port`},
		"HIVE_LOG_FORMAT":        {"x", `HIVE_LOG_FORMAT: "x": expected text or json`},
		"HIVE_DATA_DIR":          {"~/x", `HIVE_DATA_DIR: "~/x" begins with '~', which means`},
		"HIVE_START_PARALLEL":    {"two", `HIVE_START_PARALLEL: "two": expected an integer`},
		"HIVE_JOBS_MAX_QUEUEAGE": {"2", `HIVE_JOBS_MAX_QUEUEAGE: unknown variable; did you mean "HIVE_JOBS_MAX_QUEUE_AGE"?`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			t.Setenv(name, tc.value)
			_, err := p.load(t)
			require.ErrorIs(t, err, config.ErrConfig)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestMistakesInFlags(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"config":     {[]string{"--config", "none.yaml"}, "--config: open none.yaml: no such file or directory"},
		"no config":  {[]string{"--config", ""}, "--config: open : no such file or directory"},
		"hive-id":    {[]string{"--hive-id", "-"}, `--hive-id: "-": expected letters`},
		"log-level":  {[]string{"--log-level", "x"}, `--log-level: "x": expected error or warn`},
		"log-format": {[]string{"--log-format", "x"}, `--log-format: "x": expected text or json`},
		"queen-url":  {[]string{"--queen-url", "x"}, `--queen-url: "x": expected a URL`},
		"data-dir":   {[]string{"--data-dir", "~"}, `--data-dir: "~" begins with '~', which means a home directory only to a shell`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			_, err := p.load(t, tc.args...)
			require.ErrorIs(t, err, config.ErrConfig)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// A file that is there and cannot be read must not be passed over for the next.
func TestUnreadableFile(t *testing.T) {
	p := newPlace(t)
	require.NoError(t, os.Mkdir(filepath.Join(p.dir, "hive.yaml"), 0o700)) // reading a directory fails for root too
	_, err := p.load(t)
	require.ErrorIs(t, err, config.ErrConfig)
	require.ErrorContains(t, err, "/hive.yaml is a directory, not a regular file; give another file with --config")
}
