// Package imports_test checks who may import whom, by the rules below.
package imports_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// layers from the bottom to the top. A package may import packages of lower
// layers, and parts of its own that lie below it in the tree.
var layers = []string{"migrations", "store", "alloc", "hive", "httpapi", "cmd"}

// rooms are the parts of hive from the bottom to the top (docs/architecture.md). A part may
// import those of the floors below it, and none beside it: jobs never know the supervisor,
// nor the supervisor jobs.
var rooms = [][]string{
	{"access", "catalog", "endpoint", "errdefs", "hardware", "host", "lifecycle", "lock", "logs", "proc", "rbee", "reference", "setting", "trust"},
	{"input", "models", "probe", "run"},
	{"doctor", "journal", "salvage"},
	{"operation", "tokens"},
	{"launch", "ports"},
	{"jobs", "lease", "supervisor", "workertype"},
	{"audit", "routes", "services", "telemetry"},
}

// storeRooms are the parts of store below its typed records, as rooms are those of hive.
var storeRooms = [][]string{
	{"disk", "kv", "space"},
	{"page"},
}

// only says in which packages an import may stand, by prefix.
var only = map[string][]string{
	"go.etcd.io/bbolt":       {"store", "migrations"},
	"github.com/gorilla/mux": {"httpapi"},
	"github.com/spf13/viper": {"cmd"},
	"github.com/spf13/cobra": {"cmd"},
	"os/exec":                {"hive/proc", "hive/host"}, // host runs systemctl
	"github.com/tidwall":     {"httpapi/gateway"},
	"os/signal":              {"hive/proc", "hive/reference", "cmd"},
}

// clientOnly are commands that talk to a daemon only through its client. Beside
// that they may use what is in forClients.
var clientOnly = []string{"cmd/hivectl"}

// forClients are the shapes of responses, processes (hivectl run starts and identifies
// one), and texts, of which every part makes plain ones in the same way.
var forClients = []string{"httpapi/client", "httpapi/wire", "hive/proc", "store/plain", "cmd/hivectl"}

// offline are the parts of them that work on a state file that no daemon has, and
// what they may use for it.
var offline = map[string][]string{
	"cmd/hivectl/command/db":      {"store", "migrations", "hive/salvage", "hive/trust"},
	"cmd/hivectl/command/library": {"hive/models", "hive/trust"},
}

// ctlRooms are the parts of hivectl's commands from the bottom to the top, as rooms are those
// of hive: groups of commands know the base and not each other.
var ctlRooms = [][]string{
	{"output"},
	{"cli", "db", "library"},
	{"admin", "inspect", "jobs", "leases", "start", "workers"},
}

// ctlOnly says which of those parts may use what touches the machine itself: processes, a
// state file, the directory of models.
var ctlOnly = map[string][]string{
	"hive/proc":                   {"cmd/hivectl/command/leases", "cmd/hivectl/command/db"},
	"cmd/hivectl/command/db":      {"cmd/hivectl/command/admin"},
	"cmd/hivectl/command/library": {"cmd/hivectl/command/start"},
}

// leaves are packages that know nothing of the product but what is named here.
var leaves = map[string][]string{
	"hive/logs": {"store/plain"},
}

func TestImportsPointDown(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "rbeehive/...").Output()
	require.NoError(t, err, "go list")
	seen := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], "rbeehive/")
		if layer(pkg) < 0 {
			continue // test programs
		}
		seen++
		for _, imported := range f[1:] {
			if rule := forbidden(pkg, imported); rule != "" {
				t.Errorf("%s imports %s: %s", pkg, imported, rule)
			}
		}
	}
	require.GreaterOrEqual(t, seen, 12, "go list named too few packages: this test checks nothing")
}

