package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hive/config"
	"rbeehive/test/skip"
)

// stranger is a user who has nothing to do with hive.
const stranger = 54321

func needRoot(t *testing.T) {
	t.Helper()
	skip.UnlessRoot(t, "only root can give files away")
}

func give(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.Lchown(path, stranger, stranger))
}

// loadAs is load of a hive that runs as uid, and for a reload.
func (p place) loadAs(t *testing.T, uid int, again *config.Config, args ...string) (*config.Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("hive", pflag.ContinueOnError)
	config.Flags(fs)
	require.NoError(t, fs.Parse(args))
	return config.Load(config.Options{Flags: fs, Environ: os.Environ(), UID: uid, EtcDir: filepath.Join(p.dir, "etc"), Previous: again})
}

// Whoever gets root to start hive in a directory of his must not become root by it.
func TestRootDoesNotReadTheWorkingDirectory(t *testing.T) {
	p := newPlace(t)
	args := []string{"--data-dir", p.dir}
	c, err := p.loadAs(t, 0, nil, args...)
	require.NoError(t, err)
	require.Empty(t, c.Unread)

	p.write(t, "hive.yaml", "half a fi")
	c, err = p.loadAs(t, 0, nil, args...)
	require.NoError(t, err)
	require.Empty(t, c.File)
	require.Equal(t, "hive.yaml", c.Unread)
	etc := p.write(t, "etc/hive.yaml", "hive_id: etc\n")
	c, err = p.loadAs(t, 0, nil, args...)
	require.NoError(t, err)
	require.Equal(t, etc, c.File)
	require.Equal(t, "hive.yaml", c.Unread)

	p.write(t, "hive.yaml", "hive_id: here\n")
	c, err = p.loadAs(t, 0, nil, append(args, "--config", "./hive.yaml")...)
	require.NoError(t, err)
	require.Equal(t, "here", c.HiveID)
	require.Empty(t, c.Unread)
}

