package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/cmd/hive/config"
)

func TestFileSearchOrder(t *testing.T) {
	p := newPlace(t)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(p.dir, "xdg"))
	file := func(args ...string) string {
		c, err := p.load(t, args...)
		require.NoError(t, err)
		return c.File
	}
	require.Empty(t, file())
	etc := p.write(t, "etc/hive.yaml", "hive_id: etc\n")
	require.Equal(t, etc, file())
	xdg := p.write(t, "xdg/hive/hive.yaml", "hive_id: xdg\n")
	require.Equal(t, xdg, file())
	p.write(t, "hive.yaml", "hive_id: here\n")
	require.Equal(t, "hive.yaml", file())
	variable := p.write(t, "variable.conf", "hive_id: variable\n")
	t.Setenv("HIVE_CONFIG", variable)
	require.Equal(t, variable, file())
	flag := p.write(t, "flag.conf", "hive_id: flag\n")
	require.Equal(t, flag, file("--config", flag))

	t.Setenv("HIVE_CONFIG", "")
	t.Setenv("XDG_CONFIG_HOME", "relative") // counts as unset
	require.NoError(t, os.Remove("hive.yaml"))
	home := p.write(t, "home/.config/hive/hive.yaml", "hive_id: home\n")
	require.Equal(t, home, file())
}

func TestPortAndListen(t *testing.T) {
	for name, tc := range map[string]struct {
		file, portVar, listenVar string
		args                     []string
		want, fails              string
	}{
		"port alone":                   {args: []string{"--port", "7900"}, want: "127.0.0.1:7900"},
		"any free port":                {args: []string{"--port", "0"}, want: "127.0.0.1:0"},
		"port over the file's":         {file: "listen: '[::1]:7000'", args: []string{"--port", "7900"}, want: "[::1]:7900"},
		"the same port twice":          {args: []string{"--port", "7900", "--listen", "127.0.0.1:7900"}, want: "127.0.0.1:7900"},
		"two different ports":          {args: []string{"--port", "7900", "--listen", "127.0.0.1:7901"}, fails: "--port: 7900 contradicts --listen 127.0.0.1:7901; give only one of them"},
		"two different ports in env":   {portVar: "7900", listenVar: "127.0.0.1:7901", fails: "HIVE_PORT: 7900 contradicts HIVE_LISTEN 127.0.0.1:7901; give only one of them"},
		"listen flag over HIVE_PORT":   {portVar: "7900", args: []string{"--listen", "127.0.0.1:7901"}, want: "127.0.0.1:7901"},
		"port flag over HIVE_LISTEN":   {listenVar: "127.0.0.2:7900", args: []string{"--port", "7901"}, want: "127.0.0.2:7901"},
		"localhost":                    {args: []string{"--listen", "localhost:7900"}, want: "127.0.0.1:7900"},
		"list of one":                  {file: "listen: ['127.0.0.1:7900']", want: "127.0.0.1:7900"},
		"HIVE_PORT of a service link":  {portVar: "tcp://10.0.0.1:7835", fails: `HIVE_PORT: "tcp://10.0.0.1:7835": expected a port number from 0 to 65535; Kubernetes and Docker set such variables for a service named hive (service links)`},
		"--port that is no number":     {args: []string{"--port", "http"}, fails: `--port: "http": expected a port number from 0 to 65535`},
		"--port that is too high":      {args: []string{"--port", "65536"}, fails: `--port: "65536": expected a port number from 0 to 65535`},
		"port of the one TCP address":  {file: "listen: ['unix:/run/h', '0.0.0.0:7900']", args: []string{"--port", "7901"}, want: "unix:/run/h 0.0.0.0:7901"},
		"port of two TCP addresses":    {file: "listen: ['127.0.0.1:1', '127.0.0.1:2']", args: []string{"--port", "7901"}, fails: "--port: 7901: hive.yaml:1: listen has several TCP addresses; write the ports there"},
		"port of no TCP address":       {file: "listen: 'unix:/run/h'", portVar: "7901", fails: "HIVE_PORT: 7901: hive.yaml:1: listen has no TCP address to apply it to"},
		"two addresses":                {file: "listen: ['127.0.0.1:1', '127.0.0.1:2']", want: "127.0.0.1:1 127.0.0.1:2"},
		"by commas":                    {args: []string{"--listen", "127.0.0.1:1, unix:/run/h"}, want: "127.0.0.1:1 unix:/run/h"},
		"several free ports":           {args: []string{"--listen", "127.0.0.1:0,127.0.0.1:0"}, want: "127.0.0.1:0 127.0.0.1:0"},
		"all addresses":                {args: []string{"--listen", "0.0.0.0:7835"}, want: "0.0.0.0:7835"},
		"all addresses of IPv6":        {args: []string{"--listen", "[::]:7835"}, want: "[::]:7835"},
		"no host":                      {args: []string{"--listen", ":7835"}, want: ":7835"},
		"another address":              {file: "listen: 192.168.1.5:7835", want: "192.168.1.5:7835"},
		"mapped address":               {file: "listen: '[::ffff:127.0.0.1]:7835'", want: "127.0.0.1:7835"},
		"unix socket":                  {file: "listen: unix:/run/../run/hive.sock", want: "unix:/run/hive.sock"},
		"relative socket":              {file: "listen: unix:hive.sock", fails: `hive.yaml:1: listen: "unix:hive.sock": a unix socket needs an absolute path, such as unix:/run/hive/hive.sock`},
		"abstract socket":              {file: "listen: unix:@hive", fails: `a unix socket needs an absolute path`},
		"socket that is a directory":   {file: "listen: unix:/run/", fails: `a unix socket needs the path of a file`},
		"longest socket":               {file: "listen: unix:/" + strings.Repeat("x", 106), want: "unix:/" + strings.Repeat("x", 106)},
		"too long socket":              {file: "listen: unix:/" + strings.Repeat("x", 107), fails: "the path of a unix socket has at most 107 bytes, this one 108; choose a shorter one"},
		"twice":                        {args: []string{"--listen", "localhost:1,127.0.0.1:1"}, fails: "--listen: 127.0.0.1:1 and 127.0.0.1:1: the first includes the second; remove one"},
		"socket twice":                 {args: []string{"--listen", "unix:/run/h,unix:/run//h"}, fails: "--listen: unix:/run/h and unix:/run/h: the first includes the second"},
		"twice by a wildcard":          {args: []string{"--listen", "127.0.0.1:1,:1"}, fails: "--listen: :1 and 127.0.0.1:1: the first includes the second"},
		"IPv6 beside IPv4's wildcard":  {args: []string{"--listen", "[::1]:1,0.0.0.0:1"}, want: "[::1]:1 0.0.0.0:1"},
		"a name":                       {args: []string{"--listen", "gpubox:7835"}, fails: `--listen: "gpubox:7835": "gpubox" is no IP address`},
		"no port":                      {args: []string{"--listen", "127.0.0.1"}, fails: `--listen: "127.0.0.1": expected host:port with an IP address or localhost, such as 127.0.0.1:7835, or unix:/path; or none, for the control socket alone`},
		"a service name":               {args: []string{"--listen", "127.0.0.1:http"}, fails: `--listen: "127.0.0.1:http": "http" is no port number`},
		"nothing":                      {file: "listen: none", want: ""},
		"nothing in a list":            {args: []string{"--listen", "none"}, file: "listen: ['127.0.0.1:1']", want: ""},
		"port of nothing":              {args: []string{"--listen", "none", "--port", "1"}, fails: "--port: 1: --listen has no TCP address to apply it to"},
		"nothing and something":        {args: []string{"--listen", "none,127.0.0.1:1"}, fails: `--listen: "none": expected host:port`},
		"empty listen flag is refused": {args: []string{"--listen", ""}, fails: "--listen: no address; expected host:port"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			if tc.file != "" {
				p.write(t, "hive.yaml", tc.file+"\n")
			}
			t.Setenv("HIVE_PORT", tc.portVar)
			t.Setenv("HIVE_LISTEN", tc.listenVar)
			c, err := p.load(t, tc.args...)
			if tc.fails != "" {
				require.ErrorContains(t, err, tc.fails)
				return
			}
			require.NoError(t, err)
			var got []string
			for _, a := range c.Listen {
				got = append(got, a.String())
			}
			require.Equal(t, tc.want, strings.Join(got, " "))
		})
	}
}

