package cli

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/client/unixsock"
)

// Bounds of files that are read, in bytes.
const (
	maxToken = 4096
	maxCA    = 4 << 20 // the system's own bundles have about 200 KiB
)

// ownAddrs is where a hive may be by default: the control socket of this user's own, then
// that of the machine's, then TCP.
func (a *App) ownAddrs() []string {
	var addrs []string
	if dir, err := filepath.Abs(a.ownDataDir()); err == nil && a.ownDataDir() != "" {
		addrs = append(addrs, "unix:"+unixsock.Control(dir))
	}
	return append(addrs, "unix:"+cmp.Or(a.Env.Socket, unixsock.System), cmp.Or(a.Env.Addr, client.DefaultAddr))
}

// setToken decides what to send to a hive: the token of the file that was named, or the
// local hive's own. The latter is for a loopback address and for nothing else: a wrong
// --addr must not send the token of this machine to another one.
func (a *App) setToken(opts *client.Options) error {
	path := a.tokenFile
	if path == "" {
		path = a.Env.Getenv("HIVE_TOKEN_FILE")
	}
	if path != "" {
		f, err := os.Open(path) //nolint:gosec // the user of hivectl names it
		if err != nil {
			// A token that somebody has named must be there. To go on without it would end in a
			// refusal that does not say why.
			return Usage("token file: "+err.Error(), "")
		}
		return readToken(f, opts)
	}
	if path = a.ownToken(); path == "" || !loopback(opts.Addr) {
		return nil
	}
	f, err := os.Open(path) //nolint:gosec // the user of hivectl names it, or the state directory
	if err != nil {
		return nil // there is none, or it is another user's; the hive says whether it needs one
	}
	// Nobody has asked for this one to be sent, so it stays where none is needed.
	opts.ImplicitToken = true
	return readToken(f, opts)
}

// readToken reads and closes a token file. It refuses one that others can read: its token
// may be known. A hive of the file's owner may get the token.
func readToken(f *os.File, opts *client.Options) error {
	defer f.Close()
	// Of the open file: by its name it could be another one by now.
	info, err := f.Stat()
	if err != nil {
		return Usage("token file: "+err.Error(), "")
	}
	// A pipe, as of --token-file <(pass hive), is its reader's alone, whatever its mode.
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return Usage(fmt.Sprintf("token file %s is open to others (mode %04o)", f.Name(), mode.Perm()), "chmod 600 "+f.Name())
	}
	// One byte more than a token may have, to tell a file that is cut off from one that fits.
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return Usage("token file: "+err.Error(), "")
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Usage("token file "+f.Name()+": want one token of printable characters", "")
	}
	opts.Token = token
	// The owner of the file knows the token already, so his hive cannot learn it.
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		opts.TokenUIDs = []uint32{st.Uid}
	}
	return nil
}

// ownToken is where a hive that this user runs has its token; empty: there is no home.
func (a *App) ownToken() string {
	if dir := a.ownDataDir(); dir != "" {
		return filepath.Join(dir, "token")
	}
	return ""
}

// ownDataDir is the state directory of a hive that this user runs, as the daemon
// decides about data_dir when no file says otherwise; empty: there is no home.
func (a *App) ownDataDir() string {
	if dir := a.Env.Getenv("HIVE_DATA_DIR"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/hive"
	}
	dir := a.Env.Getenv("XDG_STATE_HOME")
	// The XDG specification has relative paths ignored.
	if !filepath.IsAbs(dir) {
		home := a.Env.Getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "hive")
}

// StateDir is the state directory that is meant: the one that was given, else that of a
// hive that this user runs.
func (a *App) StateDir(dir string) (string, error) {
	if dir == "" {
		dir = a.ownDataDir()
	}
	if dir == "" {
		return "", Usage("neither XDG_STATE_HOME nor HOME is set", "give the state directory with --data-dir")
	}
	return filepath.Abs(dir)
}

// loopback reports whether an address of a hive, empty for ownAddrs, is TCP to this
// machine.
func loopback(addr string) bool {
	if addr == "" {
		return true
	}
	// There the kernel says who asks, and no token is needed.
	if strings.HasPrefix(addr, "unix:") {
		return false
	}
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	return err == nil && client.Loopback(u.Hostname())
}

// roots reads the certificates to trust; nil: the system's.
func (a *App) roots() (*x509.CertPool, error) {
	path := a.caFile
	if path == "" {
		path = a.Env.Getenv("HIVE_CA_FILE")
	}
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path) //nolint:gosec // the user of hivectl names it, or the state directory
	if err != nil {
		return nil, Usage("CA file: "+err.Error(), "")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCA))
	if err != nil {
		return nil, Usage("CA file: "+err.Error(), "")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, Usage("CA file "+path+": want certificates in PEM", "")
	}
	return pool, nil
}
