//go:build linux

package attack_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// planted is a configuration that runs a program when hive starts. The program makes
// a file where only hive's user can.
func (s *site) planted() string {
	return "workers:\n  - " + strings.ReplaceAll(s.plantedType(), "\n", "\n    ")
}

// plantedType is one entry of it, as a file of types.d has it.
func (s *site) plantedType() string {
	return "name: evil\ncommand: [sh, -c, \"id -u >" + s.marker() + "; sleep 60\"]\nautostart: true\n"
}

func (s *site) marker() string { return filepath.Join(s.dir, "home", "ran") }

// ran reports whether the planted program has been run by a hive that has just been
// started, or asked to read its files again.
func (s *site) ran() bool {
	s.Helper()
	if !s.serves() {
		return false // it has refused to start
	}
	if get("/v1/types/evil").send().Status != 200 {
		return ownerOf(s.marker()) >= 0
	}
	s.within(timeout/4, func() bool { return ownerOf(s.marker()) >= 0 })
	return true
}

// without leaves options out of hive's command line.
func (s *site) without(option string) {
	for i, arg := range s.args {
		if arg == option {
			s.args = append(append([]string{}, s.args[:i]...), s.args[i+2:]...)
			return
		}
	}
}

// with gives an option of hive's command line another value.
func (s *site) with(option, value string) {
	s.without(option)
	s.args = append(s.args, option, value)
}

// plant has the stranger write the configuration.
func (s *site) plant(path string) {
	s.Helper()
	s.stranger().sh(`printf %s "$2" >"$1"`, path, s.planted())
}

// shared makes a directory in which everybody may make files, as /tmp is.
func (s *site) shared(name string) string {
	s.Helper()
	dir := s.homeOf(s.root(), name)
	require.NoError(s, os.Chmod(dir, os.ModeSticky|0o777))
	return dir
}

// open is a file of root's that others may write.
func (s *site) open(name string, gid int, mode os.FileMode) string {
	s.Helper()
	path := s.write(name, "")
	require.NoError(s, os.Chown(path, 0, gid))
	require.NoError(s, os.Chmod(path, mode))
	return path
}

// Whoever can write hive's configuration has hive's rights.
func TestAConfigurationOfTheirs(t *testing.T) {
	t.Run("as a check of the test: root's own is run", func(t *testing.T) {
		s := newSite(t, "")
		s.write("hive.yaml", s.planted())
		s.launch()
		require.True(t, s.ran())
		require.Equal(t, 0, ownerOf(s.marker()))
	})
	t.Run("as a check of the test: root's own is run in a directory like /tmp", func(t *testing.T) {
		s := newSite(t, "")
		s.with("--config", s.shared("tmp")+"/hive.yaml")
		s.write("tmp/hive.yaml", s.planted())
		s.with("--data-dir", s.dir+"/tmp/data")
		s.launch()
		require.True(t, s.ran())
	})
	for where, put := range map[string]func(s *site){
		"in their directory that root stands in": func(s *site) {
			s.cwd = s.homeOf(s.stranger(), "theirs")
			s.without("--config")
			s.plant(s.cwd + "/hive.yaml")
		},
		"in a directory like /tmp that root stands in": func(s *site) {
			s.cwd = s.shared("tmp")
			s.without("--config")
			s.plant(s.cwd + "/hive.yaml")
		},
		"in the home directory that sudo has left to root": func(s *site) {
			home := s.homeOf(s.stranger(), "theirs")
			s.env, s.cwd = []string{"HOME=" + home}, "/"
			s.without("--config")
			s.stranger().sh("mkdir -p $1/.config/hive", home)
			s.plant(home + "/.config/hive/hive.yaml")
		},
		"in a file that belongs to them": func(s *site) {
			s.with("--config", s.homeOf(s.stranger(), "theirs")+"/hive.yaml")
			s.plant(s.args[len(s.args)-1])
		},
		"in a file that belongs to them, in a directory like /tmp": func(s *site) {
			s.with("--config", s.shared("tmp")+"/hive.yaml")
			s.plant(s.args[len(s.args)-1])
		},
		"in a file of root's that everybody may write": func(s *site) {
			s.with("--config", s.open("open.yaml", 0, 0o666))
			s.plant(s.args[len(s.args)-1])
		},
		"in a file of root's that their group may write": func(s *site) {
			s.with("--config", s.open("open.yaml", stranger, 0o664))
			s.plant(s.args[len(s.args)-1])
		},
		"in a file that root has given to them": func(s *site) {
			s.with("--config", s.open("given.yaml", 0, 0o644))
			require.NoError(s, os.Chown(s.dir+"/given.yaml", stranger, stranger))
			s.plant(s.dir + "/given.yaml")
		},
		"in the place of a file in a directory of root's that their group may write": func(s *site) {
			dir := s.homeOf(s.root(), "etc")
			require.NoError(s, os.Chown(dir, 0, stranger))
			require.NoError(s, os.Chmod(dir, 0o775))
			s.with("--config", s.write("etc/hive.yaml", "workers: []\n"))
			s.stranger().sh("rm -f $1/hive.yaml", dir)
			s.plant(dir + "/hive.yaml")
		},
		// Each file and its directory are root's, but which file it is they decide.
		"by a link to a file of root's that was never meant for it": func(s *site) {
			dir := s.homeOf(s.stranger(), "theirs")
			s.homeOf(s.root(), "elsewhere")
			s.write("elsewhere/hive.yaml", s.planted())
			s.with("--config", dir+"/hive.yaml")
			s.stranger().sh("ln -s $2/elsewhere/hive.yaml $1/hive.yaml", dir, s.dir)
		},
		"by another directory of root's in the place of one below theirs": func(s *site) {
			dir := s.homeOf(s.stranger(), "theirs")
			s.homeOf(s.root(), "elsewhere")
			s.write("elsewhere/hive.yaml", s.planted())
			s.homeOf(s.root(), "theirs/etc")
			s.with("--config", s.write("theirs/etc/hive.yaml", "workers: []\n"))
			s.stranger().sh("mv $1/etc $1/before; ln -s $2/elsewhere $1/etc", dir, s.dir)
		},
		"by a link in a directory like /tmp": func(s *site) {
			dir := s.shared("tmp")
			s.homeOf(s.root(), "elsewhere")
			s.write("elsewhere/hive.yaml", s.planted())
			s.with("--config", dir+"/hive.yaml")
			s.stranger().sh("ln -s $2/elsewhere/hive.yaml $1/hive.yaml", dir, s.dir)
		},
	} {
		t.Run("their program run by root "+where, func(t *testing.T) {
			s := newSite(t, "workers: []\n")
			put(s)
			s.launch()
			require.False(t, s.ran(), "hive has run it as %d", ownerOf(s.marker()))
		})
	}
	t.Run("their program run by the hive of another user who stands in their directory", func(t *testing.T) {
		s := newSite(t, "workers: []\n")
		s.uid, s.cwd = other, s.homeOf(s.stranger(), "theirs")
		require.NoError(t, os.Chown(s.dir+"/home", other, other))
		s.without("--config")
		s.with("--data-dir", s.dir+"/home/data")
		s.plant(s.cwd + "/hive.yaml")
		s.launch()
		require.False(t, s.ran(), "hive has run it as %d", ownerOf(s.marker()))
	})
}

// A reload reads the file that the start has read, and only if it can still be trusted.
func TestAConfigurationOfTheirsAtAReload(t *testing.T) {
	reload := func(s *site) bool {
		post("/v1/reload", nil).send()
		require.NoError(s, s.cmd.Process.Signal(syscall.SIGHUP))
		s.within(timeout/20, func() bool { return ownerOf(s.marker()) >= 0 })
		return s.ran()
	}
	t.Run("their program run by root, put where root stood at the start", func(t *testing.T) {
		s := newSite(t, "workers: []\n")
		s.cwd = s.homeOf(s.stranger(), "theirs")
		s.without("--config")
		s.start()
		s.plant(s.cwd + "/hive.yaml")
		require.False(t, reload(s), "hive has run it as %d", ownerOf(s.marker()))
	})
	t.Run("their program run by root, in a file that has become theirs", func(t *testing.T) {
		s := newSite(t, "workers: []\n").start()
		require.NoError(t, os.Chown(s.config, stranger, stranger))
		s.plant(s.config)
		require.False(t, reload(s), "hive has run it as %d", ownerOf(s.marker()))
	})
}

