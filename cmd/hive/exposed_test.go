package main_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// overSocket is a client of a unix socket; the URL is http://localhost.
func overSocket(path string) *http.Client {
	return &http.Client{Timeout: testTimeout, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
}

// ask sends a GET with a token, if it is not empty.
func ask(t *testing.T, c *http.Client, url, token string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

// A hive that others can reach still knows who calls from this machine; whom it does
// not know, as behind a proxy, gives the token that it has made without being asked.
func TestExposedHiveKnowsItsOwnUser(t *testing.T) {
	s := newSite(t, "listen: '0.0.0.0:0'\n")
	p := s.start(t)
	resp, _ := ask(t, client(), p.url+"/v1/hive", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	for token, want := range map[string]int{"": 401, readFile(t, filepath.Join(s.dir, "state", "token")): 200} {
		req, err := http.NewRequest(http.MethodGet, p.url+"/v1/hive", nil)
		require.NoError(t, err)
		req.Header.Set("X-Forwarded-For", "192.0.2.7")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client().Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode)
	}
	p.signal(syscall.SIGTERM)
	p.end()
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

// The whole way of a hive that wants a token over TCP whoever calls, and tells nobody.
func TestExposedHiveWantsItsToken(t *testing.T) {
	path := filepath.Join(shortDir(t), "hive.sock")
	s := newSite(t, "auth: token\nlisten: ['0.0.0.0:0', 'unix:"+path+"']\nsocket: {mode: '0660'}\n")
	p := s.start(t, "--log-level", "trace")
	require.Regexp(t, `^http://127\.0\.0\.1:\d+$`, p.url)
	banner := strings.Join(p.banner, "\n")
	require.Regexp(t, `listen    0\.0\.0\.0:\d+, unix:`+path+"\n", banner)
	file := filepath.Join(s.dir, "state", "token")
	require.Contains(t, banner, "token     in "+file+"\n")
	require.Contains(t, banner, "hivectl --addr unix:"+filepath.Join(s.dir, "state", "control.sock")+" up cpu")
	p.logs("cross the network in clear text")

	require.Equal(t, os.FileMode(0o600), mode(t, file))
	require.Equal(t, os.FileMode(0o700), mode(t, filepath.Join(s.dir, "state")))
	require.Equal(t, os.FileMode(0o660), mode(t, path))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	token := strings.TrimSpace(string(text))

	resp, _ := ask(t, client(), p.url+"/health", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	for _, wrong := range []string{"", "x", token[1:], token + "x", strings.ToLower(token)} {
		resp, body := ask(t, client(), p.url+"/v1/hive", wrong)
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
		require.Equal(t, "Bearer", resp.Header.Get("WWW-Authenticate"))
		require.Contains(t, body, `"code":"unauthorized"`)
		require.Contains(t, body, file)
		require.NotContains(t, body, token)
	}
	resp, _ = ask(t, client(), p.url+"/v1/hive?token="+token+"&access_token="+token, "")
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode, "a URL ends up in logs")
	resp, _ = ask(t, client(), p.url+"/v1/hive", token)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	resp, _ = ask(t, overSocket(path), "http://localhost/v1/hive", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	w := spawnOver(t, overSocket(path))
	require.True(t, w.answers())

	p.signal(syscall.SIGINT)
	p.signal(syscall.SIGINT)
	code, said := p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.NoFileExists(t, path)
	printed := banner + strings.Join(said, "\n") + p.stderr.String()
	require.NotContains(t, printed, token[:16])
	onlyIn(t, s.dir, file, token[:16])

	p = s.start(t)
	resp, _ = ask(t, client(), p.url+"/v1/hive", token)
	require.Equal(t, http.StatusOK, resp.StatusCode, "a start keeps the token")
	p.signal(syscall.SIGTERM)
	p.end()
}

func spawnOver(t *testing.T, c *http.Client) (w spawned) {
	t.Helper()
	resp, err := c.Post("http://localhost/v1/jobs?wait=20s", "", strings.NewReader(spawnCPU))
	require.NoError(t, err)
	defer resp.Body.Close()
	job := struct{ Result *spawned }{&w}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&job))
	require.NotZero(t, w.PID)
	t.Cleanup(func() { _ = syscall.Kill(w.PID, syscall.SIGKILL) }) // mostly gone already
	return w
}

// onlyIn looks for a text in all files of dir: it may be in one and must be there.
func onlyIn(t *testing.T, dir, file, text string) {
	t.Helper()
	found := []string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		doc, err := os.ReadFile(path) //nolint:gosec // nobody changes the tree of a test
		if err == nil && strings.Contains(string(doc), text) {
			found = append(found, path)
		}
		return err
	}))
	require.Equal(t, []string{file}, found)
}

