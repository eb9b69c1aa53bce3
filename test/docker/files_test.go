//go:build linux

package docker_test

import (
	"archive/tar"
	"bytes"
	"testing"

	"github.com/ory/dockertest/v3/docker"
	"github.com/stretchr/testify/require"
)

// configured is a volume with a hive.yaml and a directory that belong to a user of the
// host, and that a group may write to: what git leaves of a clone.
func configured(t *testing.T) (volume string) {
	t.Helper()
	volume = newVolume(t)
	b := serving(t, options{host: func(hc *docker.HostConfig) { hc.Binds = append(hc.Binds, volume+":/etc/hive") }})
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	text := []byte("hive_id: mounted\n")
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "theirs/", Mode: 0o775, Uid: 1000, Gid: 1000}))
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "hive.yaml", Mode: 0o664, Uid: 1000, Gid: 1000, Size: int64(len(text))}))
	_, err := w.Write(text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, b.pool.Client.UploadToContainer(b.res.Container.ID, docker.UploadToContainerOptions{InputStream: &content, Path: "/etc/hive"}))
	return volume
}

// The directory of a user of the host is not one for a hive of root's.
func TestVolumeOfAnotherUserForRoot(t *testing.T) {
	t.Parallel()
	b := start(t, options{root: true, volume: configured(t), env: []string{"HIVE_DATA_DIR=/var/lib/hive/theirs"}})
	require.Equal(t, 1, b.ended())
	require.Contains(t, b.said(), "hive: create the data directory: /var/lib/hive/theirs belongs to uid 1000 (mode 0775), who could change what hive does as root; "+
		"run: chown root /var/lib/hive/theirs (on the host, if it is mounted from there; ")
}

// The owners of a mounted file are the host's, and say nothing in the container: if
// nobody there can write to it hive believes it, and if somebody can it does not.
func TestConfigurationOfTheHost(t *testing.T) {
	t.Parallel()
	volume := configured(t)
	mounted := func(how string) func(*docker.HostConfig) {
		return func(hc *docker.HostConfig) { hc.Binds = append(hc.Binds, volume+":/etc/hive"+how) }
	}
	b := serving(t, options{host: mounted(":ro")})
	require.Contains(t, b.said(), "hive      mounted at ")
	require.Contains(t, b.said(), "config    /etc/hive/hive.yaml\n")

	const refused = "hive: /etc/hive/hive.yaml: "
	open := start(t, options{host: mounted("")})
	require.Equal(t, 2, open.ended())
	require.Contains(t, open.said(), refused+"belongs to uid 1000 (mode 0664)")

	// Where hive is not PID 1 the container is not its own.
	o := underInit()
	o.host = mounted(":ro")
	child := start(t, o)
	child.eventually("it says why it does not start", func() bool { return bytes.Contains([]byte(child.said()), []byte(refused)) })
}
