package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"
)

// systemctlTimeout is how long systemctl may take: it asks PID 1, which may be
// busy with something else.
const systemctlTimeout = 2 * time.Second

// FindUnit finds the systemd unit that hive runs in, and asks systemctl how a
// service of that name ends. environ is the environment that systemctl gets; it finds
// the manager of a user by DBUS_SESSION_BUS_ADDRESS or XDG_RUNTIME_DIR in it. FindUnit
// blocks for systemctlTimeout at most. With an error the name is set if it is known:
// there is no systemctl, or it gets no answer.
func FindUnit(ctx context.Context, environ []string) (Unit, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Unit{}, fmt.Errorf("find the systemd unit: %w", err)
	}
	name, user := unitOf(string(text))
	u := Unit{Name: name}
	if !u.Service() {
		return u, nil
	}
	properties, err := showUnit(ctx, name, user, environ)
	if err != nil {
		return u, err
	}
	u.KillMode, u.Delegate = properties["KillMode"], properties["Delegate"] == "yes"
	return u, nil
}

// unitOf finds the unit in a /proc/<pid>/cgroup, and whether it is one of a
// user's own manager. The unit is the last part of the path that looks like one:
// what is below has been delegated.
func unitOf(text string) (name string, user bool) {
	cgroup := cgroupIn(text, "name=systemd")
	if cgroup == "" {
		cgroup = cgroupIn(text, "")
	}
	parts := strings.Split(path.Clean(cgroup), "/")
	for i, part := range slices.Backward(parts) {
		if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
			// A name that could be a file of the kernel's is escaped so.
			name = strings.TrimPrefix(part, "_")
			return name, slices.ContainsFunc(parts[:i], isUserManager)
		}
	}
	return "", false
}

func isUserManager(part string) bool {
	return strings.HasPrefix(part, "user@") && strings.HasSuffix(part, ".service")
}

// showUnit asks the manager of the system, or of the user, what it knows of a unit.
func showUnit(ctx context.Context, name string, user bool, environ []string) (map[string]string, error) {
	program, err := exec.LookPath("systemctl")
	if err != nil {
		return nil, errors.New("systemctl is not there")
	}
	args := []string{"show", "--no-pager", "-p", "LoadState,KillMode,Delegate", "--", name}
	if user {
		args = append([]string{"--user"}, args...)
	}
	limited, cancel := context.WithTimeout(ctx, systemctlTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, program, args...) //nolint:gosec // systemctl, with arguments of ours
	cmd.WaitDelay = systemctlTimeout / 4                  // a process that it has started may have its output open
	cmd.Env = append(slices.Clone(environ), "LC_ALL=C")   // its messages are shown as they are
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, fmt.Errorf("systemctl did not answer within %s", systemctlTimeout)
	case err != nil:
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return nil, fmt.Errorf("systemctl: %w: %s", err, first)
	}
	properties := propertiesOf(string(out))
	// Of a unit that it does not know systemctl shows the defaults.
	if properties["LoadState"] != "loaded" {
		return nil, fmt.Errorf("systemctl does not know %s", name)
	}
	return properties, nil
}

// propertiesOf reads the lines of systemctl show.
func propertiesOf(text string) map[string]string {
	properties := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			properties[name] = value
		}
	}
	return properties
}
