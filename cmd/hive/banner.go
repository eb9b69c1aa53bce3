package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// banner is what is printed when hive serves.
type banner struct {
	hiveID   string
	url      string
	callers  callers
	file     string // configuration file; empty: none
	dataDir  string
	recovery hive.Recovery
	ports    alloc.Survey
	workers  []store.Worker
	types    []*catalog.Type
	isInit   bool   // workers end with hive
	hivectl  string // how it is called from here
	service  bool   // a service manager has started hive, and nobody can press Ctrl-C
}

// maxHoldersShown is how many ports are listed with their holders.
const maxHoldersShown = 6

// writeTo prints the banner in one write, as plain text: it goes to a terminal, and
// has names in it that anybody can choose.
func (b *banner) writeTo(w io.Writer) error {
	var out bytes.Buffer
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&out, "%-9s %s\n", name, plain.Text(fmt.Sprintf(format, a...)))
	}
	file := b.file
	if file == "" {
		file = "none found, defaults"
	}
	line("hive", "%s at %s", b.hiveID, b.url)
	if b.callers.listen != "" {
		line("listen", "%s", b.callers.listen)
	}
	if b.callers.tokenFile != "" {
		line("token", "in %s", b.callers.tokenFile)
	}
	line("config", "%s", file)
	line("data", "%s", b.dataDir)
	line("recovery", "%s", recoveryLine(b.recovery))
	line("ports", "%s", portsLine(b.ports))
	b.holders(line)
	for i, try := range b.examples() {
		line([]string{"try", ""}[min(i, 1)], "%s", try)
	}
	switch {
	case b.service:
	case b.isInit:
		line("Ctrl-C", "stops hive, and the container's workers end with it; twice within %v stops them gracefully first", secondInterruptTimeout)
	default:
		line("Ctrl-C", "stops hive and leaves the workers running; twice within %v stops them too", secondInterruptTimeout)
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("print the banner: %w", err)
	}
	return nil
}

func recoveryLine(r hive.Recovery) string {
	s := fmt.Sprintf("%s adopted, %d found dead and freed", countWorkers(r.Adopted), r.Freed)
	if r.Restarted > 0 {
		s += fmt.Sprintf(", %d restarted", r.Restarted)
	}
	if r.Unverified > 0 {
		s += fmt.Sprintf(", %d unverified (ports kept)", r.Unverified)
	}
	return s + fmt.Sprintf(", in %v", r.Took.Round(100*time.Microsecond))
}

// portsLine gives the counts that are not 0; they sum to the total.
func portsLine(p alloc.Survey) string {
	s := fmt.Sprintf("%s: %d total, %d free", p.Range, p.Total, p.Free)
	for _, c := range []struct {
		n    int
		what string
	}{
		{p.Leased, "leased"},
		{p.Foreign, "held by others"},
		{p.Reserved, "reserved"},
		{p.Quarantined, "quarantined"},
		{p.Draining, "draining"},
		{p.Forbidden, "forbidden"},
	} {
		if c.n > 0 {
			s += fmt.Sprintf(", %d %s", c.n, c.what)
		}
	}
	return s
}

// holders lists who has ports, foreign holders first: they are the unexpected ones.
func (b *banner) holders(line func(name, format string, a ...any)) {
	var foreign, ours []string
	for _, h := range b.ports.Holders {
		text := fmt.Sprintf("%d %s", h.Port, h)
		switch h.Kind {
		case string(store.LeaseWorker):
			ours = append(ours, b.worker(h, text))
		case string(store.LeaseProcess), string(store.LeaseTTL):
			ours = append(ours, text+", leased")
		default:
			foreign = append(foreign, text)
		}
	}
	all := append(foreign, ours...)
	for _, text := range all[:min(len(all), maxHoldersShown)] {
		line("", "%s", text)
	}
	if more := len(all) - maxHoldersShown; more > 0 {
		line("", "and %d more: %s%s ports", more, b.hivectl, b.addr())
	}
}

// worker names the worker on a port; its program is mostly hive itself or python3, which
// tells nothing.
func (b *banner) worker(h sockets.Holder, fallback string) string {
	for _, w := range b.workers {
		if w.Port == h.Port && !w.State.Ended() {
			return fmt.Sprintf("%d worker %s (pid %d)", h.Port, w.WorkerID, h.PID)
		}
	}
	return fallback + ", worker"
}

// examples is two commands that work as they are: one of a configured type if there is one
// that needs no parameters, and the reference worker.
func (b *banner) examples() []string {
	up := b.hivectl + b.addr() + " up "
	tries := []string{}
	for _, t := range b.types {
		// hive itself starts what is autostart.
		if t.Source == catalog.SourceConfiguration && !t.Autostart && t.Check(catalog.Values{}) == nil && len(tries) == 0 {
			tries = append(tries, up+t.Name)
		}
	}
	tries = append(tries, up+"cpu", up+"cpu --model test --device 0 --name demo")
	return tries[:2]
}

// hivectlHere is how a person calls hivectl from this directory: the one that a build has
// made there is in no PATH.
func hivectlHere() string {
	exe, err := os.Executable()
	dir, errDir := filepath.Abs(".")
	if errDir == nil {
		dir, errDir = filepath.EvalSymlinks(dir)
	}
	if err == nil && errDir == nil && filepath.Dir(exe) == filepath.Join(dir, "bin") && dir != "/" && dir != "/usr" {
		return "bin/hivectl"
	}
	return "hivectl"
}

// isService reports whether a service manager has started this process. INVOCATION_ID does
// not say so: the shells of a desktop have inherited one.
func isService() bool {
	return os.Getenv("NOTIFY_SOCKET") != "" || os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
}

// addr is the flags that hivectl needs for this hive.
func (b *banner) addr() string {
	if b.callers.local == "" {
		return ""
	}
	return " --addr " + b.callers.local
}

func countWorkers(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}
