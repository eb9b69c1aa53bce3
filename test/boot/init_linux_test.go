package boot_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// here is where the machine has the test's files.
const here = "/opt/hive-boot"

// becomeInit makes the machine below dir, an empty directory, puts the files of shared
// into it, and becomes its systemd. It returns only with an error. It is called in new
// mount, PID, network, IPC and UTS namespaces, and in a cgroup of its own.
func becomeInit(dir, shared string) error {
	runtime.LockOSThread() // namespaces and capabilities are a thread's, until it executes
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make a cgroup namespace: %w", err)
	}
	root := filepath.Join(dir, "root")
	for _, step := range []func() error{
		func() error { return mountRoot(dir, root) },
		func() error { return mountKernel(root) },
		func() error { return mountDev(filepath.Join(root, "dev")) },
		func() error { return forget(root) },
		func() error { return furnish(filepath.Join(root, here), shared) },
		func() error { return enter(root) },
		dropCapabilities,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	env := []string{"container=hive-boot", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return unix.Exec("/lib/systemd/systemd", []string{"systemd", "--system", "--unit=basic.target", "--log-target=journal", "--show-status=0"}, env)
}

func mountRoot(dir, root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := mount("tmpfs", dir, 0, "mode=755"); err != nil {
		return err
	}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{upper, work, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", root, 0, fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work))
}

// mountKernel mounts what is the kernel's. What is not of a namespace is not to be
// changed from in there.
func mountKernel(root string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct{ fs, at string }{{"proc", "proc"}, {"sysfs", "sys"}, {"cgroup2", "sys/fs/cgroup"}} {
		if err := mount(m.fs, filepath.Join(root, m.at), flags, ""); err != nil {
			return err
		}
	}
	sys := filepath.Join(root, "proc/sys")
	if err := unix.Mount(sys, sys, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on itself: %w", sys, err)
	}
	for _, at := range []string{sys, filepath.Join(root, "sys")} {
		if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", at, err)
		}
	}
	if err := mount("tmpfs", filepath.Join(root, "run"), unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	return mount("tmpfs", filepath.Join(root, "tmp"), unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
}

func mountDev(dev string) error {
	if err := mount("tmpfs", dev, unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := node(filepath.Join(dev, name), unix.S_IFCHR, 1, minor); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dev, "shm")
	if err := os.Mkdir(shm, 0o755); err != nil {
		return err
	}
	return mount("tmpfs", shm, unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
}

// forget takes away what this machine is set up to start and mount, and any hive of its own.
func forget(root string) error {
	var gone []string
	for _, pattern := range []string{"etc/systemd/system/*", "etc/hive", "var/lib/hive", "var/lib/hive-worker"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		gone = append(gone, found...)
	}
	for _, path := range gone {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"etc/fstab": "", "etc/machine-id": "5bb53d4bc02a0193c523752890ab2876\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// furnish copies the test's files, and makes the device files of a GPU and of a disk
// that no driver has, and a helper with a set-user-ID bit.
func furnish(dir, shared string) error {
	if err := os.CopyFS(dir, os.DirFS(shared)); err != nil {
		return err
	}
	for _, name := range []string{"probe", "probe32"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := node(filepath.Join(dir, "gpu"), unix.S_IFCHR, 195, 254); err != nil { // NVIDIA's
		return err
	}
	if err := node(filepath.Join(dir, "disk"), unix.S_IFBLK, 259, 1<<19); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(dir, "probe"), filepath.Join(dir, "setuid")); err != nil {
		return err
	}
	if err := os.Chown(filepath.Join(dir, "setuid"), 65534, 65534); err != nil {
		return err
	}
	return unix.Chmod(filepath.Join(dir, "setuid"), 0o4755)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// enter makes root the root of this mount namespace, and the only thing in it. It is
// shared, as systemd has it on a real machine: in a container it leaves that to others.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	return os.Chdir("/")
}

// dropCapabilities takes away for good what is about the machine and no namespace.
func dropCapabilities() error {
	for _, capability := range []uintptr{unix.CAP_SYS_MODULE, unix.CAP_SYS_TIME, unix.CAP_SYS_RAWIO, unix.CAP_SYSLOG} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return fmt.Errorf("drop a capability: %w", err)
		}
	}
	return nil
}

func mount(fs, at string, flags uintptr, data string) error {
	if err := unix.Mount(fs, at, fs, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", fs, at, err)
	}
	return nil
}

// node makes a device file that everybody may open.
func node(path string, kind, major, minor uint32) error {
	if err := unix.Mknod(path, kind|0o666, int(unix.Mkdev(major, minor))); err != nil {
		return fmt.Errorf("make the device file %s: %w", path, err)
	}
	return unix.Chmod(path, 0o666)
}
