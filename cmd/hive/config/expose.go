package config

import (
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rbeehive/hive/access"
	"rbeehive/hive/trust"
	"rbeehive/httpapi/client/unixsock"
	"rbeehive/store/plain"
)

// Socket is the control socket, and how unix sockets are made.
type Socket struct {
	Path string      // of the control socket, absolute; empty: in the data directory
	Mode fs.FileMode // permission bits
	GID  int         // -1: the group is left as it is
}

// ControlSocket is the path of the control socket, absolute.
func (c *Config) ControlSocket() string {
	if c.Socket.Path != "" {
		return c.Socket.Path
	}
	return unixsock.Control(c.DataDir)
}

// TLS is the certificate of the TCP listeners. The paths are absolute.
type TLS struct {
	Cert, Key   string
	Certificate *tls.Certificate // what was in them; its Leaf is set
}

// Exposed reports whether anything beyond this machine can connect.
func (c *Config) Exposed() bool {
	return slices.ContainsFunc(slices.Concat(c.Listen, c.Passed), func(a Address) bool { return !a.Local() })
}

// NeedsToken reports whether callers are expected that the connection does not identify:
// then there is a token file. The overflow uid identifies nobody, so a hive that runs as
// nobody has one for its own user.
func (c *Config) NeedsToken() bool {
	return c.Auth == access.ByToken || c.Auth != access.Anyone && (c.Exposed() || c.Access.OwnUID == access.OverflowID)
}

const defaultSocketMode = 0o600

func (l *loader) checkSocket(s *settings) {
	made := &s.Config.Socket
	*made = Socket{Mode: defaultSocketMode, GID: -1}
	if path := s.Socket.Path; path != "" {
		made.Path, _ = l.socketPath("socket.path", path, path)
	}
	if s.Socket.Mode != "" {
		mode, err := strconv.ParseUint(string(s.Socket.Mode), 8, 16)
		if err != nil || mode&^0o666 != 0 || mode&0o600 != 0o600 {
			l.fail("socket.mode", "%q: expected an octal mode with read and write for the owner and no other bits than read and write, such as \"0660\"", s.Socket.Mode)
		}
		made.Mode = fs.FileMode(mode)
	}
	if s.Socket.Group == "" {
		return
	}
	g, err := user.LookupGroup(s.Socket.Group)
	if err != nil {
		// The name first: a group may be called 1000.
		g, err = user.LookupGroupId(s.Socket.Group)
	}
	if err == nil {
		made.GID, err = strconv.Atoi(g.Gid)
	}
	if err != nil {
		l.fail("socket.group", "%q: no such group; expected a name or number of /etc/group", s.Socket.Group)
	}
}

// checkTLS reads the certificate, so that an error is found before anything listens, and a
// reload applies it completely or not at all.
func (l *loader) checkTLS(s *settings) {
	cert, key := s.TLS.Cert, s.TLS.Key
	switch {
	case cert == "" && key == "":
		return
	case cert == "":
		l.fail("tls.key", "is given without tls.cert; expected both, or none")
		return
	case key == "":
		l.fail("tls.cert", "is given without tls.key; expected both, or none")
		return
	}
	certPEM, _, ok := l.readPEM("tls.cert", &cert)
	if !ok {
		return
	}
	keyPEM, mode, ok := l.readPEM("tls.key", &key)
	if !ok {
		return
	}
	// A group may read it: that is how Debian's ssl-cert gives keys to services.
	if mode.Perm()&0o007 != 0 {
		l.fail("tls.key", "%s can be read by every user of this machine (mode %04o); run: chmod o= %s", key, mode.Perm(), key)
		return
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		l.fail("tls.cert", "%s with %s: %s; expected a PEM certificate chain and its PEM key", cert, key, strings.TrimPrefix(err.Error(), "tls: "))
		return
	}
	s.Config.TLS = &TLS{Cert: cert, Key: key, Certificate: &pair}
}

func (l *loader) readPEM(key string, path *string) (doc []byte, mode fs.FileMode, ok bool) {
	if why := plain.Home(*path); why != "" {
		l.fail(key, "%q %s", *path, why)
		return nil, 0, false
	}
	abs, err := filepath.Abs(*path)
	if err == nil {
		*path = abs
		doc, mode, err = readPEMFile(abs)
	}
	switch {
	case errors.Is(err, trust.ErrUntrusted):
		l.fail(key, "%v", err)
	case err != nil:
		l.fail(key, "%v; expected a PEM file", err)
	}
	return doc, mode, err == nil
}

func readPEMFile(path string) ([]byte, fs.FileMode, error) {
	f, err := trust.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	doc, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err == nil && len(doc) > maxFileSize {
		err = errors.New(path + " is larger than 1 MiB")
	}
	return doc, info.Mode(), err
}