func TestExposedWithoutATokenIsWarnedOf(t *testing.T) {
	s := newSite(t, "listen: '0.0.0.0:0'\nauth: none\n")
	p := s.start(t)
	p.logs("auth is none: everybody who can reach these addresses")
	code, _, err := get(p.url + "/v1/hive")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.NoFileExists(t, filepath.Join(s.dir, "state", "token"))
	p.signal(syscall.SIGTERM)
	p.end()
}

// A token that others may have read stops the start, and everything is let go of.
func TestOpenTokenIsRefused(t *testing.T) {
	path := filepath.Join(shortDir(t), "hive.sock")
	s := newSite(t, "listen: ['127.0.0.1:0', 'unix:"+path+"']\nauth: token\n")
	file := filepath.Join(s.dir, "state", "token")
	require.NoError(t, os.Mkdir(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, []byte("s3cret-token\n"), 0o600))
	require.NoError(t, os.Chmod(file, 0o644))
	code, stdout, stderr := s.command(t)
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Equal(t, "hive: the token "+file+" is open to others (mode 0644); run: chmod 600 "+file+" (or remove it, if somebody may have read it, and hive creates a new one)\n", stderr)
	require.NoFileExists(t, path)
	require.NoFileExists(t, filepath.Join(s.dir, "state", "hive.db"))
}

// Only a socket: workers and people are told where it is.
func TestSocketOnly(t *testing.T) {
	s := newSite(t, "")
	path := filepath.Join(shortDir(t), "hive.sock")
	s.env = append(s.env, "HIVE_PORT=", "HIVE_LISTEN=unix:"+path)
	p := s.start(t)
	require.Equal(t, "unix:"+path, p.url)
	require.Equal(t, os.FileMode(0o600), mode(t, path))
	resp, body := ask(t, overSocket(path), "http://localhost/v1/hive", "")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)

	code, _, stderr := s.command(t, "--data-dir", filepath.Join(s.dir, "other"))
	require.Equal(t, 1, code)
	require.Regexp(t, `^hive: unix:\S+ is held by process \d+ \(\S+\); stop it, or choose another path with --listen\n$`, stderr)

	p.signal(syscall.SIGKILL)
	p.end()
	require.FileExists(t, path, "what a kill leaves")
	p = s.start(t)
	p.signal(syscall.SIGTERM)
	code, _ = p.end()
	require.Equal(t, 0, code)
	require.NoFileExists(t, path)
}

// certify writes a certificate for 127.0.0.1 that is its own authority, and
// returns a client that trusts it alone.
func (s *site) certify(t *testing.T) *http.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"gpubox.lan"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "cert.pem"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(cert))
	return &http.Client{Timeout: testTimeout, Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool},
	}}
}

func TestTLSAndItsRenewal(t *testing.T) {
	s := newSite(t, "tls: {cert: cert.pem, key: key.pem}\nworkers: [{name: tell, command: [sh, -c, 'echo at {{.HiveURL}}']}]\n")
	first := s.certify(t)
	p := s.start(t)
	require.Regexp(t, `^https://127\.0\.0\.1:\d+$`, p.url)
	resp, body := ask(t, first, p.url+"/v1/hive", "")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	require.Equal(t, 2, resp.ProtoMajor)
	resp, err := first.Post(p.url+"/v1/jobs?wait=20s", "", strings.NewReader(`{"operation": "worker_spawn", "worker": "tell"}`))
	require.NoError(t, err)
	failed, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, string(failed), "at "+p.url, "the last lines of its log")

	old := &tls.Config{RootCAs: first.Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // it is to be refused
	_, err = tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), old)
	require.ErrorContains(t, err, "protocol version")

	// A broken one: the reload fails, and the old one stays.
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "cert.pem"), []byte("broken"), 0o600))
	p.sighup("SIGHUP: reload failed, nothing was changed")
	p.logs("expected a PEM certificate chain and its PEM key")
	resp, _ = ask(t, first, p.url+"/v1/hive", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)

	second := s.certify(t)
	p.sighup("applied=\"[tls]\"")
	resp, _ = ask(t, second, p.url+"/v1/hive", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	_, err = first.Get(p.url + "/v1/hive")
	require.ErrorContains(t, err, "certificate")

	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code, p.stderr.String())
}

func TestAdvertise(t *testing.T) {
	s := newSite(t, "advertise: http://gpubox.lan:7999/\n")
	p := s.start(t)
	require.Equal(t, "http://gpubox.lan:7999", p.url)
	require.Regexp(t, `^listen    127\.0\.0\.1:\d+$`, p.banner[1])
	addr := strings.TrimSpace(strings.TrimPrefix(p.banner[1], "listen"))
	for host, want := range map[string]int{"gpubox.lan:7999": http.StatusOK, "evil.example": http.StatusForbidden} {
		req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/v1/hive", nil)
		require.NoError(t, err)
		req.Host = host
		resp, err := client().Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode, host)
	}
	p.signal(syscall.SIGTERM)
	p.end()
}