// TestRulesCanFail shows that each rule refuses what it is there for.
func TestRulesCanFail(t *testing.T) {
	for pkg, imported := range map[string]string{
		"store":         "rbeehive/alloc",
		"migrations":    "rbeehive/store",
		"alloc/sockets": "os/exec",

		"store/internal/kv":    "rbeehive/store/internal/page",
		"store/internal/disk":  "rbeehive/store/internal/kv",
		"store/internal/space": "rbeehive/store",

		"alloc":          "rbeehive/hive/proc",
		"hive":           "rbeehive/httpapi/wire",
		"hive/proc":      "rbeehive/hive/host",
		"hive/catalog":   "rbeehive/hive/proc",
		"httpapi":        "go.etcd.io/bbolt",
		"hive/reference": "github.com/spf13/cobra",
		"cmd/hivectl":    "rbeehive/hive",

		"cmd/hivectl/command":         "rbeehive/store",
		"cmd/hivectl/command/db":      "rbeehive/hive",
		"cmd/hivectl/command/library": "rbeehive/store",
		"cmd/hivectl/command/admin":   "rbeehive/hive/salvage",
		"cmd/hivectl/command/cli":     "rbeehive/cmd/hivectl/command/workers",
		"cmd/hivectl/command/output":  "rbeehive/cmd/hivectl/command/cli",
		"cmd/hivectl/command/start":   "rbeehive/cmd/hivectl/command/workers",
		"cmd/hivectl/command/leases":  "rbeehive/cmd/hivectl/command/db",
		"cmd/hivectl/command/jobs":    "rbeehive/cmd/hivectl/command",
		"cmd/hivectl/command/inspect": "rbeehive/hive/proc",
		"cmd/hivectl/command/nowhere": "rbeehive/cmd/hivectl/command/cli",

		"httpapi/gateway":           "rbeehive/hive/routes",
		"httpapi/wire":              "rbeehive/httpapi/client",
		"hive/salvage":              "rbeehive/hive",
		"hive/trust":                "rbeehive/hive/proc",
		"hive/doctor":               "rbeehive/hive",
		"hive/supervisor":           "rbeehive/hive/jobs",
		"hive/jobs":                 "rbeehive/hive/supervisor",
		"hive/journal":              "rbeehive/hive/operation",
		"hive/nowhere":              "rbeehive/hive/proc",
		"hive/host":                 "rbeehive/hive/proc",
		"hive/proc/internal/procfs": "rbeehive/hive/proc/internal/cgroup",
		"hive/hardware":             "rbeehive/hive/proc",
		"hive/rbee":                 "rbeehive/hive",
	} {
		require.NotEmpty(t, forbidden(pkg, imported), "%s importing %s", pkg, imported)
	}
	for _, part := range slices.Concat(ctlRooms...) {
		require.Equal(t, slices.Contains([]string{"db", "library"}, part), forbidden("cmd/hivectl/command", "rbeehive/cmd/hivectl/command/"+part) != "", part)
	}
	for pkg, imported := range map[string]string{
		"hive":                      "rbeehive/hive/host",
		"hive/host":                 "rbeehive/alloc",
		"hive/proc/internal/cgroup": "rbeehive/hive/proc/internal/procfs",
		"hive/proc":                 "rbeehive/alloc/sockets",
		"store":                     "rbeehive/migrations",
		"store/internal/page":       "rbeehive/store/internal/kv",
		"cmd/hive":                  "rbeehive/hive/host",
		"cmd/hivectl":               "rbeehive/cmd/hivectl/command/cli",
		"hive/catalog":              "rbeehive/store",
		"hive/models":               "rbeehive/hive/trust",
		"hive/logs":                 "rbeehive/store/plain",
		"hive/doctor":               "rbeehive/hive/proc",
		"httpapi/gateway":           "rbeehive/httpapi/client",

		"cmd/hivectl/command":        "rbeehive/store/plain",
		"cmd/hivectl/command/db":     "rbeehive/hive/salvage",
		"cmd/hivectl/command/leases": "rbeehive/hive/proc",
		"cmd/hivectl/command/admin":  "rbeehive/cmd/hivectl/command/db",
		"cmd/hivectl/command/start":  "rbeehive/cmd/hivectl/command/cli",
		"cmd/hivectl/command/cli":    "rbeehive/cmd/hivectl/command/output",
	} {
		require.Empty(t, forbidden(pkg, imported), "%s importing %s", pkg, imported)
	}
}

// testsOnly are libraries that a test program in a module of its own brings along, with
// advisories of theirs: the shipped module has none of them, not even in its go.sum.
var testsOnly = []string{"ory/dockertest", "docker/docker", "docker/cli", "opencontainers/runc", "containerd/", "moby/"}

