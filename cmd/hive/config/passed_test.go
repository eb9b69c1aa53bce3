package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hive/config"
)

func TestControlSocket(t *testing.T) {
	for doc, want := range map[string]string{
		"": "home/.local/state/hive/control.sock",
		"data_dir: /" + strings.Repeat("d", 200) + "\n": "/" + strings.Repeat("d", 200) + "/control.sock",
		"socket: {path: /run/hive//hive.sock}\n":        "/run/hive/hive.sock",
		"listen: none\n":                                "home/.local/state/hive/control.sock",
	} {
		p := newPlace(t)
		p.write(t, "hive.yaml", doc)
		c, err := p.load(t)
		require.NoError(t, err, doc)
		if !filepath.IsAbs(want) {
			want = filepath.Join(p.dir, want)
		}
		require.Equal(t, want, c.ControlSocket())
	}
	for path, want := range map[string]string{
		"hive.sock":                    `hive.yaml:1: socket.path: "hive.sock": a unix socket needs an absolute path, such as /run/hive/hive.sock`,
		"unix:/run/hive.sock":          "a unix socket needs an absolute path, such as /run/hive/hive.sock",
		"/run/hive/":                   "a unix socket needs the path of a file, such as /run/hive/hive.sock",
		"/" + strings.Repeat("x", 107): "the path of a unix socket has at most 107 bytes, this one 108; choose a shorter one",
	} {
		p := newPlace(t)
		p.write(t, "hive.yaml", "socket: {path: '"+path+"'}\n")
		_, err := p.load(t)
		require.ErrorIs(t, err, config.ErrConfig)
		require.ErrorContains(t, err, want)
	}
}

// What the service manager has opened counts as what listen says, and takes the place
// of what nobody has said.
func TestPassedSockets(t *testing.T) {
	tcp, everywhere, unix := addr("127.0.0.1:7900"), addr("0.0.0.0:7835"), config.Address{Socket: "/run/hive/hive.sock"}
	for name, tc := range map[string]struct {
		doc    string
		args   []string
		passed []config.Address
		listen string
		token  bool // there is a token file
	}{
		"none":                         {listen: "127.0.0.1:7835"},
		"TCP instead of the default":   {passed: []config.Address{tcp}},
		"a unix socket only":           {passed: []config.Address{unix}, listen: "127.0.0.1:7835"},
		"beyond this machine":          {passed: []config.Address{everywhere}, token: true},
		"beside what the file says":    {doc: "listen: 127.0.0.1:7835\n", passed: []config.Address{everywhere}, listen: "127.0.0.1:7835", token: true},
		"beside a port that was given": {args: []string{"--port", "7901"}, passed: []config.Address{tcp}, listen: "127.0.0.1:7901"},
	} {
		p := newPlace(t)
		p.write(t, "hive.yaml", tc.doc)
		fs := pflag.NewFlagSet("hive", pflag.ContinueOnError)
		config.Flags(fs)
		require.NoError(t, fs.Parse(tc.args))
		c, err := config.Load(config.Options{Flags: fs, Environ: os.Environ(), UID: 1000, EtcDir: p.dir, Passed: tc.passed})
		require.NoError(t, err, name)
		var listen []string
		for _, a := range c.Listen {
			listen = append(listen, a.String())
		}
		require.Equal(t, tc.listen, strings.Join(listen, " "), name)
		require.Equal(t, tc.token, c.NeedsToken(), name)
		require.Equal(t, tc.passed, c.Passed, name)
	}
	p := newPlace(t)
	p.write(t, "hive.yaml", "workers: [{name: web, command: [web], port: 7900}]\n")
	fs := pflag.NewFlagSet("hive", pflag.ContinueOnError)
	config.Flags(fs)
	_, err := config.Load(config.Options{Flags: fs, UID: 1000, EtcDir: p.dir, Passed: []config.Address{tcp}})
	require.ErrorContains(t, err, "7900 is the port of hive's own API")
}

func TestIncludes(t *testing.T) {
	v6only := addr("[::]:1")
	v6only.V6Only = true
	loopback := addr("[::1]:1")
	loopback.V6Only = true // as a socket unit has it
	for _, tc := range []struct {
		a, b config.Address
		want bool
	}{
		{addr("[::]:1"), addr("127.0.0.1:1"), true},
		{addr("[::]:1"), addr("0.0.0.0:1"), true},
		{addr("[::]:1"), addr("[::1]:1"), true},
		{addr("[::]:1"), addr("127.0.0.1:2"), false},
		{v6only, addr("[::1]:1"), true},
		{loopback, addr("[::1]:1"), true},
		{addr("[::1]:1"), loopback, true},
		{v6only, addr("127.0.0.1:1"), false},
		{v6only, addr("[::]:1"), false},
		{addr("[::]:1"), v6only, true},
		{addr("0.0.0.0:1"), addr("[::1]:1"), false},
		{addr("0.0.0.0:1"), v6only, false},
		{addr("127.0.0.1:1"), addr("0.0.0.0:1"), false},
		{addr("127.0.0.1:0"), addr("127.0.0.1:0"), false},
		{config.Address{Socket: "/s"}, config.Address{Socket: "/s"}, true},
		{addr("[::]:1"), config.Address{Socket: "/s"}, false},
	} {
		require.Equal(t, tc.want, tc.a.Includes(tc.b), "%v %v", tc.a, tc.b)
	}
}
