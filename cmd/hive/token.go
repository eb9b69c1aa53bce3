package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxTokenSize bounds the token file, in bytes. It is less than a header may have.
const maxTokenSize = 4096

// tokenPath is where the token of a hive is.
func tokenPath(dataDir string) string { return filepath.Join(dataDir, "token") }

// loadToken returns the token in a data directory; empty if there is none, unless create is
// set. Its errors never contain any of it.
func loadToken(dataDir string, create bool) (string, error) {
	path := tokenPath(dataDir)
	token, err := readToken(path)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return "", nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err := createToken(dataDir); err != nil {
			return "", fmt.Errorf("create a token: %w", err)
		}
		// Read and not returned by createToken: of two hives one has only found the other's.
		token, err = readToken(path)
	}
	return token, err
}

// readToken refuses a file that another user may have read, or written.
func readToken(path string) (string, error) {
	// Neither a link to somewhere nor a fifo, which would make the open wait.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator names it, or it is in the data directory
	if errors.Is(err, syscall.ELOOP) {
		return "", fmt.Errorf("the token %s is a symbolic link; expected a regular file: put the token there itself, or remove it, and hive creates a new one", path)
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if err := checkTokenFile(path, info); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokenSize+1))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	switch {
	case len(text) > maxTokenSize:
		return "", fmt.Errorf("the token %s has more than %d bytes; expected one line; remove it, and hive creates a new one", path, maxTokenSize)
	case token == "":
		return "", fmt.Errorf("the token %s is empty; remove it, and hive creates a new one", path)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("the token %s has other characters than printable ASCII without blanks, or several lines; remove it, and hive creates a new one", path)
	}
	return token, nil
}

func checkTokenFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the token %s is not a regular file; remove it, and hive creates a new one", path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the token %s belongs to the user with uid %d, and hive runs as %d; run: chown %d %s", path, st.Uid, os.Geteuid(), os.Geteuid(), path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("the token %s is open to others (mode %04o); run: chmod 600 %s (or remove it, if somebody may have read it, and hive creates a new one)", path, mode, path)
	}
	return nil
}

// createToken writes a new token: complete and durable, or not at all. It is linked into
// place, which never replaces: of two hives that start together on one directory both read
// the token of the first.
func createToken(dir string) error {
	f, err := os.CreateTemp(dir, ".token-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	// Twice 130 bits, in letters and digits that need no quotes anywhere.
	if _, err := f.WriteString(rand.Text() + rand.Text() + "\n"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	err = os.Link(f.Name(), tokenPath(dir))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(f.Name(), tokenPath(dir)) // a file system without hard links
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// The name has to be durable too, or the token would be another one after a power failure.
	d, err := os.Open(dir) //nolint:gosec // the directory of the token
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