func TestTheShippedModuleHasNoLibrariesOfTests(t *testing.T) {
	for _, file := range []string{"../../go.mod", "../../go.sum"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, lib := range testsOnly {
			require.NotContains(t, string(text), lib, file)
		}
	}
	text, err := os.ReadFile("../docker/go.mod")
	require.NoError(t, err)
	require.Contains(t, string(text), testsOnly[0], "the libraries are there, so the check above can fail")
}

// forbidden returns the rule that an import breaks; empty if none.
func forbidden(pkg, imported string) string {
	for lib, where := range only {
		if (imported == lib || strings.HasPrefix(imported, lib+"/")) && !slices.ContainsFunc(where, func(p string) bool { return within(pkg, p) }) {
			return lib + " may be imported only under " + strings.Join(where, " and ")
		}
	}
	target, ours := strings.CutPrefix(imported, "rbeehive/")
	switch {
	case !ours:
		return ""
	case slices.Contains(offline[pkg], target):
		return ""
	case pkg == "httpapi/gateway" && within(target, "hive"):
		return pkg + " is a process of its own, and knows of hive what its API says"
	case leaves[pkg] != nil && !slices.Contains(leaves[pkg], target):
		return pkg + " knows nothing but " + strings.Join(leaves[pkg], " and ")
	case slices.ContainsFunc(clientOnly, func(p string) bool { return within(pkg, p) }) && !slices.ContainsFunc(forClients, func(p string) bool { return within(target, p) }):
		return pkg + " talks to a daemon only through httpapi/client"
	case within(pkg, "cmd/hivectl") && ctlOnly[target] != nil && !slices.Contains(ctlOnly[target], pkg):
		return target + " may be used only by " + strings.Join(ctlOnly[target], " and ")
	case pkg == "alloc/internal/porttest" && target == "test/freeport":
		return "" // it is for tests, too
	case layer(target) < 0:
		return "a product package may not import a test program"
	case layer(target) < layer(pkg):
		return ""
	case layer(target) > layer(pkg):
		return "imports point down: " + strings.Join(layers, " < ")
	case within(target, pkg):
		return "" // its own part
	case pkg == "store/storetest" || pkg == "alloc/internal/porttest":
		return "" // for tests, on top of what they test
	case within(pkg, "hive/proc") && target == "hive/proc/internal/procfs":
		return "" // the files of /proc, which each part of it reads
	case within(pkg, "cmd/hivectl/command") && within(target, "cmd/hivectl/command"):
		if below(ctlRooms, "cmd/hivectl/command", target, pkg) {
			return ""
		}
		return "imports point down within the commands of hivectl: see ctlRooms"
	case within(pkg, "store/internal") && within(target, "store/internal"):
		if below(storeRooms, "store/internal", target, pkg) {
			return ""
		}
		return "imports point down within store: see storeRooms"
	case within(pkg, "hive") && within(target, "hive"):
		if below(rooms, "hive", target, pkg) {
			return ""
		}
		return "imports point down within hive: see rooms"
	case within(pkg, "httpapi/client") && target == "httpapi/wire":
		return "" // the shapes that both sides speak
	case pkg == "httpapi/gateway" && (target == "httpapi/client" || target == "httpapi/wire"):
		return "" // it speaks to hive as any other program does
	}
	return "imports go neither up nor sideways within " + layers[layer(pkg)]
}

// below reports whether a part of top stands on a lower floor than another one.
func below(rooms [][]string, top, lower, upper string) bool {
	at := floor(rooms, top, lower)
	return at >= 0 && at < floor(rooms, top, upper)
}

// floor is where a part of top stands; -1: nowhere.
func floor(rooms [][]string, top, pkg string) int {
	room, _, _ := strings.Cut(strings.TrimPrefix(pkg, top+"/"), "/")
	return slices.IndexFunc(rooms, func(floor []string) bool { return slices.Contains(floor, room) })
}

func layer(pkg string) int {
	top, _, _ := strings.Cut(pkg, "/")
	return slices.Index(layers, top)
}

func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }
