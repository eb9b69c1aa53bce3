package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hive/config"
)

// loadAs is a hive that runs as uid, on a machine where workers have a user of their
// own if there is one of that name.
func loadAs(t *testing.T, p place, uid int, user string) (*config.Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("hive", pflag.ContinueOnError)
	config.Flags(fs)
	if _, err := os.Stat("hive.yaml"); err == nil {
		require.NoError(t, fs.Parse([]string{"--config", "hive.yaml"})) // which root is not looking for
	}
	return config.Load(config.Options{Flags: fs, UID: uid, EtcDir: filepath.Join(p.dir, "etc"), DefaultWorkerUser: user})
}

func TestWorkerUser(t *testing.T) {
	for name, c := range map[string]struct {
		uid         int
		there, said string
		want        string
	}{
		"root, and the user is there":     {0, "nobody", "", "nobody"},
		"root, and the user is not there": {0, "no-such-user-42", "", ""},
		"root, which says root":           {0, "nobody", "root", "root"},
		"root, which says another":        {0, "nobody", "54321:54322", "54321:54322"},
		"not root":                        {1000, "nobody", "", ""},
		"not root, which says itself":     {1000, "nobody", "1000:1000", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			if c.said != "" {
				p.write(t, "hive.yaml", "worker_user: '"+c.said+"'\n")
			}
			cfg, err := loadAs(t, p, c.uid, c.there)
			require.NoError(t, err)
			require.Equal(t, c.want, cfg.WorkerUser)
		})
	}
}

func TestWorkerUserMistakes(t *testing.T) {
	p := newPlace(t)
	t.Setenv("HIVE_WORKER_USER", "no-such-user-42")
	_, err := loadAs(t, p, 0, "")
	require.EqualError(t, err, `HIVE_WORKER_USER: unknown user: "no-such-user-42"`)
	t.Setenv("HIVE_WORKER_USER", "root")
	_, err = loadAs(t, p, 1000, "")
	require.EqualError(t, err, `HIVE_WORKER_USER: "root": only a hive that runs as root can start workers as another user, and this one runs as uid 1000; remove it, or run hive as root`)
	t.Setenv("HIVE_WORKER_USER", "")
	p.write(t, "hive.yaml", "log_level: info\nworker_user: a b\n")
	_, err = loadAs(t, p, 0, "")
	require.EqualError(t, err, `hive.yaml:2: worker_user: unknown user: "a b"`)
}

// Another user waits for the next start: the data directory is opened then.
func TestWorkerUserNeedsAStart(t *testing.T) {
	p := newPlace(t)
	before, err := loadAs(t, p, 0, "no-such-user-42")
	require.NoError(t, err)
	after, err := loadAs(t, p, 0, "nobody")
	require.NoError(t, err)
	require.Equal(t, []string{"worker_user"}, before.NeedStart(after))
}
