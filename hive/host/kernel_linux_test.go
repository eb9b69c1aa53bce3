package host_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/hive/host"
	"rbeehive/test/skip"
)

func TestCapEff(t *testing.T) {
	mask, err := host.CapEff("Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t0000000000080000\nCapBnd:\t1\n")
	require.NoError(t, err)
	require.EqualValues(t, 1<<unix.CAP_SYS_PTRACE, mask)
	for _, bad := range []string{"", "CapEff:\n", "CapEff:\tx\n"} {
		_, err := host.CapEff(bad)
		require.Error(t, err, bad)
	}
}

func TestHidingOf(t *testing.T) {
	const root = "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
	mount := func(options string) string {
		return root + "22 27 0:21 / /proc rw,nosuid shared:12 - proc proc " + options + "\n"
	}
	for text, want := range map[string]host.Hiding{
		mount("rw"):                          {Mode: "off"},
		mount("rw,hidepid=off"):              {Mode: "off"},
		mount("rw,hidepid=2"):                {Mode: "invisible"},
		mount("rw,gid=7,hidepid=1"):          {Mode: "noaccess", Exempt: true},
		mount("rw,gid=8,hidepid=noaccess"):   {Mode: "noaccess"},
		mount("rw,hidepid=ptraceable,gid=7"): {Mode: "ptraceable"},
		mount("rw,hidepid=4"):                {Mode: "ptraceable"},
		mount("rw") + mount("rw,hidepid=2"):  {Mode: "invisible"}, // mounted over
		mount("rw") + "30 22 0:50 / /proc/x rw - proc proc rw,hidepid=2\n": {Mode: "off"},
	} {
		h, err := host.HidingOf(text, []int{5, 7})
		require.NoError(t, err, text)
		require.Equal(t, want, h, text)
	}
	h, err := host.HidingOf(mount("rw,hidepid=2"), []int{0})
	require.NoError(t, err)
	require.True(t, h.Exempt, "without gid= it is group 0")
	for _, text := range []string{"", root, "garbage\n"} {
		_, err := host.HidingOf(text, nil)
		require.ErrorContains(t, err, "/proc is not a mount of its own")
	}
}

// The ports that a network namespace of its own has set apart.
func TestReadLocalPortsInANamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Because(t, "a network namespace needs root")
	}
	cmd := standIn("local-ports", "8000 9000", "8080,8100-8199", "7000")
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	var p host.LocalPorts
	require.NoError(t, json.Unmarshal(out, &p), string(out))
	require.Equal(t, host.LocalPorts{
		Range: alloc.Range{First: 8000, Last: 9000}, Reserved: []alloc.Range{{First: 8080, Last: 8080}, {First: 8100, Last: 8199}}, Unprivileged: 7000,
	}, p)
}

// localPorts sets the three sysctls of its own namespace and says what is read.
func localPorts(args []string) int {
	for i, name := range []string{"ip_local_port_range", "ip_local_reserved_ports", "ip_unprivileged_port_start"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(args[i]), 0o600); err != nil {
			return exitOn(err)
		}
	}
	p, err := host.ReadLocalPorts()
	if err != nil {
		return exitOn(err)
	}
	return exitOn(json.NewEncoder(os.Stdout).Encode(p))
}