func TestDataDir(t *testing.T) {
	p := newPlace(t)
	dataDir := func(uid int, args ...string) string {
		fs := pflag.NewFlagSet("hive", pflag.ContinueOnError)
		config.Flags(fs)
		require.NoError(t, fs.Parse(args))
		c, err := config.Load(config.Options{Flags: fs, UID: uid, EtcDir: p.dir})
		require.NoError(t, err)
		return c.DataDir
	}
	t.Setenv("XDG_STATE_HOME", "/state")
	require.Equal(t, "/state/hive", dataDir(1000))
	require.Equal(t, "/var/lib/hive", dataDir(0))
	require.Equal(t, filepath.Join(p.dir, "x"), dataDir(0, "--data-dir", "x"), "it is made absolute")

	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", "")
	_, err := p.load(t)
	require.ErrorContains(t, err, "data_dir: neither XDG_STATE_HOME nor HOME is set; give a directory with --data-dir")
}

func TestTakeOverIsAFlagOnly(t *testing.T) {
	p := newPlace(t)
	c, err := p.load(t, "--take-over")
	require.NoError(t, err)
	require.True(t, c.TakeOver)
	t.Setenv("HIVE_TAKE_OVER", "1")
	_, err = p.load(t)
	require.EqualError(t, err, "HIVE_TAKE_OVER: take_over is only a flag (--take-over): it applies to one start, not to every")
}

func TestMergeKeysAndAnchors(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", `
workers:
  - &base
    name: a
    command: [p, "{{.Port}}"]
    ready: {path: /up}
  - <<: *base
    name: b
    model: m
`)
	c, err := p.load(t)
	require.NoError(t, err)
	require.Len(t, c.Workers, 2)
	require.Equal(t, "b", c.Workers[1].Name)
	require.Equal(t, []string{"p", "{{.Port}}"}, c.Workers[1].Command)
	require.Equal(t, "/up", *c.Workers[1].Ready.Path)
}

func TestEmptyFilesAndValues(t *testing.T) {
	for _, doc := range []string{"", "# nothing\n", "---\n", "data_dir:\nports:\nworkers:\njobs: {}\n"} {
		p := newPlace(t)
		p.write(t, "hive.yaml", doc)
		c, err := p.load(t)
		require.NoError(t, err, "%q", doc)
		require.Equal(t, alloc.Range{First: 8080, Last: 9999}, c.Ports.Range)
	}
}
