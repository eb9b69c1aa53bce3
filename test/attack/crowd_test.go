//go:build linux

package attack_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// manners are ways to keep a connection occupied.
func manners() map[string]string {
	const to = " HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	return map[string]string{
		"with half a header":                            "GET /v1/workers" + to,
		"with half a body":                              "POST /v1/jobs" + to + "Content-Length: 1000\r\n\r\n{",
		"with a body that comes in chunks":              "POST /v1/jobs" + to + "Transfer-Encoding: chunked\r\n\r\n3\r\n{ \"\r\n",
		"with half a body for a page that is public":    "POST /health" + to + "Content-Length: 1000\r\n\r\n{",
		"with half a body behind a question for health": "GET /health" + to + "Content-Length: 1000\r\n\r\n{",
		"without reading the answers":                   strings.Repeat("GET /openapi.json"+to+"\r\n", 50),
		"without reading the answer over HTTP/2":        deafHTTP2,
		"after an answer that is public":                "GET /health" + to + "\r\n",
	}
}

// deafHTTP2 is what an HTTP/2 client sends that asks for /openapi.json and allows no
// data to be sent (RFC 9113, 3.4, 6.2, 6.5.2 and 6.9.2; RFC 7541, 6.1 and 6.2.2).
const deafHTTP2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
	"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "\x00\x04\x00\x00\x00\x00" + // SETTINGS: a window of 0
	"\x00\x00\x1c\x01\x05\x00\x00\x00\x01" + // HEADERS: all of stream 1
	"\x82\x87\x04\x0d/openapi.json\x01\x09127.0.0.1"

// crowd opens so many connections to hive, occupies each in the same manner, and opens
// it again when it was closed: `crowd MANNER CONNECTIONS`.
func crowd(args []string) int {
	request := manners()[args[0]]
	n, _ := strconv.Atoi(args[1])
	var tried atomic.Int64
	few := make(chan struct{}, 100) // at a time: all of them at once would drive each other out
	for range n {
		go func() {
			for first := true; ; first = false {
				few <- struct{}{}
				conn, err := take(request)
				<-few
				if first {
					fmt.Printf("tried %d.\n", tried.Add(1))
				}
				for err == nil && established(conn) {
					<-time.After(500 * time.Millisecond)
				}
				if conn != nil {
					conn.Close()
				}
				<-time.After(2 * time.Second)
			}
		}()
	}
	select {}
}

// take connects, with a window as small as can be, and sends.
func take(request string) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
	}}
	plain, err := d.Dial("tcp", api)
	if err != nil {
		return nil, err
	}
	conn := plain
	_ = plain.SetDeadline(time.Now().Add(5 * time.Second))
	if request == deafHTTP2 {
		conn = tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // a certificate that the test has made
	}
	_, err = conn.Write([]byte(request))
	return plain.(*net.TCPConn), err
}

// established reports whether the other end has not closed a connection.
func established(conn *net.TCPConn) (yes bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && info.State == unix.BPF_TCP_ESTABLISHED
	})
	return yes
}

// lockedOut is after which time a caller that is not answered counts as locked out: less than
// a connection of the crowd may be silent, more than a busy machine takes once in a while.
const lockedOut = 5 * time.Second

// Callers without rights cannot keep out those who have some, whatever they do with all
// the connections that they can get.
func TestACrowdWithoutALogin(t *testing.T) {
	if testing.Short() {
		t.Skip("long: asks 80 times against each of the crowds")
	}
	for manner, request := range manners() {
		t.Run("to lock root out "+manner, func(t *testing.T) {
			s := newSite(t, "")
			config := "listen: ['127.0.0.1:7835', 'unix:" + s.dir + "/hive.sock']\n"
			secure := request == deafHTTP2
			if secure {
				config += s.certificate()
			}
			s.write("hive.yaml", config)
			s.launch()
			question := get("/v1/workers").within(lockedOut)
			question.TLS = secure
			s.await("root is served", func() bool { return question.send().Status == 200 })
			c := s.stranger().start(s.stranger().command("crowd", manner, "2200"))
			// How long 2200 handshakes take is the machine's affair, as long as they go on.
			for tried := 100; tried <= 2200; tried += 100 {
				c.awaitLine(fmt.Sprintf("tried %d.", tried))
			}
			<-time.After(time.Second) // hive has read by now what they have sent
			begun := time.Now()
			for n := range 40 {
				r := question.send()
				require.Equal(t, 200, r.Status, "%d over TCP: %s", n, r)
				overSocket := get("/v1/workers").at(s.socket()).within(lockedOut)
				r = overSocket.send()
				require.Equal(t, 200, r.Status, "%d over the socket: %s", n, r)
			}
			// On average half a second each, for answers that take milliseconds: who waited for the
			// crowd would wait for seconds each time.
			require.Less(t, time.Since(begun), 40*time.Second)
		})
	}
}

// socket is the unix socket by which root reaches hive.
func (s *site) socket() string {
	if path := s.data + "/control.sock"; ownerOf(path) >= 0 {
		return path
	}
	return s.dir + "/hive.sock"
}

// certificate makes one for hive, and returns the settings that name it.
func (s *site) certificate() string {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(s, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(s, err)
	secret, err := x509.MarshalECPrivateKey(key)
	require.NoError(s, err)
	s.secret("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})))
	s.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	return "tls: {cert: " + s.dir + "/cert.pem, key: " + s.dir + "/key.pem}\n"
}