// Whoever can write to the data directory has hive's rights.
func TestADataDirectoryOfTheirs(t *testing.T) {
	const plant = `umask 077; mkdir -p $1/types.d; printf %s "$2" >$1/types.d/evil.yaml`
	for which, put := range map[string]func(s *site){
		"made by them": func(s *site) {
			s.with("--data-dir", s.homeOf(s.stranger(), "theirs")+"/data")
			s.stranger().sh(plant, s.dir+"/theirs/data", s.plantedType())
		},
		"made by them in a directory like /tmp": func(s *site) {
			s.with("--data-dir", s.shared("tmp")+"/hive")
			s.stranger().sh(plant, s.dir+"/tmp/hive", s.plantedType())
		},
		"open to their group": func(s *site) {
			require.NoError(s, os.Mkdir(s.data, 0o755))
			s.write("data/hive.db", "")
			require.NoError(s, os.Remove(s.data+"/hive.db"))
			require.NoError(s, os.Chown(s.data, 0, stranger))
			require.NoError(s, os.Chmod(s.data, 0o775))
			s.launch()
			require.True(s, s.serves() || s.ended())
			s.crash()
			require.NoError(s, os.Chmod(s.data, 0o775))
			s.stranger().sh(plant, s.data, s.plantedType())
		},
		"in which a file is theirs": func(s *site) {
			require.NoError(s, os.MkdirAll(s.data+"/types.d", 0o700))
			s.write("data/types.d/evil.yaml", s.plantedType())
			require.NoError(s, os.Chown(s.data+"/types.d/evil.yaml", stranger, stranger))
		},
		"in which a directory is theirs": func(s *site) {
			require.NoError(s, os.MkdirAll(s.data+"/types.d", 0o700))
			s.write("data/types.d/evil.yaml", s.plantedType())
			require.NoError(s, os.Chown(s.data+"/types.d", stranger, stranger))
		},
		"that they have put in the place of root's": func(s *site) {
			dir := s.homeOf(s.stranger(), "theirs")
			require.NoError(s, os.MkdirAll(s.dir+"/elsewhere/types.d", 0o700))
			s.write("elsewhere/types.d/evil.yaml", s.plantedType())
			require.NoError(s, os.Mkdir(dir+"/data", 0o700))
			s.with("--data-dir", dir+"/data")
			s.stranger().sh("mv $1/data $1/before; ln -s $2/elsewhere $1/data", dir, s.dir)
		},
	} {
		t.Run("their program run by root from a data directory "+which, func(t *testing.T) {
			s := newSite(t, "workers: []\n")
			put(s)
			s.launch()
			require.False(t, s.ran(), "hive has run it as %d", ownerOf(s.marker()))
		})
	}
	t.Run("as a check of the test: root's own is run", func(t *testing.T) {
		s := newSite(t, "workers: []\n")
		require.NoError(t, os.MkdirAll(s.data+"/types.d", 0o700))
		require.NoError(t, os.WriteFile(s.data+"/types.d/evil.yaml", []byte(s.plantedType()), 0o600))
		s.launch()
		require.True(t, s.ran())
	})
}

// LD_PRELOAD in the environment of a worker is code that the worker runs.
func TestAnEnvFileOfTheirs(t *testing.T) {
	for which, put := range map[string]func(s *site) string{
		"that belongs to them":       func(s *site) string { return s.homeOf(s.stranger(), "theirs") + "/env" },
		"that everybody may write":   func(s *site) string { return s.open("env", 0, 0o666) },
		"that their group may write": func(s *site) string { return s.open("env", stranger, 0o664) },
		"in a directory like /tmp":   func(s *site) string { return s.shared("tmp") + "/env" },
	} {
		t.Run("a variable for root's worker in an env_file "+which, func(t *testing.T) {
			s := newSite(t, "")
			file := put(s)
			s.stranger().sh("echo PLANTED=1 >$1", file)
			s.write("own", "OWN=1\n")
			server := `command: [` + binary("server") + `, -port, "{{.Port}}"]`
			s.write("hive.yaml", "workers:\n  - {name: theirs, "+server+", env_file: "+file+"}\n")
			s.launch()
			if !s.serves() {
				return // the file alone was enough to refuse
			}
			s.spawn(map[string]any{"worker": "theirs", "name": "theirs"})
			if w := s.worker("theirs"); w != nil && w.State == "ready" {
				require.NotContains(t, get("/environ").at("127.0.0.1:"+itoa(int(w.Port))).send().Body, "PLANTED")
			}
		})
	}
}
