package command

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"rbeehive/httpapi/client"
)

// Bounds of files that are read, in bytes.
const (
	maxToken = 4096
	maxCA    = 4 << 20 // the system's own bundles have about 200 KiB
)

// token is what to send to the hive at addr: that of the file that was named, or
// the local hive's own. The latter goes to a loopback address and nowhere else: a
// wrong --addr must not hand the token of this machine to another one. Over a unix
// socket nobody asks for it.
func (a *app) token(addr string) (string, error) {
	path := a.tokenFile
	if path == "" {
		path = a.env.Getenv("HIVE_TOKEN_FILE")
	}
	if path != "" {
		f, err := os.Open(path) //nolint:gosec // who runs hivectl names it
		if err != nil {
			return "", usage("token file: "+err.Error(), "")
		}
		return readToken(f)
	}
	if path = a.ownToken(); path == "" || !loopback(addr) {
		return "", nil
	}
	f, err := os.Open(path) //nolint:gosec // who runs hivectl names it, or his state directory
	if err != nil {
		return "", nil // there is none, or it is another user's; the hive says whether it wants one
	}
	return readToken(f)
}

// readToken reads and closes a token file. It refuses one that others can read:
// what is in it may be known.
func readToken(f *os.File) (string, error) {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", usage("token file: "+err.Error(), "")
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return "", usage(fmt.Sprintf("token file %s is open to others (mode %04o)", f.Name(), mode.Perm()), "chmod 600 "+f.Name())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", usage("token file: "+err.Error(), "")
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usage("token file "+f.Name()+": want one token of printable characters", "")
	}
	return token, nil
}

// ownToken is where a hive that this user runs has its token; empty: there is no home.
func (a *app) ownToken() string {
	if dir := a.ownDataDir(); dir != "" {
		return filepath.Join(dir, "token")
	}
	return ""
}

// ownDataDir is the state directory of a hive that this user runs, as the daemon
// decides about data_dir when no file says otherwise; empty: there is no home.
func (a *app) ownDataDir() string {
	if dir := a.env.Getenv("HIVE_DATA_DIR"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/hive"
	}
	dir := a.env.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home := a.env.Getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "hive")
}

// loopback reports whether an address of a hive, empty for the default, is TCP to
// this machine.
func loopback(addr string) bool {
	if addr == "" {
		addr = client.DefaultAddr
	}
	if strings.HasPrefix(addr, "unix:") {
		return false
	}
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return false
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// roots reads the certificates to trust; nil: the system's.
func (a *app) roots() (*x509.CertPool, error) {
	path := a.caFile
	if path == "" {
		path = a.env.Getenv("HIVE_CA_FILE")
	}
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path) //nolint:gosec // who runs hivectl names it, or his state directory
	if err != nil {
		return nil, usage("CA file: "+err.Error(), "")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCA))
	if err != nil {
		return nil, usage("CA file: "+err.Error(), "")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, usage("CA file "+path+": want certificates in PEM", "")
	}
	return pool, nil
}
