package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive/access"
)

// certify writes a self-signed certificate and its key.
func certify(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	rest, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rest}), 0o600))
	return cert, key
}

func TestAuthFollowsListen(t *testing.T) {
	for doc, want := range map[string]struct {
		auth           access.Mode
		exposed, token bool
	}{
		"":                                     {access.ByUser, false, false},
		"listen: unix:/run/h\n":                {access.ByUser, false, false},
		"listen: ['[::1]:1', '127.8.8.8:1']\n": {access.ByUser, false, false},
		"auth: token\n":                        {access.ByToken, false, true},
		"auth: users\n":                        {access.ByUser, false, false},
		"auth: none\n":                         {access.Anyone, false, false},
		"listen: 0.0.0.0:1\n":                  {access.ByUser, true, true},
		"listen: ['127.0.0.1:1', '10.0.0.1:1']\n": {access.ByUser, true, true},
		"listen: ':1'\n":                                 {access.ByUser, true, true},
		"listen: '[::]:1'\nauth: none\n":                 {access.Anyone, true, false},
		"listen: ['unix:/run/h', ':1']\nauth: token\n":   {access.ByToken, true, true},
		"listen: ['unix:/run/h', '127.0.0.1:1']\n":       {access.ByUser, false, false},
		"listen: '[fe80::1%lo]:1'\n":                     {access.ByUser, true, true},
		"listen: '[::ffff:127.0.0.1]:1'\n":               {access.ByUser, false, false},
		"listen: '[::ffff:10.0.0.1]:1'\nauth: 'token'\n": {access.ByToken, true, true},
	} {
		p := newPlace(t)
		p.write(t, "hive.yaml", doc)
		c, err := p.load(t)
		require.NoError(t, err, doc)
		require.Equal(t, want.auth, c.Auth, doc)
		require.Equal(t, want.exposed, c.Exposed(), doc)
		require.Equal(t, want.token, c.NeedsToken(), doc)
	}
}

func TestTLS(t *testing.T) {
	p := newPlace(t)
	certify(t, p.dir)
	p.write(t, "hive.yaml", "tls: {cert: cert.pem, key: key.pem}\n") // relative to the working directory
	c, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(p.dir, "cert.pem"), c.TLS.Cert)
	require.Equal(t, filepath.Join(p.dir, "key.pem"), c.TLS.Key)
	require.Equal(t, []string{"localhost"}, c.TLS.Certificate.Leaf.DNSNames)

	same, err := p.load(t)
	require.NoError(t, err)
	require.Empty(t, c.NeedStart(same))
	require.Empty(t, c.AppliedByDaemon(same))
	certify(t, p.dir)
	renewed, err := p.load(t)
	require.NoError(t, err)
	require.Empty(t, c.NeedStart(renewed))
	require.Equal(t, []string{"tls"}, c.AppliedByDaemon(renewed))

	p.write(t, "hive.yaml", "")
	without, err := p.load(t)
	require.NoError(t, err)
	require.Nil(t, without.TLS)
	require.Equal(t, []string{"tls"}, c.NeedStart(without))
	require.Equal(t, []string{"tls"}, without.NeedStart(c))
	require.Empty(t, c.AppliedByDaemon(without))
	require.Empty(t, without.AppliedByDaemon(c))
}

func TestMistakesInTLS(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, cert, key string)
		want  string
	}{
		"no certificate": {func(t *testing.T, cert, _ string) { require.NoError(t, os.Remove(cert)) }, "hive.yaml:1: tls.cert: open "},
		"no key":         {func(t *testing.T, _, key string) { require.NoError(t, os.Remove(key)) }, "hive.yaml:1: tls.key: open "},
		"no PEM": {
			func(t *testing.T, cert, _ string) { require.NoError(t, os.WriteFile(cert, []byte("x"), 0o600)) },
			"expected a PEM certificate chain and its PEM key",
		},
		"another's key": {func(t *testing.T, _, key string) {
			_, other := certify(t, t.TempDir())
			require.NoError(t, os.Rename(other, key))
		}, "private key does not match public key"},
		"swapped": {func(t *testing.T, cert, key string) {
			require.NoError(t, os.Rename(cert, cert+".old"))
			require.NoError(t, os.Rename(key, cert))
			require.NoError(t, os.Rename(cert+".old", key))
			require.NoError(t, os.Chmod(key, 0o600))
		}, "expected a PEM certificate chain and its PEM key"},
		"open key": {func(t *testing.T, _, key string) { require.NoError(t, os.Chmod(key, 0o644)) }, "can be read by every user of this machine (mode 0644); run: chmod o= "},
		"directory": {func(t *testing.T, cert, _ string) {
			require.NoError(t, os.Remove(cert))
			require.NoError(t, os.Mkdir(cert, 0o700))
		}, "is a directory, not a regular file; expected a PEM file"},
		"fifo": {func(t *testing.T, cert, _ string) {
			require.NoError(t, os.Remove(cert))
			require.NoError(t, syscall.Mkfifo(cert, 0o600))
		}, "is a fifo, not a regular file"},
		"too large": {func(t *testing.T, cert, _ string) { require.NoError(t, os.Truncate(cert, 1<<20+1)) }, "is larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			cert, key := certify(t, p.dir)
			p.write(t, "hive.yaml", "tls: {cert: "+cert+", key: "+key+"}\n")
			tc.spoil(t, cert, key)
			_, err := p.load(t)
			require.ErrorIs(t, err, config.ErrConfig)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "PRIVATE KEY-----")
		})
	}
	p := newPlace(t)
	_, key := certify(t, p.dir)
	require.NoError(t, os.Chmod(key, 0o640)) // Debian's group ssl-cert
	p.write(t, "hive.yaml", "tls: {cert: cert.pem, key: key.pem}\n")
	_, err := p.load(t)
	require.NoError(t, err)
}
