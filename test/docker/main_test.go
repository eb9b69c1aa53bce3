//go:build linux

// Package docker_test runs hive in containers, as the Dockerfile makes them: they
// are killed, stopped, paused and started again, share a volume, and run out of
// space. What processes there really are is
// reported by a program of the tests' own (inside), not by hive.
//
// They are a module of their own, so that what comes with dockertest (docker, runc) is
// not among what hive is built from.
package docker_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
)

// label marks everything that these tests make. Its value is the run, which begins
// with the time of its start.
const label = "rbeehive.test"

// rootImage ends the tag of the image whose hive is root.
const rootImage = "-root"

// leftover is the age from which things with the label belong to a run that was killed.
const leftover = 30 * time.Minute

// engine is what all tests share. pool is nil where there is no Docker engine, and
// why says so.
var engine struct {
	pool  *dockertest.Pool
	why   string
	image string
	run   string
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	engine.run = strconv.FormatInt(time.Now().Unix(), 10) + "-" + uuid.NewString()[:4]
	if engine.pool, err = connect(); err != nil {
		engine.why = "no Docker engine can be reached: " + err.Error()
		return m.Run(), nil
	}
	if err := sweep(old); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sweep(func(run string) bool { return run == engine.run })) }()
	engine.image = "rbeehive-test"
	for tag, owner := range map[string]string{engine.run: "", engine.run + rootImage: "0:0"} {
		if err := buildImage(tag, owner); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// connect speaks the engine's own version of the API: the library's newest one is
// refused by an older engine.
func connect() (*dockertest.Pool, error) {
	pool, err := dockertest.NewPool("")
	if err != nil {
		return nil, err
	}
	if err := pool.Client.Ping(); err != nil {
		return nil, err
	}
	env, err := pool.Client.Version()
	if err != nil {
		return nil, err
	}
	client, err := docker.NewVersionedClient(pool.Client.Endpoint(), env.Get("ApiVersion"))
	if err != nil {
		return nil, err
	}
	if os.Getenv("DOCKER_CERT_PATH") == "" { // else the pool's own client has the certificates
		pool.Client = client
	}
	return pool, nil
}

// old reports a run that was killed and has left something behind.
func old(run string) bool {
	began, _, _ := strings.Cut(run, "-")
	seconds, err := strconv.ParseInt(began, 10, 64)
	return err == nil && time.Since(time.Unix(seconds, 0)) > leftover
}

// sweep removes the containers, volumes and images of runs.
func sweep(of func(run string) bool) (err error) {
	client := engine.pool.Client
	filter := map[string][]string{"label": {label}}
	boxes, err := client.ListContainers(docker.ListContainersOptions{All: true, Filters: filter})
	if err != nil {
		return err
	}
	for _, c := range boxes {
		if of(c.Labels[label]) {
			err = errors.Join(err, client.RemoveContainer(docker.RemoveContainerOptions{ID: c.ID, Force: true, RemoveVolumes: true}))
		}
	}
	volumes, listErr := client.ListVolumes(docker.ListVolumesOptions{Filters: filter})
	for _, v := range volumes {
		if of(v.Labels[label]) {
			err = errors.Join(err, client.RemoveVolumeWithOptions(docker.RemoveVolumeOptions{Name: v.Name}))
		}
	}
	images, imagesErr := client.ListImages(docker.ListImagesOptions{Filters: filter})
	for _, i := range images {
		if of(i.Labels[label]) {
			err = errors.Join(err, client.RemoveImageExtended(i.ID, docker.RemoveImageOptions{Force: true}))
		}
	}
	return errors.Join(err, listErr, imagesErr)
}

// buildImage makes the image of the Dockerfile, with the worker types of hive.yaml
// and the tests' own program in it besides. An owner is the Dockerfile's argument.
func buildImage(tag, owner string) error {
	dir, err := os.MkdirTemp("", "hive-docker-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a few binaries in a temporary directory
	for name, pkg := range map[string]string{"hive": "cmd/hive", "hivectl": "cmd/hivectl", "inside": "test/docker/inside"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, name), "rbeehive/"+pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if name != "inside" {
			build.Dir = "../.." // what is shipped is built by its own go.mod
		}
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	recipe, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		return err
	}
	ours := "\nLABEL " + label + "=" + engine.run + "\n"
	recipe = bytes.ReplaceAll(recipe, []byte("\nWORKDIR /empty\n"), []byte(ours+"WORKDIR /empty\n"))
	recipe = append(recipe, "\nCOPY inside /\nCOPY hive.yaml /types.yaml\nCOPY docker.yaml /etc/compose.yaml"+ours...)
	var context bytes.Buffer
	w := tar.NewWriter(&context)
	if err := add(w, "Dockerfile", 0o644, recipe); err != nil {
		return err
	}
	for name, file := range map[string]string{
		"bin/hive": filepath.Join(dir, "hive"), "bin/hivectl": filepath.Join(dir, "hivectl"),
		"inside": filepath.Join(dir, "inside"), "hive.yaml": "hive.yaml", "docker.yaml": "../../docs/examples/docker.yaml",
	} {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := add(w, name, 0o755, content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	var args []docker.BuildArg
	if owner != "" {
		args = append(args, docker.BuildArg{Name: "OWNER", Value: owner})
	}
	var said bytes.Buffer
	err = engine.pool.Client.BuildImage(docker.BuildImageOptions{
		Name: engine.image + ":" + tag, BuildArgs: args, InputStream: &context, OutputStream: &said, RmTmpContainer: true, ForceRmTmpContainer: true,
	})
	if err != nil {
		return fmt.Errorf("build the image: %w\n%s", err, said.Bytes())
	}
	return nil
}

func add(w *tar.Writer, name string, mode int64, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(content))
	return err
}
