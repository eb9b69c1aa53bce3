package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Socket is how unix sockets are made.
type Socket struct {
	Mode fs.FileMode // permission bits
	GID  int         // -1: the group is left as it is
}

// TLS is the certificate of the TCP listeners. The paths are absolute.
type TLS struct {
	Cert, Key   string
	Certificate *tls.Certificate // what was in them; its Leaf is set
}

// Exposed reports whether anything beyond this machine can connect.
func (c *Config) Exposed() bool {
	return slices.ContainsFunc(c.Listen, func(a Address) bool { return !a.Local() })
}

const defaultSocketMode = 0o600

func (l *loader) checkSocket(s *settings, c *Config) error {
	c.Socket = Socket{Mode: defaultSocketMode, GID: -1}
	if s.Socket.Mode != "" {
		mode, err := strconv.ParseUint(string(s.Socket.Mode), 8, 16)
		if err != nil || mode&^0o666 != 0 || mode&0o600 != 0o600 {
			return l.fail("socket.mode", "%q: expected an octal mode with read and write for the owner and no other bits than read and write, such as \"0660\"", s.Socket.Mode)
		}
		c.Socket.Mode = fs.FileMode(mode)
	}
	if s.Socket.Group == "" {
		return nil
	}
	g, err := user.LookupGroup(s.Socket.Group)
	if err != nil {
		g, err = user.LookupGroupId(s.Socket.Group)
	}
	if err == nil {
		c.Socket.GID, err = strconv.Atoi(g.Gid)
	}
	if err != nil {
		return l.fail("socket.group", "%q: there is no such group; expected a name or number of /etc/group", s.Socket.Group)
	}
	return nil
}

// checkTLS reads the certificate, so that a mistake is found before anything
// listens, and a reload has it whole or not at all.
func (l *loader) checkTLS(s *settings, c *Config) error {
	cert, key := s.TLS.Cert, s.TLS.Key
	switch {
	case cert == "" && key == "":
		return nil
	case cert == "":
		return l.fail("tls.key", "is given without tls.cert; expected both, or none")
	case key == "":
		return l.fail("tls.cert", "is given without tls.key; expected both, or none")
	}
	certPEM, _, err := l.readPEM("tls.cert", &cert)
	if err != nil {
		return err
	}
	keyPEM, mode, err := l.readPEM("tls.key", &key)
	if err != nil {
		return err
	}
	// A group may read it: that is how Debian's ssl-cert gives keys to services.
	if mode.Perm()&0o007 != 0 {
		return l.fail("tls.key", "%s can be read by every user of this machine (mode %04o); run: chmod o= %s", key, mode.Perm(), key)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return l.fail("tls.cert", "%s with %s: %s; expected a PEM certificate chain and its PEM key", cert, key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	c.TLS = &TLS{Cert: cert, Key: key, Certificate: &pair}
	return nil
}

func (l *loader) readPEM(key string, path *string) ([]byte, fs.FileMode, error) {
	if strings.HasPrefix(*path, "~") {
		return nil, 0, l.fail(key, "%q: '~' means a home directory only to a shell; write the path out", *path)
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return nil, 0, l.fail(key, "%v", err)
	}
	*path = abs
	doc, mode, err := readRegular(abs)
	if err != nil {
		return nil, 0, l.fail(key, "%v; expected a PEM file", err)
	}
	return doc, mode, nil
}

// mostPEM bounds a certificate or key, in bytes.
const mostPEM = 1 << 20

func readRegular(path string) ([]byte, fs.FileMode, error) {
	info, err := os.Stat(path) // before it is opened: a fifo would make that wait
	if err != nil {
		return nil, 0, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, 0, fmt.Errorf("%s is no regular file", path)
	case info.Size() > mostPEM:
		return nil, 0, errors.New(path + " is larger than 1 MiB")
	}
	doc, err := os.ReadFile(path) //nolint:gosec // the operator names it, in the configuration
	return doc, info.Mode(), err
}