func TestConfigurationOfOthers(t *testing.T) {
	needRoot(t)
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, p place)
		args  []string
		want  string
	}{
		"the working directory's file": {
			spoil: func(t *testing.T, p place) { give(t, p.write(t, "hive.yaml", "")) },
			want:  "hive.yaml: DIR/hive.yaml belongs to uid 54321 (mode 0600), who could change what hive does as root; run: chown root DIR/hive.yaml; or give another file with --config",
		},
		"the working directory": {
			spoil: func(t *testing.T, p place) { p.write(t, "hive.yaml", ""); give(t, p.dir) },
			want:  "hive.yaml: DIR belongs to uid 54321 (mode 0755), who could put something else in the place of DIR/hive.yaml; ",
		},
		"a link of theirs": {
			spoil: func(t *testing.T, p place) {
				require.NoError(t, os.Symlink(p.write(t, "elsewhere", ""), "hive.yaml"))
				give(t, "hive.yaml")
			},
			want: "run: chown -h root DIR/hive.yaml",
		},
		"another user's home": { // sudo may keep HOME
			spoil: func(t *testing.T, p place) { give(t, p.write(t, "home/.config/hive/hive.yaml", "")) },
			want:  "DIR/home/.config/hive/hive.yaml: belongs to uid 54321 (mode 0600), who could",
		},
		"/etc/hive": {
			spoil: func(t *testing.T, p place) {
				p.write(t, "etc/hive.yaml", "")
				require.NoError(t, os.Chmod("etc", 0o775))
			},
			want: "DIR/etc/hive.yaml: DIR/etc can be written to by its group (owner root, gid 0, mode 0775), who could put something else in the place of DIR/etc/hive.yaml; run: chmod go-w DIR/etc; or give",
		},
		"asked for by name": {
			spoil: func(t *testing.T, p place) { give(t, p.write(t, "named", "")) }, args: []string{"--config", "named"},
			want: "--config: DIR/named belongs to uid 54321",
		},
		"a fifo": {
			spoil: func(t *testing.T, p place) { require.NoError(t, syscall.Mkfifo("fifo", 0o600)) }, args: []string{"--config", "fifo"},
			want: "--config: DIR/fifo is a fifo, not a regular file",
		},
		"too large": {
			spoil: func(t *testing.T, p place) { p.write(t, "hive.yaml", strings.Repeat("#", 1<<20+1)) },
			want:  "hive.yaml is larger than 1048576 bytes",
		},
		"types.d": {
			spoil: func(t *testing.T, p place) {
				p.write(t, typesDir+"/a.yaml", "name: a\npreset: tei\n")
				give(t, typesDir)
			},
			want: "DIR/" + typesDir + ": belongs to uid 54321",
		},
		"a file of types.d": {
			spoil: func(t *testing.T, p place) { give(t, p.write(t, typesDir+"/a.yaml", "name: a\npreset: tei\n")) },
			want:  "DIR/" + typesDir + "/a.yaml: belongs to uid 54321 (mode 0600), who could change what hive does as root; run: chown root DIR/" + typesDir + "/a.yaml",
		},
		"the data directory": {
			spoil: func(t *testing.T, p place) {
				p.write(t, typesDir+"/sys.yaml", "name: sys\ncommand: [id]\n")
				give(t, filepath.Dir(typesDir))
			},
			want: "DIR/" + typesDir + ": DIR/" + filepath.Dir(typesDir) + " belongs to uid 54321",
		},
		"a data directory's link": {
			spoil: func(t *testing.T, p place) {
				p.write(t, "theirs/sys.yaml", "name: sys\ncommand: [id]\n")
				give(t, "theirs")
				require.NoError(t, os.MkdirAll(filepath.Dir(typesDir), 0o700))
				require.NoError(t, os.Symlink(filepath.Join(p.dir, "theirs"), typesDir))
			},
			want: "DIR/" + typesDir + ": DIR/theirs belongs to uid 54321",
		},
		"a certificate": {
			spoil: func(t *testing.T, p place) {
				certify(t, p.dir)
				p.write(t, "hive.yaml", "tls: {cert: cert.pem, key: key.pem}\n")
				give(t, "cert.pem")
			},
			want: "hive.yaml:1: tls.cert: DIR/cert.pem belongs to uid 54321",
		},
		"a key": {
			spoil: func(t *testing.T, p place) {
				certify(t, p.dir)
				p.write(t, "hive.yaml", "tls: {cert: cert.pem, key: key.pem}\n")
				require.NoError(t, os.Chmod("key.pem", 0o660))
			},
			want: "hive.yaml:1: tls.key: DIR/key.pem can be written to by its group",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			tc.spoil(t, p)
			_, err := p.load(t, tc.args...)
			require.ErrorIs(t, err, config.ErrConfig)
			require.ErrorContains(t, err, strings.ReplaceAll(tc.want, "DIR", p.dir))
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// Where nothing is there is nothing to be refused, whosever the directory is.
func TestNothingThereOfOthers(t *testing.T) {
	needRoot(t)
	p := newPlace(t)
	require.NoError(t, os.MkdirAll("home/.local/state/hive", 0o700))
	for _, dir := range []string{"home/.local/state/hive", "home", "."} {
		give(t, dir)
	}
	c, err := p.load(t)
	require.NoError(t, err)
	require.Empty(t, c.File)
}

// A reload reads what the start has read: a file that somebody puts into a place of
// the search later is not it.
func TestReloadReadsTheSameFile(t *testing.T) {
	p := newPlace(t)
	etc := p.write(t, "etc/hive.yaml", "hive_id: etc\n")
	start, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, etc, start.File)
	p.write(t, "hive.yaml", "hive_id: here\n")
	p.write(t, "home/.config/hive/hive.yaml", "hive_id: home\n")
	p.write(t, "etc/hive.yaml", "hive_id: edited\n")
	c, err := p.loadAs(t, 1000, start)
	require.NoError(t, err)
	require.Equal(t, etc, c.File)
	require.Equal(t, "edited", c.HiveID)

	require.NoError(t, os.Remove(etc))
	_, err = p.loadAs(t, 1000, start)
	require.ErrorIs(t, err, config.ErrConfig)
	require.EqualError(t, err, etc+": no longer exists, and a reload reads the file that hive was started with; restore it, or restart hive")

	// One that was asked for by name, and somebody else's by now.
	named := p.write(t, "named", "hive_id: named\n")
	start, err = p.load(t, "--config", named)
	require.NoError(t, err)
	c, err = p.loadAs(t, 1000, start, "--config", named)
	require.NoError(t, err)
	require.Equal(t, "named", c.HiveID)
	if os.Geteuid() == 0 {
		give(t, named)
		_, err = p.loadAs(t, 1000, start, "--config", named)
		require.ErrorContains(t, err, named+": belongs to uid 54321")
	}
}

func TestReloadWithoutAFile(t *testing.T) {
	p := newPlace(t)
	start, err := p.load(t)
	require.NoError(t, err)
	require.Empty(t, start.File)
	c, err := p.loadAs(t, 1000, start)
	require.NoError(t, err)
	require.Empty(t, c.File)

	etc := p.write(t, "etc/hive.yaml", "hive_id: etc\n")
	_, err = p.loadAs(t, 1000, start)
	require.ErrorIs(t, err, config.ErrConfig)
	require.EqualError(t, err, etc+": will be read at the next start of hive: this one was started without a configuration file, and a reload does not search for one")

	// What no start would read does not stand in the way of reloads: anybody may have put it there.
	if os.Geteuid() == 0 {
		give(t, etc)
		_, err = p.loadAs(t, 1000, start)
		require.NoError(t, err)
	}
}
