//go:build linux

package attack_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/test/skip"
)

// leaseFor asks for a port for an owner; if the owner has a lease then, the request was
// accepted.
func leaseFor(owner string) ask {
	return post("/v1/leases", map[string]any{"ttl": "1h", "owner": owner})
}

// raw is a request as it goes over the wire.
func raw(a ask, id string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nX-Request-Id: %s\r\nContent-Length: %d\r\n\r\n%s", a.Method, a.Path, api, id, len(a.Body), a.Body)
}

// notTaken requires that a request for an owner, which is also its id, was refused
// and has had no effect. A request whose connection was reset may never be read.
func (s *site) notTaken(owner string) {
	s.Helper()
	var line string
	s.within(2*time.Second, func() bool {
		_, after, found := strings.Cut(s.printed(), "request_id="+owner+" ")
		line, _, _ = strings.Cut(after, "\n")
		return found
	})
	if line != "" { // the client has gone, and the effect perhaps with it, but not hive's decision
		require.Regexp(s, `status=40[13]\b`, line)
	}
	require.Empty(s, s.leasesOf(owner), "the request was accepted")
}

// frozen stops hive for as long as fn takes.
func (s *site) frozen(fn func()) {
	s.Helper()
	require.NoError(s, s.cmd.Process.Signal(unix.SIGSTOP))
	defer func() { require.NoError(s, s.cmd.Process.Signal(unix.SIGCONT)) }()
	s.await("hive is stopped", func() bool {
		stat, err := os.ReadFile("/proc/" + itoa(s.cmd.Process.Pid) + "/stat")
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(state, "T")
	})
	fn()
}

// The kernel says "user 0" of a socket that is closed, and of one that a process of
// root has on the same port by now.
func TestACallerWhoIsNotThereAnyMore(t *testing.T) {
	s := newSite(t, "workers: []\n").start()
	port := 20000 // of the attacker's end: nobody else is here
	// leave has somebody send a request for a lease from a new port and leave.
	leave := func(p person, how, owner string) {
		a := p.start(p.command("leaver", how, itoa(port), raw(leaseFor(owner), owner)))
		a.awaitLine("sent")
		if how != "half" && how != "stay" {
			p.await("the end of the attacker", a.ended)
		}
	}
	// Whether the request of a client that has gone is accepted is a race: it is tried several times.
	const tries = 3
	for _, how := range []string{"close", "exit", "reset", "half"} {
		t.Run("to be taken for root by a request before the connection's end by "+how, func(t *testing.T) {
			s := s.in(t)
			for n := range tries {
				port++
				owner := fmt.Sprintf("%s-%d", how, n)
				leave(s.stranger(), how, owner)
				s.notTaken(owner)
			}
		})
		t.Run("to be taken for root by a request that hive finds after the connection's end by "+how, func(t *testing.T) {
			s := s.in(t)
			for n := range tries {
				port++
				owner := fmt.Sprintf("found-%s-%d", how, n)
				s.frozen(func() { leave(s.stranger(), how, owner) })
				s.notTaken(owner)
			}
		})
	}
	t.Run("to be taken for root who has their port next", func(t *testing.T) {
		s := s.in(t)
		for n := range tries {
			port++
			owner := fmt.Sprintf("next-%d", n)
			s.frozen(func() {
				leave(s.stranger(), "reset", owner)
				s.root().start(s.root().command("leaver", "stay", itoa(port), "")).awaitLine("sent")
			})
			s.notTaken(owner)
		}
	})
	port++
	leave(s.root(), "stay", "root")
	s.await("the lease of root, who is there", func() bool { return len(s.leasesOf("root")) == 1 })
}

// 65534 is what the kernel reports for every user without a number here: for all users
// of the machine, where hive runs in a user namespace as in a rootless container.
func TestTheNumberOfNobody(t *testing.T) {
	const nobody = 65534
	s := newSite(t, "workers: []\n")
	s.uid, s.data = nobody, filepath.Join(s.homeOf(person{s, other}, "mine"), "data")
	s.args[3] = s.data
	s.maps = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: nobody, HostID: other, Size: 1}}
	s.start()
	require.Equal(t, other, ownerOf("/proc/"+itoa(s.cmd.Process.Pid)), "outside it has this number")
	require.False(t, s.stranger().do(leaseFor("stranger")).Status == http.StatusCreated)
	require.Empty(t, s.leasesOf("stranger"))
}

// Nobody becomes root by making a user namespace: the user outside of it counts.
func TestRootOfAnotherUserNamespace(t *testing.T) {
	s := newSite(t, "workers: []\n").start()
	inside := s.root().command("/bin/sh", "-c", "id -u; exec "+binary("asker"))
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, GidMappingsEnableSetgroups: true,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: stranger, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: stranger, Size: 1}},
		Credential:  &syscall.Credential{Groups: []uint32{}},
	}
	in, err := json.Marshal([]ask{leaseFor("theirs")})
	require.NoError(t, err)
	inside.Stdin = strings.NewReader(string(in))
	out, code := s.root().run(inside)
	require.Zero(t, code, out)
	require.True(t, strings.HasPrefix(out, "0\n"), out)
	require.Empty(t, s.leasesOf("theirs"), out)
}

// A worker has hive's user, and does what stands in a request: a model server that
// fetches images, or whatever URL it is given. It is not hive's user that asks then.
func TestAWorkerThatFetchesWhatItIsTold(t *testing.T) {
	if !strings.HasPrefix(filepath.Base(ownCgroup()), "attack-") {
		skip.Because(t, "a worker is told from its user by its cgroup, and no cgroups can be made here")
	}
	entry := "workers: [{name: fetcher, command: [" + binary("server") + ", -port, '{{.Port}}']}]\n"
	for _, uid := range []int{0, other} {
		t.Run(fmt.Sprintf("the rights of hive's user %d", uid), func(t *testing.T) {
			s := newSite(t, entry)
			if s.uid = uid; uid != 0 {
				s.data = s.homeOf(s.neighbour(), "mine") + "/data"
				s.args[3] = s.data
				s.group = s.cgroupOf(s.neighbour())
			}
			s.start()
			w := s.up("fetcher", "fetcher")
			require.True(t, s.inLeaf(*w.PID), "the worker has no cgroup")
			for _, owner := range []string{"theirs", "via [::1]"} {
				a := leaseFor(owner)
				if owner != "theirs" {
					a = a.at("[::1]:7835")
				}
				body, err := json.Marshal(a)
				require.NoError(t, err)
				r := s.stranger().do(ask{Method: http.MethodPost, Path: "/fetch", Body: string(body), At: fmt.Sprintf("127.0.0.1:%d", w.Port)})
				require.Equal(t, http.StatusOK, r.Status, "%s", r)
				require.Empty(t, s.leasesOf(owner), "%s", r)
			}
		})
	}
}

// cgroupOf makes a cgroup in which somebody may make others.
func (s *site) cgroupOf(p person) string {
	s.Helper()
	dir := filepath.Join(ownCgroup(), "of-"+itoa(p.uid))
	require.NoError(s, os.Mkdir(dir, 0o755))
	for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		require.NoError(s, os.Chown(filepath.Join(dir, file), p.uid, p.uid))
	}
	return dir
}

// inLeaf reports whether a process is in a cgroup of its own below hive's.
func (s *site) inLeaf(pid int) bool {
	its, err := os.ReadFile("/proc/" + itoa(pid) + "/cgroup")
	require.NoError(s, err)
	return slices.ContainsFunc(strings.Split(string(its), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "0::") && strings.Contains(line, "/hive-")
	})
}

// A proxy that root runs passes on the requests of others. As a rule it says so.
func TestARequestThatRootHandsOn(t *testing.T) {
	s := newSite(t, "workers: []\n").start()
	for _, name := range []string{
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Via", "X-Real-Ip",
		"CF-Connecting-IP", "Cf-Ray", "Tailscale-User-Login", "x-forwarded-for",
	} {
		t.Run("root's rights through a proxy that sets "+name, func(t *testing.T) {
			s := s.in(t)
			r := s.root().do(leaseFor(name).with(name, "10.1.2.3"))
			require.True(t, r.refused(), "%s", r)
			require.Empty(t, s.leasesOf(name))
		})
	}
	require.Equal(t, http.StatusCreated, s.root().do(leaseFor("root").with("X-Other", "10.1.2.3")).Status)
}

// Who a caller is does not depend on the address that the caller uses.
func TestOtherAddressesOfTheMachine(t *testing.T) {
	six, both := "['127.0.0.1:7835', '[::1]:7835']", "':7835'"
	for _, way := range []struct{ listen, at string }{
		{six, "127.0.0.1:7835"},
		{six, "[::1]:7835"},
		{six, mapped + "127.0.0.1:7835"},
		{both, "127.0.0.1:7835"},
		{both, "[::1]:7835"},
		{both, mapped + "127.0.0.1:7835"},
		{both, "127.0.0.7:7835"},
	} {
		t.Run("the rights of root on "+way.at+" of "+way.listen, func(t *testing.T) {
			s := newSite(t, "listen: "+way.listen+"\n").start()
			r := s.stranger().do(leaseFor("theirs").at(way.at))
			require.True(t, r.refused(), "%s", r)
			r = s.root().do(leaseFor("root").at(way.at))
			require.Equal(t, http.StatusCreated, r.Status, "%s", r)
			require.Empty(t, s.leasesOf("theirs"))
		})
	}
}

// The control socket is for those who may open it, whatever the addresses are set to.
func TestTheControlSocket(t *testing.T) {
	s := newSite(t, "workers: []\n").start()
	socket := s.data + "/control.sock"
	require.Equal(t, http.StatusCreated, s.root().do(leaseFor("root").at(socket)).Status)
	require.Zero(t, s.stranger().do(leaseFor("theirs").at(socket)).Status)
	require.Empty(t, s.leasesOf("theirs"))
}

// A socket that everybody may open lets callers reach hive, and gives no rights.
func TestASocketThatEverybodyMayOpen(t *testing.T) {
	s := newSite(t, "")
	socket := s.dir + "/open.sock"
	s.write("hive.yaml", "listen: ['127.0.0.1:7835', 'unix:"+socket+"']\nsocket: {mode: '0666'}\n")
	s.start()
	require.Equal(t, http.StatusCreated, s.root().do(leaseFor("root").at(socket)).Status)
	r := s.stranger().do(leaseFor("theirs").at(socket))
	require.True(t, r.refused(), "%s", r)
	require.Empty(t, s.leasesOf("theirs"))
}
